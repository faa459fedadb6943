/**
 * Drives the handler of one turn: starts it, feeds it entries one at a time, and waits after each until it has gone as
 * far as it can. That is one macrotask for a handler that awaits steps only. What else it awaits cannot be seen from
 * here, so it is waited for where its absence shows: no step is pending; an entry comes for a key that has not been
 * asked for; a value was given and nothing followed (`mayStillMove`). Where that was not enough, it is told (`noteLate`).
 */
import { type Entry, type Event, type Turn, UNDO_PREFIX } from '@stepwell/protocol'
import type { Wanted } from './ask.ts'
import type { Arrival } from './entry-values.ts'
import { handlerStalled, type StepwellError } from './errors.ts'
import { validateEvent } from './event-schema.ts'
import type { DurableFunction } from './function.ts'
import type { HandlerEnd, UndoFailure } from './handler-end.ts'
import { nextMacrotask } from './macrotask.ts'
import type { Memo } from './memo.ts'
import type { Patience } from './patience.ts'
import type { Encoder } from './payloads.ts'
import { QuietWindow } from './quiet-window.ts'
import { RunRandom } from './run-random.ts'
import type { Said } from './said.ts'
import { HandlerScope, type Scopes } from './scopes.ts'
import type { BodyExecution } from './step-body.ts'
import { createStep } from './step-tools.ts'

/** On replay a handler has this long to ask for what it asked for when the next entry was recorded. */
const REPLAY_QUIET_MS = 1_000

/** The handler of a turn and how far it is. */
export class TurnHandler {
  readonly #turn: Turn
  readonly #definition: DurableFunction
  readonly #memo: Memo
  readonly #scopes: Scopes
  readonly #scope = new HandlerScope()
  readonly #ask: (id: string, wanted: Wanted) => Promise<unknown>
  readonly #nextChange: () => Promise<void>
  readonly #wake: () => void
  readonly #onLeave: (leaving: { mayUndo: boolean }) => void
  readonly #said: Said
  readonly #encoder: Encoder | null
  readonly #budgetEndsAtMs: number
  readonly #patience: Patience
  /** Open while it may still be on its way to something that is no step. */
  readonly #quiet = new QuietWindow()
  readonly #replayQuiet = new QuietWindow()
  #wasLate = false
  /** How it ends when everything is undone; null for a handler that was not left, or that undoes nothing. */
  #leftFor: HandlerEnd | null = null
  readonly #undoFailures: UndoFailure[] = []
  #isUndoing = false
  /** Null while it runs. */
  end: HandlerEnd | null = null
  /** It failed, was cancelled or goes on anew: what its code still does does not count. */
  isLeft = false
  /** Its turn was settled as waiting: nothing that it does from then on is known to anybody. */
  isGivenUp = false

  /** @param input `nextChange` resolves when something has happened to the turn, or when it is time to look again */
  constructor(input: {
    turn: Turn
    definition: DurableFunction
    memo: Memo
    scopes: Scopes
    patience: Patience
    budgetEndsAtMs: number
    ask: (id: string, wanted: Wanted) => Promise<unknown>
    nextChange: () => Promise<void>
    wake: () => void
    /** The handler has been left: bodies that run for it may stop. `mayUndo`: what they have done is to be undone. */
    onLeave: (leaving: { mayUndo: boolean }) => void
    said: Said
    encoder: Encoder | null
  }) {
    this.#turn = input.turn
    this.#definition = input.definition
    this.#memo = input.memo
    this.#scopes = input.scopes
    this.#patience = input.patience
    this.#budgetEndsAtMs = input.budgetEndsAtMs
    this.#ask = input.ask
    this.#nextChange = input.nextChange
    this.#wake = input.wake
    this.#onLeave = input.onLeave
    this.#said = input.said
    this.#encoder = input.encoder
  }

  /** It neither waits for a step nor has ended, and the budget is used up. */
  get isStalled(): boolean {
    return this.#isAway && performance.now() >= this.#budgetEndsAtMs
  }

