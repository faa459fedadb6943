/** Builders of functions and engines; engines are closed after each test. */
import { afterEach } from 'vitest'
import type { TypedEvent, UntypedEvents } from '../src/index.ts'
import { createFunction, type HandlerContext, type Retries, type ServeOptions, serve } from '../src/index.ts'
import { EngineDouble, KEY } from './engine-double.ts'

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
