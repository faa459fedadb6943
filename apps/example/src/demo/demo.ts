/**
 * `npx pnpm demo`: the main job on real input, with kills. Everything it makes is in .demo/ of the checkout, or in
 * --folder, and is gone at the end unless --keep is given. Ends with 0 when all that it promises has been seen, with 1
 * when not.
 */
import { mkdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import colors from 'picocolors'
import type { Child } from './child.ts'
import { findFreePorts } from './free-ports.ts'
import { findStarted, isOurs, killStarted, noteStarted, removeFolder, type Started, stopPostgres } from './leftovers.ts'
import { createNarrator } from './narrator.ts'
import { APP_MAIN, DEMO_FOLDER, ENGINE_MAIN, ROOT } from './places.ts'
import { watchRuns } from './run-watcher.ts'
import { createStack } from './stack.ts'
import { tellStory } from './story.ts'

const HOOK_SECRET = 'the-secret-of-the-webhook'
const DEMO_MAIN = 'apps/example/src/demo/demo.ts'
const EXIT = { ok: 0, failed: 1, interrupted: 130 } as const

const options = readOptions()
const folder = options.folder === undefined ? DEMO_FOLDER : resolve(options.folder)
const home = join(folder, 'home')
const started: Started[] = [{ pid: process.pid, command: DEMO_MAIN }]
const children: Child[] = []
const narrator = createNarrator({ write: text => void process.stdout.write(text), nowMs: () => performance.now() })

process.exitCode = await run()

function readOptions(): { keep?: boolean; folder?: string } {
  try {
    return parseArgs({ options: { keep: { type: 'boolean' }, folder: { type: 'string' } } }).values
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exit(EXIT.failed)
  }
}

async function run(): Promise<number> {
  const other = findStarted(folder).find(({ command }) => command === DEMO_MAIN)
  if (other !== undefined) {
    console.error(`Another demo is running in ${folder} (process ${other.pid}). Wait for it, or stop it.`)
    return EXIT.failed
  }
  if (!isOurs(folder)) {
    console.error(`${folder} is not empty and was not made by the demo. Choose another --folder.`)
    return EXIT.failed
  }
  await clearLastDemo()
  mkdirSync(folder, { recursive: true })
  noteStarted(folder, started)
  return await play()
}

async function play(): Promise<number> {
  const [enginePort = 0, appPort = 0] = await findFreePorts(2)
  const stack = createStack({
    logFolder: folder,
    enginePort,
    appPort,
    home,
    ledgerPath: join(folder, 'ledger.jsonl'),
    appEnv: {
      GATEKEEPER_HOOK_SECRET: HOOK_SECRET,
      GATEKEEPER_REVIEW_TIMEOUT: '15s',
      GATEKEEPER_COOLDOWN: '2s',
      GATEKEEPER_APPROVAL_TIMEOUT: '30s',
      GATEKEEPER_ANSWER_AFTER_MS: '800',
    },
    onStart(child) {
      children.push(child)
      started.push({ pid: child.pid, command: child.name === 'engine' ? ENGINE_MAIN : APP_MAIN })
      noteStarted(folder, started)
    },
  })
  const watcher = watchRuns({
    engineUrl: stack.engineUrl,
    tell: (who, { text, tone }) => narrator.tell(who, text, tone),
  })
  narrator.print(`${colors.bold('Stepwell')}: functions that survive kill -9. All of it happens in ${shown()}.`)

  const interrupted = new Promise<'interrupted'>(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve('interrupted'))
  })
  const defect = new Promise<{ error: unknown }>(resolve => {
    // A defect of the demo itself must not keep it from tidying up.
    for (const name of ['uncaughtException', 'unhandledRejection']) process.on(name, error => resolve({ error }))
  })
  const story = tellStory({ stack, narrator, watcher, hookSecret: HOOK_SECRET }).then(
    () => 'told' as const,
    (error: unknown) => ({ error }),
  )
  const end = await Promise.race([story, interrupted, defect])
  // After an interruption the story still runs into stopped processes: nobody wants to read about that.
  narrator.hush()
  await watcher.stop()
  await stack.stop()
  if (end === 'told') {
    const what = options.keep ? `The ledger and the logs are in ${shown()}.` : `${shown()} is removed.`
    console.log(colors.dim(`\n   Everything is stopped. ${what}`))
  } else if (end === 'interrupted') {
    console.error('\nInterrupted. Everything is stopped.')
  } else {
    explain(end.error)
  }
  if (!options.keep) removeFolder(folder)
  return end === 'told' ? EXIT.ok : end === 'interrupted' ? EXIT.interrupted : EXIT.failed
}

function explain(error: unknown): void {
  console.error(colors.red(`\nThe demo failed. ${error instanceof Error ? error.message : String(error)}`))
  for (const name of ['engine', 'app']) {
    const child = children.findLast(candidate => candidate.name === name)
    if (child !== undefined) console.error(`\nThe end of the ${name}'s log:\n${child.logTail()}`)
  }
}

/** A demo that was killed could not tidy up. */
async function clearLastDemo(): Promise<void> {
  await killStarted(findStarted(folder))
  await stopPostgres(join(home, 'pgdata'))
  removeFolder(folder)
}

function shown(): string {
  return folder === DEMO_FOLDER ? relative(ROOT, folder) : folder
}
