/**
 * Middleware: plain objects that stand around turns and step bodies, and that rewrite what leaves and enters the app. The first
 * one of a list is the outermost: it is called first, it encodes last (next to the engine) and decodes first. Where there is
 * none, nothing of this is there: `toHooks` gives null for what nobody asked for.
 */
import type { Json } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { Payloads } from './payloads.ts'

/** A middleware: any of these. */
export interface Middleware {
  /** Stands in messages. */
  readonly name?: string
  /**
   * Stands around one turn: one request of the engine to go on with a run. It has to await `next`, once. When it throws before
   * that, the turn is refused: the run is left as it is, says why, and is sent again. When it throws after that, it is logged.
   */
  turn?(context: TurnInfo, next: () => Promise<void>): Promise<void>
  /**
   * Stands around one execution of the body of a step. It has to await `next`, once, which gives what the body gave. That is
   * what is recorded; what the middleware throws fails the attempt instead.
   */
  step?(context: BodyInfo, next: () => Promise<unknown>): Promise<unknown>
  /**
   * Gives what the engine sees of a payload, as JSON, for JSON. Synchronous: a payload is written at the moment at which the
   * handler or the body gave it. One that throws inside a turn makes it refused.
   */
  encode?(value: Json, payload: Payload): Json
  /**
   * Gives back what `encode` was given. It also sees payloads that no `encode` has seen: events that somebody else has sent,
   * results of other apps, journals from before. Give those back as they are.
   */
  decode?(value: Json, payload: Payload): Json
}

/** Which turn. */
export interface TurnInfo {
  /** The id of the function. */
  readonly function: string
  readonly run: { readonly id: string; readonly generation: number }
  /** From 1 within a generation. */
  readonly turn: number
  /** Whether the handler has been here before: it begins by going through results that are recorded. */
  readonly isReplay: boolean
}

/** Which execution of which step. */
export interface BodyInfo {
  /** The step's id, `id#2` for the second use. */
  readonly key: string
  /** From 1. */
  readonly attempt: number
  /** The id of the function. */
  readonly function: string
  readonly run: { readonly id: string; readonly generation: number }
}

/** What a value is to the run. The same for `encode` and `decode` of one value. */
export interface Payload {
  /**
   * `event`: the data of an event that is sent, starts a run or was waited for, what a child is invoked with, and what a run
   * goes on anew with. `signal`: the data of a message. `output`: what a step gave. `result`: what a handler returned.
   * `status`: what `step.setStatus` said.
   */
  readonly kind: 'event' | 'signal' | 'output' | 'result' | 'status'
  /** The name of the event or message, the key of the step; null for what belongs to the run. */
  readonly name: string | null
}

/** What a list of middleware comes to. */
export interface Hooks {
  readonly turn: ((context: TurnInfo, run: () => Promise<void>) => Promise<unknown>) | null
  readonly step: ((context: BodyInfo, body: () => unknown) => Promise<unknown>) | null
  readonly payloads: Payloads | null
}

const PARTS = ['turn', 'step', 'encode', 'decode'] as const

/**
 * The middleware of an endpoint or a client, checked; null when there is none.
 * @param where names it in errors: `serve`
 * @throws TypeError when it is no list of middleware
 */
export function toHooks(middleware: readonly Middleware[] | undefined, where: string): Hooks | null {
  if (middleware === undefined) return null
  if (!Array.isArray(middleware)) throw new TypeError(`The middleware of ${where} is no list: { middleware: [one] }.`)
  const named = middleware.map((one: Middleware, at) => check(one, at, where))
  if (named.length === 0) return null
  const turns = named.filter(({ one }) => one.turn !== undefined)
  const steps = named.filter(({ one }) => one.step !== undefined)
  const coders = named.filter(({ one }) => one.encode !== undefined || one.decode !== undefined)
  return {
    turn: turns.length === 0 ? null : (context, run) => callThrough(turns, 'turn', context, run),
    step: steps.length === 0 ? null : (context, body) => runBody(steps, context, body),
    payloads: coders.length === 0 ? null : new Payloads(coders),
  }
}

/** A middleware and what messages call it. */
export interface NamedMiddleware {
  one: Middleware
  name: string
}

function check(one: Middleware, at: number, where: string): NamedMiddleware {
  if (typeof one !== 'object' || one === null) throw new TypeError(`middleware[${at}] of ${where} is no object.`)
  const name = typeof one.name === 'string' && one.name !== '' ? JSON.stringify(one.name) : `[${at}]`
  for (const part of PARTS) {
    if (one[part] === undefined || typeof one[part] === 'function') continue
    throw new TypeError(`"${part}" of middleware ${name} of ${where} is no function.`)
  }
  return { one, name }
}

/** What the body gives is recorded, whatever a middleware makes of it; what a middleware throws counts. */
async function runBody(list: readonly NamedMiddleware[], context: BodyInfo, body: () => unknown): Promise<unknown> {
  let given: Promise<unknown> | null = null
  await callThrough(list, 'step', context, () => {
    given = (async () => body())()
    return given
  })
  return given
}

/** Calls each middleware around the next one, and `innermost` in the middle. */
function callThrough<Context, Value>(
  list: readonly NamedMiddleware[],
  part: 'turn' | 'step',
  context: Context,
  innermost: () => Promise<Value>,
): Promise<unknown> {
  const call = async (at: number): Promise<unknown> => {
    const { one, name } = list[at] ?? {}
    // What the parts take and give was checked where they were declared: here it is whatever goes through.
    const wrap = one?.[part] as ((context: Context, next: () => Promise<unknown>) => Promise<unknown>) | undefined
    if (wrap === undefined) return innermost()
    const state = { isCalled: false, isOver: false }
    const next = (): Promise<unknown> => {
      if (state.isCalled) return Promise.reject(failed(`Middleware ${name} called next() of a ${part} a second time.`))
      state.isCalled = true
      const rest = call(at + 1).finally(() => {
        state.isOver = true
      })
      // A middleware that does not await it is told so, and not the whole process.
      rest.catch(() => {})
      return rest
    }
    const value = await wrap.call(one, context, next)
    if (!state.isOver) throw failed(`Middleware ${name} did not await next() of a ${part}. Await it, once.`)
    return value
  }
  return call(0)
}

function failed(message: string): StepwellError {
  return new StepwellError('middleware_failed', message)
}
