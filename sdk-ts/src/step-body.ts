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
  readonly run: { readonly id: string; readonly generation: number }
  readonly key: string
  /** The handler has been left: the engine will not hear how this ends. */
  isAbandoned = false
  #controller: AbortController | null = null
  #abortReason: Error | null = null
  /** Why what the body gives cannot be recorded. The same body would be refused again. */
  #refusal: unknown = null

  constructor(step: { key: string; attempt: number; run: { id: string; generation: number } }) {
    this.key = step.key
    this.attempt = step.attempt
    this.run = step.run
    this.idempotencyKey = `${step.run.id}:${step.run.generation}:${step.key}`
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
    const misuse = nestedStep(inner, this.key)
    this.#refusal ??= misuse
    return misuse
  }

  /**
   * The text that is recorded of what the body gave.
   * @throws StepwellError `value_not_json`, `step_output_too_large`, `nested_step`: then the step fails, whatever comes after
   */
  outputTextOf(value: unknown): string | undefined {
    try {
      if (this.#refusal !== null) throw this.#refusal
      return toOutputText(value, `The output of step ${JSON.stringify(this.key)}`)
    } catch (refusal) {
      this.#refusal = refusal
      throw refusal
    }
  }

  /** Runs the body to its end. Never rejects. */
  async execute(body: (execution: BodyExecution) => unknown, scopes: Scopes): Promise<StepEnd> {
    try {
      const value = await scopes.runBody(this, body)
      return { outputText: value instanceof RecordedText ? value.text : this.outputTextOf(value) }
    } catch (error) {
      if (this.#refusal !== null) return { error: toWireError(this.#refusal), isFinal: true }
      return { error: toWireError(error), ...wishOf(error) }
    }
  }
}

/** What a body of ours gives whose output is JSON text already, because it is recorded elsewhere as well. */
export class RecordedText {
  /** Undefined: the body gave nothing. */
  readonly text: string | undefined

  constructor(text: string | undefined) {
    this.text = text
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
