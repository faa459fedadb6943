/** The reports of one turn: one at a time, and what their answers mean for the turn. */
import type { Entry } from '@stepwell/protocol'
import type { Outbox, WrittenOp } from './outbox.ts'
import type { ReportAnswer } from './reporter.ts'

/** A report that was sent and that nobody answered. */
interface Lost {
  text: string
  ops: WrittenOp[]
}

/** Sends the ops of a turn while it runs. */
export class TurnReports {
  readonly #outbox: Outbox
  readonly #deliver: (text: string) => Promise<ReportAnswer>
  readonly #onAnswer: (entries: Entry[]) => void
  /** Whether this turn sends no more reports. */
  #isStopped = false
  /** Sent again under the same number as a sign of life, until it is answered: the engine may have it or not. */
  #lost: Lost | null = null
  /** A report is on its way: there is at most one. */
  isReporting = false
  /** The engine is about to stop: start nothing more. */
  shouldYield = false
  /** Why the turn is void, when it is: another process has the run. */
  staleMessage: string | null = null
  /** When the last report left, or the turn began; monotonic milliseconds. */
  sentAtMs = performance.now()

  /** @param input `deliver` never rejects; `onAnswer` is called after every answer, with the entries that it brought */
  constructor(input: {
    outbox: Outbox
    deliver: (text: string) => Promise<ReportAnswer>
    onAnswer: (entries: Entry[]) => void
  }) {
    this.#outbox = input.outbox
    this.#deliver = input.deliver
    this.#onAnswer = input.onAnswer
  }

  /** False when reports do not arrive: what is left goes into the response. */
  get canReport(): boolean {
    return !this.#isStopped && this.#lost === null
  }

  /** Whether a report may be sent that shows that the turn is alive. */
  get canShowLife(): boolean {
    return !this.#isStopped && !this.isReporting
  }

  /** Reports what the outbox holds, or again what was lost; an empty report asks for news. */
  send(): void {
    this.isReporting = true
    this.sentAtMs = performance.now()
    const report = this.#lost ?? this.#write()
    void this.#deliver(report.text).then(answer => {
      this.isReporting = false
      switch (answer.kind) {
        case 'acknowledged':
          this.#lost = null
          this.shouldYield ||= answer.shouldYield
          return this.#onAnswer(answer.entries)
        case 'stale':
          this.staleMessage = answer.message
          return this.#onAnswer([])
        case 'undelivered':
          this.#lost = report
          this.stop()
          return this.#onAnswer([])
        case 'unreachable':
          this.#lost = report
          return this.#onAnswer([])
      }
    })
  }

  /** Sends no more: what was lost goes back into the outbox, before what came later. */
  stop(): void {
    this.#isStopped = true
    if (this.#lost !== null) this.#outbox.putBack(this.#lost.ops)
    this.#lost = null
  }

  #write(): Lost {
    const ops = this.#outbox.take()
    return { text: this.#outbox.write('running', ops), ops }
  }
}
