/** Builders of functions and engines; engines are closed after each test. */
import type { Turn } from '@stepwell/protocol'
import { afterEach } from 'vitest'
import type { TypedEvent, UntypedEvents } from '../src/index.ts'
import { createFunction, type HandlerContext, type Retries, type ServeOptions, serve } from '../src/index.ts'
import { Patience } from '../src/patience.ts'
import { Scopes } from '../src/scopes.ts'
import { BodyPlaces } from '../src/step-body.ts'
import { EngineDouble, KEY } from './engine-double.ts'
import { AT } from './requests.ts'

export type Handler = (context: HandlerContext<TypedEvent<UntypedEvents>>) => unknown

const engines: EngineDouble[] = []
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close()
})

export function aFunction(handler: Handler, options: { id?: string; retries?: Retries } = {}) {
  return createFunction({ id: 'fn', trigger: { event: 'test.started' }, handler, ...options })
}

/** An app with one function, `fn`. */
export function anApp(handler: Handler, options: ServeOptions & { retries?: Retries } = {}) {
  const { retries, ...rest } = options
  return serve([aFunction(handler, retries === undefined ? {} : { retries })], { signingKey: KEY, ...rest })
}

/** An engine in front of an app with one function, `fn`. */
export async function anEngine(
  handler: Handler,
  options: ServeOptions & { retries?: Retries } = {},
): Promise<EngineDouble> {
  const engine = await new EngineDouble(anApp(handler, options)).open()
  engines.push(engine)
  return engine
}

/** A promise that the test settles. */
export function aSignal<T = void>() {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  promise.catch(() => {})
  return { promise, resolve, reject }
}

/** What a turn is executed with, without an endpoint around it. */
export function aTurnOf(handler: Handler, { concurrency = 1 } = {}) {
  const event = { id: 'e', name: 'n', data: {}, ts: AT }
  const turn: Turn = {
    kind: 'turn',
    workspace: 'a/dev',
    function: 'fn',
    run: { id: 'run_1', generation: 1 },
    turn: 1,
    epoch: 'e',
    budgetMs: 10_000,
    reportUrl: 'http://127.0.0.1:1/',
    journal: [{ seq: 1, turn: 1, at: AT, type: 'run_started', data: event }],
  }
  return {
    turn,
    definition: aFunction(handler),
    places: new BodyPlaces(concurrency),
    scopes: new Scopes(),
    patience: new Patience(),
  }
}

export const THREE_STEPS: Handler = async ({ step }) => {
  const a = await step.run('a', () => 'a')
  const b = await step.run('b', () => 'b')
  return a + b + (await step.run('c', () => 'c'))
}
