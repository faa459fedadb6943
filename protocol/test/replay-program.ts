/** The little programs of `vectors/replay.json` (described in `vectors/README.md`), and how they run. */
import type { Json, Match, NewEvent, WireError } from '../src/index.ts'

export type Program = Statement[]

export type Statement = { as?: string } & (
  | { run: string; gives?: Json; throws?: WireError; attempts?: number }
  | { sleep: string; ms?: number; until?: string }
  | { wait: string; event: string; match?: Match; timeoutMs?: number }
  | { send: string; events: NewEvent[] }
  | { parallel: Program[] }
  | { race: Program[] }
  | { repeat: number; do: Program }
  | { try: Program; catch: Program }
  | { throw: { message: string } }
  | { return: Json }
)

export type RunStatement = Extract<Statement, { run: string }>
export type AskStatement = Extract<Statement, { run: string } | { sleep: string } | { wait: string } | { send: string }>

/** What a program asks of the outside: one op under the id of its statement. */
export type Asker = (id: string, statement: AskStatement) => Promise<unknown>

/** The handler returned; thrown, so that it leaves loops and branches. */
class Returned {
  readonly value: unknown
  constructor(value: unknown) {
    this.value = value
  }
}

/** Runs a whole program as a handler. `event` is bound to `$event`. */
export async function runProgram(program: Program, event: unknown, ask: Asker): Promise<unknown> {
  try {
    await runAll(program, new Map([['event', event]]), ask)
    return undefined
  } catch (thrown) {
    if (thrown instanceof Returned) return thrown.value
    throw thrown
  }
}

/** The value of a list of statements is that of the last one. */
async function runAll(program: Program, names: Map<string, unknown>, ask: Asker): Promise<unknown> {
  let value: unknown
  for (const statement of program) {
    value = await runStatement(statement, names, ask)
    if (statement.as !== undefined) names.set(statement.as, value)
  }
  return value
}

async function runStatement(statement: Statement, names: Map<string, unknown>, ask: Asker): Promise<unknown> {
  const runBranch = (branch: Program) => runAll(branch, names, ask)
  if ('run' in statement) return ask(statement.run, statement)
  if ('sleep' in statement) return ask(statement.sleep, statement)
  if ('wait' in statement) return ask(statement.wait, statement)
  if ('send' in statement) return ask(statement.send, statement)
  if ('parallel' in statement) return Promise.all(statement.parallel.map(runBranch))
  if ('race' in statement) return Promise.race(statement.race.map(runBranch))
  if ('return' in statement) throw new Returned(fill(statement.return, names))
  if ('throw' in statement) throw new Error(statement.throw.message)
  if ('try' in statement) {
    try {
      return await runBranch(statement.try)
    } catch (thrown) {
      if (thrown instanceof Returned) throw thrown
      names.set('error', thrown)
      return runBranch(statement.catch)
    }
  }
  for (let round = 0; round < statement.repeat; round += 1) await runBranch(statement.do)
  return undefined
}

/** Replaces texts such as `$name` and `$name.member` by values. */
function fill(template: Json, names: Map<string, unknown>): unknown {
  if (Array.isArray(template)) return template.map(item => fill(item, names))
  if (typeof template === 'object' && template !== null) {
    return Object.fromEntries(Object.entries(template).map(([member, item]) => [member, fill(item, names)]))
  }
  if (typeof template !== 'string' || !template.startsWith('$')) return template
  const [name = '', ...members] = template.slice(1).split('.')
  return members.reduce((value, member) => (value as Record<string, unknown>)[member], names.get(name))
}
