/** The reports of one turn: one at a time, and what their answers mean for the turn. */
import type { Entry } from '@stepwell/protocol'
import type { Outbox } from './outbox.ts'
import type { ReportAnswer } from './reporter.ts'

/** Sends the ops of a turn while it runs. */
export class TurnReports {
  readonly #outbox: Outbox
  readonly #deliver: (text: string) => Promise<ReportAnswer>
  readonly #onAnswer: (entries: Entry[]) => void
  /** A report is on its way: there is at most one. */
  isReporting = false
  /** False when reports do not arrive: what is left goes into the response. */
  canReport = true
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

  /** Reports what the outbox holds; an empty report asks for news. */
  send(): void {
    this.isReporting = true
    this.sentAtMs = performance.now()
    const ops = this.#outbox.take()
    void this.#deliver(this.#outbox.write('running', ops)).then(answer => {
      this.isReporting = false
      switch (answer.kind) {
        case 'acknowledged':
          this.shouldYield ||= answer.shouldYield
          return this.#onAnswer(answer.entries)
        case 'stale':
          this.staleMessage = answer.message
          return this.#onAnswer([])
        case 'undelivered':
          this.#outbox.putBack(ops)
          this.canReport = false
          return this.#onAnswer([])
      }
    })
  }
}