  /** It got a value a moment ago, and what it does with it does not show yet. */
  get mayStillMove(): boolean {
    return this.end === null && this.#quiet.isOpen
  }

  /** When `look` has to be called at the latest; monotonic milliseconds. */
  get looksAgainAtMs(): number {
    return Math.min(this.#quiet.looksAgainAtMs, this.#replayQuiet.looksAgainAtMs)
  }

  /** Counts the time in which it was quiet. */
  look(): void {
    const nowMs = performance.now()
    this.#quiet.look(nowMs)
    this.#replayQuiet.look(nowMs)
  }

  /** It has asked for a step. @param isSettled whether it got the value at once */
  noteAsk(isSettled: boolean): void {
    this.#quiet.open(this.#patience.durationMs(this.#definition, !isSettled), performance.now())
  }

  /** It goes on although its turn was given up as waiting. @param what it does: `asked for step "a"` */
  noteLate(what: string): void {
    if (this.#wasLate) return
    this.#wasLate = true
    const afterMs = performance.now() - this.#quiet.openedAtMs
    this.#patience.noteLate(this.#definition, afterMs)
    console.warn(
      `[stepwell] Function "${this.#definition.id}", run ${this.#turn.run.id}: the handler ${what} ` +
        `${Math.round(afterMs)} ms after its last step, when the run had been left as waiting. It goes on only when ` +
        'something arrives for it. Put what is awaited between steps into a step.',
    )
  }

  /** What `isStalled` is called. */
  stalled(): StepwellError {
    return handlerStalled(this.#definition.id, this.#turn.budgetMs)
  }

  /**
   * The event that started the run, as the trigger's schema gives it.
   * @returns an error `event_data_invalid`, or `handler_stalled` when the schema takes longer than the budget
   */
  async readEvent(): Promise<Event | StepwellError> {
    const [started] = this.#turn.journal
    if (started?.type !== 'run_started') throw new TypeError('A journal starts with run_started.')
    const schema = this.#definition.trigger?.schema
    if (schema === undefined) return started.data
    const validating = validateEvent(started.data, schema)
    if (!(validating instanceof Promise)) return validating
    const checked: { event?: Event | StepwellError } = {}
    void validating.then(event => {
      checked.event = event
      this.#wake()
    })
    while (checked.event === undefined && performance.now() < this.#budgetEndsAtMs) await this.#nextChange()
    return checked.event ?? this.stalled()
  }

  /** Applies entry 1: calls the handler, and lets it run as far as it can. */
  async start(event: Event): Promise<void> {
    this.#memo.seen = 1
    this.#memo.at = this.#turn.journal[0]?.at ?? ''
    const { id, generation } = this.#turn.run
    const step = createStep({
      ask: this.#ask,
      watched: work => this.#memo.watched(work),
      retries: this.#definition.retries,
      refuseInBody: what => this.#refuseInBody(what),
      at: () => this.#memo.at,
      random: new RunRandom({ id, generation }),
      said: this.#said,
      encoder: this.#encoder,
      onSaid: this.#wake,
      continueAsNew: text => this.#continueAsNew(text),
    })
    // The types of a context are checked where the handler is declared; here it is whatever came in.
    const context = { event, step, run: { id, generation } } as never
    void this.#scopes.runHandler(this.#scope, () => this.#run(context))
    await nextMacrotask()
    if (this.#isAway) await this.#letRun()
  }

  /** Applies an entry, and lets the handler run as far as it can. */
  async apply(entry: Entry, arrival: Arrival): Promise<void> {
    if (this.end === null && !this.#memo.isAsked(entry)) await this.#waitForAsk(entry)
    const { askCount } = this.#memo
    const gotValue = this.#memo.apply(entry, arrival)
    if (entry.type === 'cancel_requested') this.#cancel()
    this.#undoAll()
    if (!gotValue || this.end !== null) return
    await nextMacrotask()
    if (this.#isAway) await this.#letRun()
    if (askCount !== this.#memo.askCount) return
    this.#quiet.open(this.#patience.durationMs(this.#definition, false), performance.now())
  }

  /** Until it waits for a step, has ended, or is stalled. */
  async #letRun(): Promise<void> {
    while (this.#isAway && !this.isStalled) {
      await this.#nextChange()
      await nextMacrotask()
    }
  }

  /** It runs, and no step holds it: it awaits something else, or a schema does for it. */
  get #isAway(): boolean {
    return this.end === null && (this.#memo.pending.size === 0 || this.#memo.validatingCount > 0)
  }

  /** Never rejects; an async function makes the same of a throw before the first await. */
  async #run(context: never): Promise<void> {
    let end: HandlerEnd
    try {
      end = { value: await this.#definition.handler(context) }
    } catch (error) {
      end = { error, undoFailures: this.#undoFailures }
    }
    if (this.isLeft) return
    if (this.isGivenUp) this.noteLate('ended')
    // What the handler looked at last is told as handled only after the microtasks of now.
    void nextMacrotask().then(() => this.#warnOfUnhandled())
    if ('error' in end) this.#leave(end)
    else this.end = end
    this.#wake()
  }

  /** The handler goes no further; what it did is taken back. Its code may still run, and nobody hears of it. */
  #cancel(): void {
    // The next generation has not begun: it would know nothing of the wish.
    const goesOnAnew = this.end !== null && 'continueWith' in this.end
    if (goesOnAnew || (this.end === null && !this.isLeft)) this.#leave({ cancelled: true })
  }

  #continueAsNew(inputText: string | undefined): void {
    if (this.end !== null || this.isLeft) return
    this.#abandon({ mayUndo: false })
    this.end = { continueWith: inputText, unread: () => this.#memo.unreadKeys }
    this.#wake()
  }

  #leave(leftFor: HandlerEnd): void {
    this.#abandon({ mayUndo: true })
    this.#leftFor = leftFor
    this.#undoAll()
  }

  #abandon(leaving: { mayUndo: boolean }): void {
    this.isLeft = true
    this.#memo.abandonPending()
    this.#onLeave(leaving)
  }

  /**
   * Runs the undos of a handler that was left as steps of their own, one by one, the last completed first; then it has ended.
   * Steps of its branches may complete even after that: it then ends once more.
   */
  #undoAll(): void {
    if (this.#leftFor === null || this.#isUndoing) return
    const next = this.#memo.takeUndoable()
    this.end = next === null ? this.#leftFor : null
    this.#wake()
    if (next === null) return
    this.#isUndoing = true
    const { key, wanted, output } = next
    const body = (execution: BodyExecution) => wanted.undo?.(output as never, execution)
    const undone = this.#memo.ask(UNDO_PREFIX + key, { kind: 'step', body, retries: wanted.retries })
    void undone
      .catch(error => void this.#undoFailures.push({ key, error }))
      .then(() => {
        this.#isUndoing = false
        this.#undoAll()
      })
  }

  #refuseInBody(what: string): void {
    const body = this.#scopes.currentBody()
    if (body !== undefined) throw body.refuseNested(what)
  }

  /** Branches that failed, and that the handler has not looked at although it has ended. */
  #warnOfUnhandled(): void {
    for (const reason of this.#scope.unhandled.values()) {
      const why = reason instanceof Error ? `${reason.name}: ${reason.message}` : String(reason)
      const message = `A branch of function "${this.#definition.id}" failed and nothing awaited it: ${why}`
      process.emitWarning(message, { type: 'StepwellWarning', detail: 'Await what a handler starts, or catch it.' })
    }
  }

  /** When this entry was recorded its key had been asked for; so whatever the handler awaits now, the ask follows. */
  async #waitForAsk(entry: Entry): Promise<void> {
    this.#replayQuiet.open(REPLAY_QUIET_MS, performance.now())
    while (this.end === null && !this.#memo.isAsked(entry) && this.#replayQuiet.isOpen) {
      await this.#nextChange()
      await nextMacrotask()
    }
    this.#replayQuiet.open(0, performance.now())
  }
}
