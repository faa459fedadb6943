/** The little programs of `vectors/replay.json`, as handlers. The README beside the vectors describes them. */
import type { Json, Match, NewEvent } from '@stepwell/protocol'
import type { HandlerContext, Step, TypedEvent, UntypedEvents } from '../src/index.ts'

export type Program = Statement[]

interface Thrown {
  name: string
  message: string
}

export type Statement = { as?: string } & (
  | { run: string; gives?: Json; throws?: Thrown; attempts?: number; undo?: true | { throws: Thrown } }
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

interface InvokeStatement {
  invoke: string
  function: string
  data?: Json
  timeoutMs?: number
  onCancel?: 'cancel' | 'abandon'
  detached?: true
}

/** Thrown, so that it leaves loops and branches. */
class Returned {
  readonly value: unknown
  constructor(value: unknown) {
    this.value = value
  }
}

/** A handler that executes a program. `pause` comes before what a body does. */
export function toHandler(program: Program, pause?: () => Promise<void>) {
  return async ({ event, step }: HandlerContext<TypedEvent<UntypedEvents>>): Promise<unknown> => {
    try {
      await runAll(program, { names: new Map<string, unknown>([['event', event]]), step, pause })
    } catch (thrown) {
      if (thrown instanceof Returned) return thrown.value
      throw thrown
    }
  }
}

/** What the statements of a program share. */
interface Scene {
  names: Map<string, unknown>
  step: Step
  pause: (() => Promise<void>) | undefined
}

async function runAll(program: Program, scene: Scene): Promise<unknown> {
  let value: unknown
  for (const statement of program) {
    value = await runStatement(statement, scene)
    if (statement.as !== undefined) scene.names.set(statement.as, value)
  }
  return value
}

async function runStatement(statement: Statement, scene: Scene): Promise<unknown> {
  const { names, step } = scene
  const runBranch = (branch: Program) => runAll(branch, scene)
  if ('run' in statement) return runStep(statement, scene)
  if ('sleep' in statement) {
    if (statement.until !== undefined) return step.sleepUntil(statement.sleep, statement.until)
    return step.sleep(statement.sleep, statement.ms ?? 0)
  }
  if ('wait' in statement) {
    const { wait, event, match, timeoutMs } = statement
    return step.waitForEvent(wait, { event, ...(match && { match }), ...(timeoutMs && { timeout: timeoutMs }) })
  }
  if ('send' in statement) return step.sendEvent(statement.send, statement.events)
  if ('receive' in statement) {
    const { receive, signal, timeoutMs } = statement
    return step.waitForSignal(receive, signal, timeoutMs === undefined ? {} : { timeout: timeoutMs })
  }
  if ('invoke' in statement) return invokeChild(statement, step)
  if ('continue_as_new' in statement) return step.continueAsNew(fill(statement.continue_as_new, names))
  if ('status' in statement) return step.setStatus(fill(statement.status, names))
  if ('tags' in statement) return step.setTags(statement.tags)
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

function runStep(statement: Extract<Statement, { run: string }>, { step, pause }: Scene): Promise<unknown> {
  const { run, gives, throws, attempts, undo } = statement
  const body = () => {
    if (gives === 'this body must not run') throw new Error(`the body of ${run} ran`)
    if (throws !== undefined) throw toError(throws)
    return gives
  }
  const pausing = async () => {
    await pause?.()
    return body()
  }
  const takeBack = (output: unknown) => {
    if (typeof undo === 'object') throw toError(undo.throws)
    return output
  }
  const options = {
    ...(attempts !== undefined && { retries: attempts - 1 }),
    ...(undo !== undefined && { undo: takeBack }),
  }
  return pause === undefined ? step.run(run, body, options) : step.run(run, pausing, options)
}

function toError({ name, message }: Thrown): Error {
  return Object.assign(new Error(message), { name })
}

function invokeChild(statement: InvokeStatement, step: Step): Promise<unknown> {
  const { invoke, function: child, timeoutMs, ...rest } = statement
  return step.invoke(invoke, { function: child, ...(timeoutMs !== undefined && { timeout: timeoutMs }), ...rest })
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
