/**
 * Keeps a process alive when a branch of a handler fails while nobody awaits it.
 *
 * The loser of a race, or a branch that is awaited later, may be rejected at any time, because the SDK settles promises
 * as the journal says. Node ends the process for that, the engine sends the turn again, and the next process ends too.
 * So, while turns run, rejections that come from the code of a handler are noted instead. All others get what they
 * would get without this guard.
 */
import { StepError } from './errors.ts'
import type { HandlerScope, Scopes } from './scopes.ts'

/** Guards of other copies of this SDK in the process are known by this: each asks the others whose a rejection is. */
const OWNS = Symbol.for('stepwell.rejection-guard')

type Guard = NodeJS.UnhandledRejectionListener & { [OWNS]: (reason: unknown) => boolean }

/** The guard of one `serve`: it listens while it is entered. */
export class RejectionGuard {
  readonly #scopes: Scopes
  readonly #onRejection: Guard
  /** Whose promises were noted: when one is awaited after all, nothing else says whose it is. */
  readonly #owners = new WeakMap<Promise<unknown>, HandlerScope>()
  #turnCount = 0

  constructor(scopes: Scopes) {
    this.#scopes = scopes
    const owns = (reason: unknown) => scopes.currentHandler() !== undefined || reason instanceof StepError
    this.#onRejection = Object.assign((reason: unknown, promise: Promise<unknown>) => this.#note(reason, promise), {
      [OWNS]: owns,
    })
  }

  /** A turn begins. */
  enter(): void {
    this.#turnCount += 1
    if (this.#turnCount > 1) return
    process.on('unhandledRejection', this.#onRejection)
    process.on('rejectionHandled', this.#onHandled)
  }

  /** A turn has ended. */
  leave(): void {
    this.#turnCount -= 1
    if (this.#turnCount > 0) return
    process.off('unhandledRejection', this.#onRejection)
    process.off('rejectionHandled', this.#onHandled)
  }

  #note(reason: unknown, promise: Promise<unknown>): void {
    if (this.#onRejection[OWNS](reason)) {
      const scope = this.#scopes.currentHandler()
      if (scope === undefined) return
      scope.unhandled.set(promise, reason)
      this.#owners.set(promise, scope)
      return
    }
    const listeners = process.listeners('unhandledRejection')
    const guards = listeners.filter(isGuard)
    const isOthers = guards.length < listeners.length || guards.some(guard => guard[OWNS](reason))
    if (isOthers || guards[0] !== this.#onRejection || isTolerated()) return
    // Nobody else listens: this is what Node does then.
    throw reason instanceof Error ? reason : new Error(`Unhandled rejection: ${String(reason)}`)
  }

  readonly #onHandled = (promise: Promise<unknown>) => {
    this.#owners.get(promise)?.unhandled.delete(promise)
  }
}

function isGuard(listener: NodeJS.UnhandledRejectionListener): listener is Guard {
  return OWNS in listener
}

/** The process was started so that it goes on after an unhandled rejection. */
function isTolerated(): boolean {
  const flags = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].join(' ')
  return /--unhandled-rejections[= ](?:none|warn)/.test(flags)
}
