/** The bodies of one turn: queued, running, and what happens when one ends. */
import type { Turn } from '@stepwell/protocol'
import type { StepBody } from './ask.ts'
import type { Memo } from './memo.ts'
import type { Hooks } from './middleware.ts'
import { type StepFailure, stepOpText } from './op-text.ts'
import type { Outbox } from './outbox.ts'
import type { TurnPayloads } from './payloads.ts'
import { isLastAttempt, type RetryRules } from './retries.ts'
import type { Scopes } from './scopes.ts'
import type { Slot } from './slot.ts'
import { BodyExecution, type BodyPlaces } from './step-body.ts'
import { toWireError } from './wire-error.ts'

/** Starts the bodies of a turn as places in the process become free, and puts their ops into the outbox. */
export class TurnBodies {
  readonly #turn: Turn
  readonly #memo: Memo
  readonly #payloads: TurnPayloads | null
  readonly #wrapBody: Hooks['step']
  readonly #outbox: Outbox
  readonly #places: BodyPlaces
  readonly #scopes: Scopes
  readonly #turnStartedAtMs = performance.now()
  readonly #onChange: () => void
  readonly #mayStart: () => boolean
  readonly #executing = new Set<BodyExecution>()
  #queue: Slot[] = []
  /** The handler was left, and its effects are undone. */
  #mayUndo = false
  /** How many bodies with an undo run for a handler that was left. */
  #finishingCount = 0
  /** Places that were handed to this turn and not used yet. */
  #reservedCount = 0
  /** Whether this turn has started any body yet. */
  hasStarted = false

  /** @param input `onChange` is called when a body has ended or may start; `mayStart` says whether bodies that wait still may start */
  constructor(input: {
    turn: Turn
    memo: Memo
    payloads?: TurnPayloads | null
    wrapBody?: Hooks['step']
    outbox: Outbox
    places: BodyPlaces
    scopes: Scopes
    onChange: () => void
    mayStart: () => boolean
  }) {
    this.#turn = input.turn
    this.#memo = input.memo
    this.#payloads = input.payloads ?? null
    this.#wrapBody = input.wrapBody ?? null
    this.#outbox = input.outbox
    this.#places = input.places
    this.#scopes = input.scopes
    this.#onChange = input.onChange
    this.#mayStart = input.mayStart
  }

  /** How many bodies run. */
  get runningCount(): number {
    return this.#executing.size
  }

  /** How many steps wait for a place. */
  get queuedCount(): number {
    return this.#queue.length
  }

  enqueue(slot: Slot): void {
    this.#queue.push(slot)
  }

  /** Starts as many queued bodies as there are places; `onChange` is called when there is one for the next. */
  start(): void {
    while (this.#queue.length > 0 && (this.#reservedCount > 0 || this.#places.take())) {
      if (this.#reservedCount > 0) this.#reservedCount -= 1
      const slot = this.#queue.shift()
      if (slot !== undefined) void this.#execute(slot)
    }
    if (this.#queue.length > 0) this.#places.wait(this.#reserve)
    else this.giveBack()
  }

  /**
   * Whether effects of a handler that was left may still have to be undone: bodies with an undo run, or have ended and the
   * engine does not know.
   */
  get isFinishing(): boolean {
    return this.#finishingCount > 0 || (this.#mayUndo && this.#outbox.hasUndoable)
  }

  /**
   * The handler has been left: what runs for it is told so, and what waits is forgotten. @param mayUndo whether what bodies
   * have done by their end is to be undone: then it is recorded
   */
  abandon(reason: Error, { mayUndo }: { mayUndo: boolean }): void {
    this.#queue = []
    this.#mayUndo = mayUndo
    for (const execution of this.#executing) {
      if (mayUndo && execution.hasUndo) this.#finishingCount += 1
      execution.isAbandoned = true
      execution.abort(reason)
    }
  }

  /** Gives back the places that were handed to this turn and that it may not use. */
  giveBack(): void {
    for (; this.#reservedCount > 0; this.#reservedCount -= 1) this.#places.release()
  }

  /** Fires the signals of the bodies that run, and forgets those that wait. */
  abort(reason: Error): void {
    this.#queue = []
    this.#places.forget(this.#reserve)
    this.giveBack()
    for (const execution of this.#executing) execution.abort(reason)
  }

  /** Keeps a place until the turn comes to it: a body is started by its own turn, in whose context it belongs. */
  readonly #reserve = () => {
    if (this.#queue.length === 0 || !this.#mayStart()) return false
    this.#reservedCount += 1
    this.#onChange()
    return true
  }

  /** Never rejects. */
  async #execute(slot: Slot): Promise<void> {
    const { ask } = slot
    if (ask?.wanted.kind !== 'step') throw new Error(`Slot ${slot.key} is no step.`)
    const { body, retries, undo, limits } = ask.wanted
    const attempt = slot.failedAttempts + 1
    const execution = new BodyExecution({
      key: slot.key,
      attempt,
      run: this.#turn.run,
      limits,
      hasUndo: undo !== undefined,
      payloads: this.#payloads,
    })
    this.#executing.add(execution)
    this.hasStarted = true
    const startedAtMs = performance.now()
    const toRun = this.#wrapBody === null ? body : this.#wrap(this.#wrapBody, body, { key: slot.key, attempt })
    let end = await execution.execute(toRun, this.#scopes)
    const endedAtMs = performance.now()
    this.#executing.delete(execution)
    this.#places.release()
    // The turn is about to be refused: what could not be written is not told.
    const isUnwritten = this.#payloads !== null && this.#payloads.failure !== null
    const isFinishing = this.#mayUndo && slot.isAbandoned && execution.hasUndo
    if (isFinishing) this.#finishingCount -= 1
    const isForgotten = slot.isAbandoned && !(isFinishing && 'outputText' in end)
    if (isForgotten || isUnwritten) return this.#onChange()
    const times = { startedMs: startedAtMs - this.#turnStartedAtMs, durationMs: endedAtMs - startedAtMs }
    if ('outputText' in end) slot.sentText = end.liveText ?? end.outputText
    else if (!end.isFinal) end = this.#decideRetry(slot, end, { attempt, retries, durationMs: times.durationMs })
    const { saw } = ask
    this.#outbox.add({
      text: stepOpText(slot.key, { saw, attempt, end, retries: retries.policy, times, hasUndo: undo !== undefined }),
      settlesAtOnce: true,
      isUndoable: undo !== undefined && 'outputText' in end,
    })
    this.#onChange()
  }

  #wrap(wrapBody: NonNullable<Hooks['step']>, body: StepBody, execution: { key: string; attempt: number }): StepBody {
    const { run, function: functionId } = this.#turn
    return context => wrapBody({ ...execution, function: functionId, run }, () => body(context))
  }

  /** What the app makes of a failure that the policy of the wire would follow with another attempt. */
  #decideRetry(
    slot: Slot,
    failure: StepFailure,
    of: { attempt: number; retries: RetryRules; durationMs: number },
  ): StepFailure {
    const { attempt, retries, durationMs } = of
    const elapsedMs = () => (attempt === 1 ? durationMs : this.#memo.sinceFirstAttemptMs(slot))
    try {
      const { thrown, afterMs } = failure
      return { ...failure, isFinal: isLastAttempt(retries, { thrown, attempt, afterMs, elapsedMs }) }
    } catch (thrown) {
      return { error: toWireError(thrown), thrown, isFinal: true }
    }
  }
}
