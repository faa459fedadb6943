/**
 * The heart: executes one turn of a run. One loop does both replay and live.
 *
 * The handler runs from the top and asks for steps; each ask is a promise that only an entry of the journal settles.
 * Entries lie in the inbox: first those of the turn, later those that acknowledgements bring. They are applied one at a
 * time in the order of `seq`, and after each the handler runs as far as it can, so that who wins a race is decided by
 * the journal and is the same on every replay. When the inbox is empty, the bodies of steps that nothing has settled
 * run, and their ops are reported; the handler gets a result only when the engine has recorded it and said so. The turn
 * ends when the handler has ended, or when nothing more can run here.
 */
import type { Entry, Turn } from '@stepwell/protocol'
import { Alarm } from './alarm.ts'
import type { Wanted } from './ask.ts'
import type { Arrival } from './entry-values.ts'
import { StepwellError } from './errors.ts'
import type { DurableFunction } from './function.ts'
import type { HandlerEnd } from './handler-end.ts'
import { nextMacrotask } from './macrotask.ts'
import { Memo } from './memo.ts'
import { Outbox } from './outbox.ts'
import type { TurnPayloads } from './payloads.ts'
import type { Scopes } from './scopes.ts'
import { TurnBodies } from './turn-bodies.ts'
import { TurnHandler } from './turn-handler.ts'
import type { TurnEnd, TurnInput } from './turn-input.ts'
import { endOpText, mayWaitWith, warnOfUnstarted } from './turn-ops.ts'
import { TurnReports } from './turn-reports.ts'
import { toWireError } from './wire-error.ts'

/** Give a sign of life when this long passed without a report. */
const HEARTBEAT_MS = 3_000

/** A turn that is held for its handler asks for news after this long, then after twice as long each time. */
const HELD_ASK_MS = 10

/** A sleep should be over and the engine has not said so: ask again after this long. */
const ASK_AGAIN_MS = 50

/** Executes a turn. Does not reject on account of the handler, its steps or the engine. */
export function executeTurn(input: TurnInput): Promise<TurnEnd> {
  return new TurnExecution(input).execute()
}

class TurnExecution {
  readonly #turn: Turn
  readonly #definition: DurableFunction
  readonly #alarm = new Alarm()
  readonly #memo = new Memo(() => this.#alarm.wake())
  readonly #scopes: Scopes
  readonly #payloads: TurnPayloads | null
  readonly #outbox: Outbox
  readonly #handler: TurnHandler
  readonly #bodies: TurnBodies
  readonly #reports: TurnReports
  readonly #startedAtMs = performance.now()
  readonly #budgetEndsAtMs: number
  #inbox: Entry[]
  #arrival: Arrival
  #isClosed = false
  /** How often it has asked in vain while it was held. */
  #heldAsks = 0

