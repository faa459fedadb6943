/** Runs the body of a step once: what it is given, how many run at a time, and what its end becomes on the wire. */
import { NonRetriableError, nestedStep, RetryAfterError, type StepwellError } from './errors.ts'
import { toOutputText } from './json.ts'
import type { StepEnd } from './op-text.ts'
import type { Scopes } from './scopes.ts'
import { toWireError } from './wire-error.ts'

/** What a step body is given. */
export interface StepContext {
  /** 1 for the first execution, 2 after the first failure. */
  readonly attempt: number
  /** Fires when the result of this body no longer matters: another process has the run, or the handler has ended. */
  readonly signal: AbortSignal
  /** `run:generation:step`: the same for every attempt. Pass it to APIs that take an idempotency key. */
  readonly idempotencyKey: string
}

/** One execution of one body. */
export class BodyExecution implements StepContext {
  readonly attempt: number
  readonly idempotencyKey: string
  readonly #key: string
  #controller: AbortController | null = null
  #abortReason: Error | null = null
  #misuse: StepwellError | null = null

  constructor(step: { key: string; attempt: number; idempotencyKey: string }) {
    this.#key = step.key
    this.attempt = step.attempt
    this.idempotencyKey = step.idempotencyKey
  }

  /** Made when it is first looked at: most bodies never do, and a controller costs more than the rest of a short step. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.#abortReason !== null) this.#controller.abort(this.#abortReason)
    }
    return this.#controller.signal
  }

  /** Fires the signal. */
  abort(reason: Error): void {
    this.#abortReason ??= reason
    this.#controller?.abort(reason)
  }

  /** The body has asked for a step: an error for it now, and for the whole body when it ends. */
  refuseNested(inner: string): StepwellError {
    this.#misuse ??= nestedStep(inner, this.#key)
    return this.#misuse
  }

  /** Runs the body to its end. Never rejects. */
  async run(body: (context: StepContext) => unknown, scopes: Scopes): Promise<StepEnd> {
    let value: unknown
    try {
      value = await scopes.runBody(this, body)
    } catch (error) {
      if (this.#misuse === null) return { error: toWireError(error), thrown: error, ...wishOf(error) }
    }
    try {
      if (this.#misuse !== null) throw this.#misuse
      return { outputText: toOutputText(value, `The output of step ${JSON.stringify(this.#key)}`) }
    } catch (refusal) {
      // The same body would be refused again.
      return { error: toWireError(refusal), thrown: refusal, isFinal: true }
    }
  }
}

/** Whether what the body threw wants to be retried, and when. */
function wishOf(error: unknown): { isFinal: boolean; afterMs?: number } {
  if (error instanceof NonRetriableError) return { isFinal: true }
  return error instanceof RetryAfterError ? { isFinal: false, afterMs: error.delayMs } : { isFinal: false }
}

/** How many bodies may run at a time in this process. A place that becomes free is handed to who has waited longest. */
export class BodyPlaces {
  #free: number
  readonly #waiting = new Set<() => boolean>()

  constructor(limit: number) {
    this.#free = limit
  }

  /** Takes a place when there is one. */
  take(): boolean {
    if (this.#free === 0) return false
    this.#free -= 1
    return true
  }

  /** Gives a place back. */
  release(): void {
    for (const accept of this.#waiting) {
      this.#waiting.delete(accept)
      if (accept()) return
    }
    this.#free += 1
  }

  /** Calls `accept` once, when there is a place for it; it returns whether it takes the place. */
  wait(accept: () => boolean): void {
    this.#waiting.add(accept)
  }

  /** Calls it no more. */
  forget(accept: () => boolean): void {
    this.#waiting.delete(accept)
  }
}
