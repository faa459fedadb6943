/** The little programs of `vectors/replay.json` (described in `vectors/README.md`), and how they run. */
import type { Json, Match, NewEvent, WireError } from '../src/index.ts'

export type Program = Statement[]

export type Statement = { as?: string } & (
  | { run: string; gives?: Json; throws?: WireError; attempts?: number; undo?: Undo }
  | { sleep: string; ms?: number; until?: string }
  | { wait: string; event: string; match?: Match; timeoutMs?: number }
  | { send: string; events: NewEvent[] }
  | { receive: string; signal: string; timeoutMs?: number }
  | InvokeStatement
  | { continue_as_new: Json }
  | { status: Json }
  | { tags: { [name: string]: string | null } }
  | { parallel: Program[] }
  | { race: Program[] }
  | { repeat: number; do: Program }
  | { try: Program; catch: Program }
  | { throw: { message: string } }
  | { return: Json }
)

/** The undo of a step: it gives what the step gave, or throws. */
export type Undo = true | { throws: WireError }

interface InvokeStatement {
  invoke: string
  function: string
  data?: Json
  timeoutMs?: number
  onCancel?: 'cancel' | 'abandon'
  detached?: true
}

export type RunStatement = Extract<Statement, { run: string }>
export type AskStatement = Extract<
  Statement,
  { run: string } | { sleep: string } | { wait: string } | { send: string } | { receive: string } | { invoke: string }
>

/** What a program needs of the outside. */
export interface Outside {
  /** One op under the id of its statement. */
  ask: (id: string, statement: AskStatement) => Promise<unknown>
  setStatus: (status: Json) => void
  /** Adds tags; null takes one away. */
  setTags: (tags: { [name: string]: string | null }) => void
  /** Ends the generation: nothing after it is reached. */
  continueAsNew: (input: Json) => Promise<never>
}

/** The handler returned; thrown, so that it leaves loops and branches. */
class Returned {
  readonly value: unknown
  constructor(value: unknown) {
    this.value = value
  }
}

/** Runs a whole program as a handler. `event` is bound to `$event`. */
export async function runProgram(program: Program, event: unknown, outside: Outside): Promise<unknown> {
  try {
    await runAll(program, new Map([['event', event]]), outside)
    return undefined
  } catch (thrown) {
    if (thrown instanceof Returned) return thrown.value
    throw thrown
  }
}

/** The value of a list of statements is that of the last one. */
async function runAll(program: Program, names: Map<string, unknown>, outside: Outside): Promise<unknown> {
  let value: unknown
  for (const statement of program) {
    value = await runStatement(statement, names, outside)
    if (statement.as !== undefined) names.set(statement.as, value)
  }
  return value
}

async function runStatement(statement: Statement, names: Map<string, unknown>, outside: Outside): Promise<unknown> {
  const runBranch = (branch: Program) => runAll(branch, names, outside)
  if ('run' in statement) return outside.ask(statement.run, statement)
  if ('sleep' in statement) return outside.ask(statement.sleep, statement)
  if ('wait' in statement) return outside.ask(statement.wait, statement)
  if ('send' in statement) return outside.ask(statement.send, statement)
  if ('receive' in statement) return outside.ask(statement.receive, statement)
  if ('invoke' in statement) return outside.ask(statement.invoke, statement)
  // What is filled in is JSON: programs have nothing else.
  if ('continue_as_new' in statement) return outside.continueAsNew(fill(statement.continue_as_new, names) as Json)
  if ('status' in statement) return outside.setStatus(fill(statement.status, names) as Json)
  if ('tags' in statement) return outside.setTags(statement.tags)
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
