/*
 * `stepwell COMMAND`: finds the command, checks its flags, runs it, and turns what comes of it into an exit code.
 * 0 ok (also after an orderly stop by SIGINT or SIGTERM), 1 failed, 2 usage, 130 cut short by a second signal.
 */
import { readFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import { type ArgsDef, parseArgs, renderUsage } from 'citty'
import { VARIABLES, type Variable } from '../config.ts'
import { EngineError } from '../core/errors.ts'
import { nearestName } from '../core/nearest-name.ts'
import { EmbeddedPostgresError } from '../embedded/error.ts'
import { COMMANDS, type Command, type GivenFlags } from './commands.ts'
import { explainDatabase } from './database-url.ts'
import { createTerminal, type Terminal } from './terminal.ts'
import { EXIT, type World } from './world.ts'

/** Runs one command. Resolves with the exit code and never rejects. */
export async function runCli(world: World): Promise<number> {
  const terminal = createTerminal(world)
  const [name, ...rest] = world.args
  if (name === '--version' || name === 'version') {
    terminal.say(version())
    return EXIT.ok
  }
  const isHelp = name === undefined || name === 'help' || name === '--help' || name === '-h'
  const command = Object.hasOwn(COMMANDS, name ?? '') ? COMMANDS[name ?? ''] : undefined
  if (isHelp || command === undefined) {
    if (!isHelp) {
      terminal.warn(
        `There is no command "${name}".${didYouMean(name, Object.keys(COMMANDS))} "stepwell --help" lists them.`,
      )
      return EXIT.usage
    }
    await showHelp(terminal)
    return EXIT.ok
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    await showCommandHelp(terminal, name ?? '', command)
    return EXIT.ok
  }
  const given = readFlags(terminal, name ?? '', command, rest)
  if (given === null) return EXIT.usage
  try {
    return await command.run(world, given)
  } catch (error) {
    // dev has a database of its own, whatever the environment names.
    terminal.warn(explain(error, name === 'dev' ? {} : world.env))
    return EXIT.failed
  }
}

/** The flags that were given, or null after saying what is wrong with them. */
function readFlags(terminal: Terminal, name: string, command: Command, rest: string[]): GivenFlags | null {
  const known = namesOf(command.flags)
  const { _: words, ...given } = parseArgs(rest, command.flags)
  const problems = Object.keys(given)
    .filter(flag => !known.includes(flag))
    .map(flag => `There is no flag --${flag}.${didYouMean(flag, Object.keys(command.flags), '--')}`)
  const [word] = words
  if (word !== undefined) problems.push(`"stepwell ${name}" takes no words, only flags; "${word}" is one.`)
  for (const [flag, { type }] of Object.entries(command.flags))
    if (type === 'string' && given[flag] === '') problems.push(`--${flag} needs a value.`)
  if (problems.length === 0) return given as GivenFlags
  for (const problem of problems) terminal.warn(problem)
  terminal.warn(`"stepwell ${name} --help" shows how it is used.`)
  return null
}

/** A flag's name, its one-letter form, and the spelling that the parser adds. */
function namesOf(flags: ArgsDef): string[] {
  return Object.entries(flags).flatMap(([flag, definition]) => [
    flag,
    flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase()),
    ...('alias' in definition ? [definition.alias ?? []].flat() : []),
  ])
}

function didYouMean(word: string | undefined, names: string[], prefix = ''): string {
  const nearest = nearestName(word ?? '', names)
  return nearest === null ? '' : ` Did you mean "${prefix}${nearest}"?`
}

async function showHelp(terminal: Terminal): Promise<void> {
  const { say, colors } = terminal
  say('Stepwell: durable functions on one Postgres.')
  say()
  for (const [name, { description }] of Object.entries(COMMANDS))
    say(`  ${colors.cyan(`stepwell ${name}`.padEnd(17))} ${description}`)
  say()
  say('Examples')
  for (const { examples } of Object.values(COMMANDS)) say(`  ${examples[0]}`)
  say()
  say('Environment')
  const variables: Variable[] = Object.values(VARIABLES)
  for (const { name, otherwise, unit, what, default: preset } of variables) {
    say(`  ${colors.cyan(name)}  ${unit}${preset === null ? '' : ` (${preset})`}`)
    say(`      ${what}${otherwise === undefined ? '' : ` Otherwise ${otherwise}.`}`)
  }
  say()
  say('"stepwell COMMAND --help" shows the flags of a command.')
}

async function showCommandHelp(terminal: Terminal, name: string, command: Command): Promise<void> {
  const meta = { name: `stepwell ${name}`, description: command.description }
  const usage = await renderUsage({ meta, args: command.flags })
  terminal.say(terminal.colors.isColorSupported ? usage : stripVTControlCharacters(usage))
  terminal.say('Examples')
  for (const example of command.examples) terminal.say(`  ${example}`)
  for (const line of command.notes ?? []) terminal.say(line)
}

/** A sentence for what we know; the stack for what is a bug. */
function explain(error: unknown, env: World['env']): string {
  const aboutDatabase = explainDatabase(error, env)
  if (aboutDatabase !== null) return aboutDatabase
  if (!(error instanceof Error)) return String(error)
  // Ours say what to do. Those of the file system name the file. Other classes are thrown by the language or a library.
  const isSentence =
    error instanceof EmbeddedPostgresError ||
    error instanceof EngineError ||
    error.constructor === Error ||
    'path' in error
  return isSentence ? error.message : (error.stack ?? error.message)
}

function version(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return manifest.version
}