  constructor(input: TurnInput) {
    const { turn, definition } = input
    const wake = () => this.#alarm.wake()
    this.#turn = turn
    this.#definition = definition
    this.#scopes = input.scopes
    this.#inbox = [...turn.journal]
    this.#arrival = { nowMs: this.#startedAtMs, at: turn.journal.at(-1)?.at ?? '' }
    this.#budgetEndsAtMs = this.#startedAtMs + turn.budgetMs
    this.#payloads = input.payloads ?? null
    if (this.#payloads !== null) this.#payloads.onFailure = wake
    this.#outbox = new Outbox(turn, this.#payloads?.wireStatus)
    this.#bodies = new TurnBodies({
      ...input,
      memo: this.#memo,
      outbox: this.#outbox,
      onChange: wake,
      mayStart: () => this.#mayStart,
    })
    const onAnswer = (entries: Entry[]) => this.#receive(entries)
    this.#reports = new TurnReports({ outbox: this.#outbox, deliver: input.deliver, onAnswer })
    this.#handler = new TurnHandler({
      turn,
      definition,
      scopes: input.scopes,
      patience: input.patience,
      memo: this.#memo,
      budgetEndsAtMs: this.#budgetEndsAtMs,
      ask: (id, wanted) => this.#ask(id, wanted),
      nextChange: () => this.#nextChange(),
      wake,
      onLeave: leaving =>
        this.#bodies.abandon(new Error('The run goes no further: the result of this step no longer matters.'), leaving),
      said: this.#outbox.said,
      encoder: this.#payloads,
    })
  }

  async execute(): Promise<TurnEnd> {
    try {
      const text = (await this.#replay()) ?? (await this.#live())
      const { staleMessage } = this.#reports
      return staleMessage === null ? { kind: 'report', text } : { kind: 'stale', message: staleMessage }
    } finally {
      this.#isClosed = true
      this.#alarm.close()
      const why = this.#reports.staleMessage ?? 'The turn has ended: the result of this step no longer matters.'
      this.#bodies.abort(new Error(why))
    }
  }

  /** Brings the handler to where the journal ends. Gives the last report when the turn cannot go on from there. */
  async #replay(): Promise<string | null> {
    const event = await this.#handler.readEvent()
    if (event instanceof StepwellError) {
      // A run that went on from this event once may go on when the code is corrected; one that failed is lost.
      const isNew = this.#turn.journal.length === 1 && event.code === 'event_data_invalid'
      return isNew ? this.#end({ error: event, undoFailures: [] }) : this.#refuse(event)
    }
    await this.#handler.start(event)
    await this.#applyInbox()
    if (this.#reports.staleMessage !== null) return ''
    if (this.#handler.isStalled) return this.#refuse(this.#handler.stalled())
    if (this.#unwritten !== null) return this.#refuse(this.#unwritten)
    const mismatch = this.#memo.findMismatch(this.#definition.id)
    if (mismatch !== null) return this.#refuse(mismatch)
    this.#outbox.setReplayMs(performance.now() - this.#startedAtMs)
    return null
  }

  /** Runs bodies and reports until nothing more can be done here. Gives the last report. */
  async #live(): Promise<string> {
    for (;;) {
      if (this.#inbox.length > 0) await this.#applyInbox()
      this.#alarm.clear()
      // What ran when the handler was left may have had an effect, which is undone when it is recorded.
      const end = this.#bodies.isFinishing ? null : this.#handler.end
      if (this.#reports.staleMessage !== null) return ''
      const unwritten = this.#unwritten
      if (unwritten !== null && !this.#reports.isReporting) return this.#refuse(unwritten)
      // A report in flight comes first: at most one is unacknowledged, and its answer may be that the turn is void.
      if (end !== null && !this.#reports.isReporting) {
        const text = this.#end(end)
        if (text !== null) return text
      }
      if (this.#handler.isStalled) return this.#refuse(this.#handler.stalled())
      if (end === null && unwritten === null) {
        this.#startReady()
        // Bodies that end within this macrotask share one report.
        if (this.#bodies.runningCount > 0 && this.#outbox.hasNews) await nextMacrotask()
        if (this.#hasToReport) this.#reports.send()
        else if (this.#isIdle) return this.#settle()
      }
      await this.#nextChange()
    }
  }

  #ask(id: string, wanted: Wanted): Promise<unknown> {
    const body = this.#scopes.currentBody()
    if (body !== undefined) throw body.refuseNested(id)
    if (this.#handler.isGivenUp) this.#handler.noteLate(`asked for step "${id}"`)
    // A branch that outlives the handler or the turn waits for ever: nothing refers to it, so it is collected.
    const isOver = this.#handler.end !== null || this.#handler.isLeft || this.#handler.isGivenUp || this.#isClosed
    if (isOver) return new Promise(() => {})
    const pendingCount = this.#memo.pending.size
    const answer = this.#memo.ask(id, wanted)
    this.#handler.noteAsk(this.#memo.pending.size === pendingCount)
    this.#alarm.wake()
    return answer
  }

  #receive(entries: Entry[]): void {
    for (const entry of entries) this.#inbox.push(entry)
    if (entries.length > 0) this.#heldAsks = 0
    const last = entries.at(-1)
    if (last !== undefined) this.#arrival = { nowMs: performance.now(), at: last.at }
    this.#alarm.wake()
  }

  /** Applies what has arrived, one entry at a time. More may arrive meanwhile, while the handler is waited for. */
  async #applyInbox(): Promise<void> {
    for (let at = 0; at < this.#inbox.length; at += 1) {
      const entry = this.#inbox[at] as Entry
      if (entry.seq <= this.#memo.seen) continue
      if (entry.seq > this.#memo.seen + 1) {
        // An entry was lost on the way. The next turn brings the whole journal.
        this.#reports.stop()
        break
      }
      await this.#handler.apply(entry, this.#arrival)
      if (this.#handler.isStalled || this.#reports.staleMessage !== null) break
    }
    this.#inbox = []
  }

  /** Queues the bodies and writes the ops of what was asked for and nobody has acted on. */
  #startReady(): void {
    for (const slot of this.#memo.takeReady()) {
      const { ask, key } = slot
      if (ask === null) continue
      if (ask.wanted.kind === 'step') this.#bodies.enqueue(slot)
      else this.#outbox.addAsk(key, ask)
    }
    if (this.#mayStart) this.#bodies.start()
    else this.#bodies.giveBack()
  }

  /** Every turn gets somewhere: its first bodies start even when the replay has used up the budget. */
  get #mayStart(): boolean {
    if (!this.#reports.canReport || this.#reports.shouldYield) return false
    return performance.now() < this.#budgetEndsAtMs || !this.#bodies.hasStarted
  }

  /** Sleeps and waits alone can go into the response: nothing here follows from their being recorded. */
  get #hasToReport(): boolean {
    if (this.#reports.isReporting || !this.#reports.canReport || !this.#outbox.hasNews) return false
    if (this.#bodies.runningCount > 0) return true
    // A turn that is held for its handler must not keep sleeps from starting meanwhile.
    const goesOn = this.#bodies.queuedCount > 0 || this.#outbox.settlesAtOnce || this.#handler.mayStillMove
    return this.#mayStart && goesOn
  }

  get #isIdle(): boolean {
    if (this.#bodies.runningCount > 0 || this.#reports.isReporting || this.#inbox.length > 0) return false
    // Where the turn says `continue`, nothing is lost by what the handler does next.
    if (this.#bodies.queuedCount > 0 || this.#outbox.settlesAtOnce) return !this.#mayStart
    return !this.#reports.canReport || !this.#handler.mayStillMove
  }

  /** It is here only because the handler may still move. What comes for its open waits meanwhile, nobody brings. */
  get #isHeld(): boolean {
    if (this.#bodies.runningCount > 0 || this.#bodies.queuedCount > 0) return false
    return this.#memo.pending.size > 0 && this.#handler.mayStillMove
  }

  /** Resolves when something has happened, or when it is time to look again. Sends signs of life meanwhile. */
  async #nextChange(): Promise<void> {
    const nowMs = performance.now()
    const looks = [this.#handler.looksAgainAtMs]
    if (this.#budgetEndsAtMs > nowMs) looks.push(this.#budgetEndsAtMs)
    if (this.#reports.canShowLife) {
      const { canReport } = this.#reports
      const isHeld = canReport && this.#isHeld
      const heartbeatAtMs = this.#reports.sentAtMs + (isHeld ? HELD_ASK_MS * 2 ** this.#heldAsks : HEARTBEAT_MS)
      const isDue = canReport && this.#memo.findDue(nowMs, ASK_AGAIN_MS)
      if (nowMs >= heartbeatAtMs || isDue) {
        if (isHeld) this.#heldAsks += 1
        this.#reports.send()
      } else looks.push(heartbeatAtMs, canReport ? this.#memo.nextDueAtMs : heartbeatAtMs)
    }
    await this.#alarm.wait(Math.min(...looks))
    this.#handler.look()
  }

  /** The last report of a handler that has ended; null when messages that it did not wait for are reported first. */
  #end(end: HandlerEnd): string | null {
    const unstarted = this.#memo.takeReady()
    if (unstarted.length > 0 && 'value' in end) warnOfUnstarted(this.#definition.id, unstarted)
    for (const { key, ask } of unstarted) if (ask !== null) this.#outbox.addAsk(key, ask)
    const { canReport } = this.#reports
    if (!canReport) this.#reports.stop()
    this.#outbox.keepMessages()
    if (this.#outbox.size > 0) {
      if (!canReport) return this.#outbox.write('continue', this.#outbox.take())
      this.#reports.send()
      return null
    }
    const text = endOpText(end, this.#definition.id, this.#payloads)
    const unwritten = this.#unwritten
    return unwritten === null ? this.#outbox.write('done', [{ text, settlesAtOnce: true }]) : this.#refuse(unwritten)
  }

  /** Why a payload could not be written, when one could not. */
  get #unwritten(): StepwellError | null {
    return this.#payloads === null ? null : this.#payloads.failure
  }

  /** The last report of a handler that waits. `waiting` only when every branch waits for something that is recorded. */
  #settle(): string {
    if (this.#unwritten !== null) return this.#refuse(this.#unwritten)
    const { canReport } = this.#reports
    this.#reports.stop()
    const ops = this.#outbox.take()
    const isWaiting = canReport && mayWaitWith(ops, this.#memo.pending)
    this.#handler.isGivenUp = isWaiting
    return this.#outbox.write(isWaiting ? 'waiting' : 'continue', ops)
  }

  #refuse(error: StepwellError): string {
    return this.#outbox.write('refused', [], toWireError(error))
  }
}
