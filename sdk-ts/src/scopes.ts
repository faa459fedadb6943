/** Knows which code is asking, also after an await: the handler of a turn, or the body of a step. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { BodyExecution } from './step-body.ts'

/** Code of a handler, outside of step bodies. */
export class HandlerScope {
  /** Promises of the handler that were rejected while nobody awaited them, and why. */
  readonly unhandled = new Map<Promise<unknown>, unknown>()
}

/** The scopes of one `serve`. */
export class Scopes {
  readonly #storage = new AsyncLocalStorage<HandlerScope | BodyExecution>()

  /** Calls the handler, so that what it starts is known as its own. */
  runHandler<T>(scope: HandlerScope, handler: () => T): T {
    return this.#storage.run(scope, handler)
  }

  /** Calls a body, so that steps inside it are known as nested. */
  runBody(execution: BodyExecution, body: (execution: BodyExecution) => unknown): unknown {
    return this.#storage.run(execution, body, execution)
  }

  /** The body that the caller runs in. */
  currentBody(): BodyExecution | undefined {
    const scope = this.#storage.getStore()
    return scope instanceof BodyExecution ? scope : undefined
  }

  /** The handler that the caller runs in. */
  currentHandler(): HandlerScope | undefined {
    const scope = this.#storage.getStore()
    return scope instanceof HandlerScope ? scope : undefined
  }
}
