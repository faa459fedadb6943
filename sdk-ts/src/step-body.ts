/** Runs the body of a step once: what it is given, how many run at a time, and what its end becomes on the wire. */
import { type BodyLimits, BodyWatch } from './body-watch.ts'
import { NonRetriableError, nestedStep, RetryAfterError, type StepwellError } from './errors.ts'
import { toOutputText } from './json.ts'
import type { StepEnd } from './op-text.ts'
import type { TurnPayloads } from './payloads.ts'
import type { Scopes } from './scopes.ts'
import { toWireError } from './wire-error.ts'

/** What a step body is given. */
export interface StepContext {
  /** 1 for the first execution, 2 after the first failure. */
  readonly attempt: number
  /** Fires when the result of this body no longer matters: another process has the run, the handler has ended, time is up. */
  readonly signal: AbortSignal
  /** `run:generation:step`: the same for every attempt. Pass it to APIs that take an idempotency key. */
  readonly idempotencyKey: string
  /** Says that the body is alive: for a step with a `heartbeat`. May be taken out of the context. */
  readonly heartbeat: () => void
}

/** One execution of one body. */
export class BodyExecution implements StepContext {
  readonly attempt: number
  readonly idempotencyKey: string
  readonly run: { readonly id: string; readonly generation: number }
  readonly key: string
  readonly hasUndo: boolean
  /** The handler has been left: nobody waits for the result, and the engine hears of it only for the sake of an undo. */
  isAbandoned = false
  #controller: AbortController | null = null
  #abortReason: Error | null = null
  /** Why what the body gives cannot be recorded. The same body would be refused again. */
  #refusal: unknown = null
  readonly #limits: BodyLimits | undefined
  readonly #payloads: TurnPayloads | null
  #watch: BodyWatch | null = null

  constructor(step: {
    key: string
    attempt: number
    run: { id: string; generation: number }
    limits?: BodyLimits | undefined
    hasUndo?: boolean
    payloads?: TurnPayloads | null
  }) {
    this.key = step.key
    this.hasUndo = step.hasUndo ?? false
    this.#limits = step.limits
    this.#payloads = step.payloads ?? null
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

  /** Made when it is looked at, like the signal. */
  get heartbeat(): () => void {
    return () => this.#watch?.hear()
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
      const payloads = this.#payloads
      const encode = payloads === null ? undefined : (text: string) => payloads.encodeText(text, this.#payload)
      return toOutputText(value, `The output of step ${JSON.stringify(this.key)}`, encode)
    } catch (refusal) {
      this.#refusal = refusal
      throw refusal
    }
  }

  /** Runs the body to its end. Never rejects. */
  async execute(body: (execution: BodyExecution) => unknown, scopes: Scopes): Promise<StepEnd> {
    try {
      const limits = this.#limits
      const value = await (limits === undefined ? scopes.runBody(this, body) : this.#runWatched(limits, body, scopes))
      const outputText = value instanceof RecordedText ? value.text : this.outputTextOf(value)
      const payloads = this.#payloads
      if (payloads === null || outputText === undefined) return { outputText }
      return { outputText, liveText: payloads.readBack(outputText, this.#payload) }
    } catch (error) {
      const refusal = this.#refusal
      if (refusal !== null) return { error: toWireError(refusal), thrown: refusal, isFinal: true }
      return { error: toWireError(error), thrown: error, ...wishOf(error) }
    }
  }

  get #payload() {
    return { kind: 'output', name: this.key } as const
  }

  /** As the body ends, or at its limit. */
  async #runWatched(limits: BodyLimits, body: (execution: BodyExecution) => unknown, scopes: Scopes): Promise<unknown> {
    const watch = new BodyWatch({ key: this.key, limits, onOverdue: error => this.abort(error) })
    this.#watch = watch
    try {
      return await Promise.race([scopes.runBody(this, body), watch.overdue])
    } finally {
      watch.stop()
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
