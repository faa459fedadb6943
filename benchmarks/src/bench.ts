/*
 * The command: `npx pnpm bench`. Not a test: print, compare, decide. Each benchmark is a folder of its own, loaded when it
 * is asked for.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const PUBLISHED = fileURLToPath(new URL('../../docs/performance/side-by-side.svg', import.meta.url))

const HELP = `Usage: npx pnpm bench [options]      Stepwell and its peers, side by side
       npx pnpm bench scale [...]     with up to a million other runs
       npx pnpm bench micro [...]     the parts of the hot path, apart
       npx pnpm bench sizing [...]    the calculator, and its check

Options of the side by side:
  --quick            one round of less, under a minute
  --rounds <n>       how many rounds (full: 3, quick: 1)
  --peers <names>    which peers, separated by commas (restate,dbos,openworkflow), or none
  --out <file>       writes the JSON there too; it is always in benchmarks/results/latest.json
  --svg <file>       draws the picture
  --publish          draws it to docs/performance/side-by-side.svg

STEPWELL_BENCH_PROFILE=<folder> writes CPU profiles of the engine and of the apps.`

const INTERRUPTED = 130

class UsageError extends Error {}

// Exit handlers run at an exit only, and they stop what was started.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => process.exit(INTERRUPTED))

try {
  await runCommand(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(`${error.message}\n\n${HELP}`)
  process.exitCode = 2
}

async function runCommand(args: string[]): Promise<void> {
  const [command = '', ...rest] = args
  if (['help', '--help', '-h'].includes(command)) return console.log(HELP)
  switch (command) {
    case 'scale':
      return (await import('./scale/scale.ts')).runScale(rest)
    case 'micro':
      return (await import('./micro/micro.ts')).runMicro(rest)
    case 'sizing':
      return (await import('./sizing/sizing.ts')).runSizing(rest)
  }
  if (command !== '' && !command.startsWith('-')) throw new UsageError(`There is no benchmark "${command}".`)
  const { PEERS } = await import('./side-by-side/system.ts')
  const { runSideBySide } = await import('./side-by-side/side-by-side.ts')
  const given = parse(args)
  await runSideBySide({
    isQuick: given.quick === true,
    rounds: given.rounds === undefined ? null : wholeNumber(given.rounds),
    peers: given.peers === undefined ? Object.keys(PEERS) : peersNamed(given.peers, Object.keys(PEERS)),
    jsonFile: given.out ?? null,
    svgFile: given.svg ?? (given.publish === true ? PUBLISHED : null),
  })
}

function parse(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        quick: { type: 'boolean' },
        rounds: { type: 'string' },
        peers: { type: 'string' },
        out: { type: 'string' },
        svg: { type: 'string' },
        publish: { type: 'boolean' },
      },
    })
    return values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new UsageError(`--rounds is "${text}"; give a whole number from 1.`)
  return Number(text)
}

function peersNamed(text: string, known: readonly string[]): string[] {
  if (text === 'none') return []
  return text.split(',').map(name => {
    const found = known.find(peer => peer.toLowerCase() === name.trim().toLowerCase())
    if (found === undefined) throw new UsageError(`There is no peer "${name}"; there are ${known.join(', ')}.`)
    return found
  })
}
