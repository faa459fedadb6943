/** The little programs of `vectors/replay.json`, as handlers. The README beside the vectors describes them. */
import type { Json, Match, NewEvent } from '@stepwell/protocol'
import type { HandlerContext, Step, TypedEvent, UntypedEvents } from '../src/index.ts'

export type Program = Statement[]

type Statement = { as?: string } & (
  | { run: string; gives?: Json; throws?: { name: string; message: string }; attempts?: number }
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

/** Thrown, so that it leaves loops and branches. */
class Returned {
  readonly value: unknown
  constructor(value: unknown) {
    this.value = value
  }
}

/** A handler that executes a program. */
export function toHandler(program: Program) {
  return async ({ event, step }: HandlerContext<TypedEvent<UntypedEvents>>): Promise<unknown> => {
    try {
      await runAll(program, new Map<string, unknown>([['event', event]]), step)
    } catch (thrown) {
      if (thrown instanceof Returned) return thrown.value
      throw thrown
    }
  }
}

async function runAll(program: Program, names: Map<string, unknown>, step: Step): Promise<unknown> {
  let value: unknown
  for (const statement of program) {
    value = await runStatement(statement, names, step)
    if (statement.as !== undefined) names.set(statement.as, value)
  }
  return value
}

async function runStatement(statement: Statement, names: Map<string, unknown>, step: Step): Promise<unknown> {
  const runBranch = (branch: Program) => runAll(branch, names, step)
  if ('run' in statement) return runStep(statement, step)
  if ('sleep' in statement) {
    if (statement.until !== undefined) return step.sleepUntil(statement.sleep, statement.until)
    return step.sleep(statement.sleep, statement.ms ?? 0)
  }
  if ('wait' in statement) {
    const { wait, event, match, timeoutMs } = statement
    return step.waitForEvent(wait, { event, ...(match && { match }), ...(timeoutMs && { timeout: timeoutMs }) })
  }
  if ('send' in statement) return step.sendEvent(statement.send, statement.events)
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
}

function runStep(statement: Extract<Statement, { run: string }>, step: Step): Promise<unknown> {
  const { run, gives, throws, attempts } = statement
  const body = () => {
    if (gives === 'this body must not run') throw new Error(`the body of ${run} ran`)
    if (throws !== undefined) throw Object.assign(new Error(throws.message), { name: throws.name })
    return gives
  }
  return step.run(run, body, attempts === undefined ? {} : { retries: attempts - 1 })
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
