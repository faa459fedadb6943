/** The ops of a turn that the engine has not acknowledged, and the reports that carry them. */
import { type Json, LIMITS, type ReportState, type Turn, type WireError } from '@stepwell/protocol'
import type { Ask } from './ask.ts'
import { fits } from './json.ts'
import { askOpText } from './op-text.ts'
import { Said } from './said.ts'

/** Room for what stands around the ops in a body. */
const ENVELOPE_BYTES = 64 * 1024

/** One op: its text, and whether the handler can go on as soon as it is recorded (a step, a send). */
export interface WrittenOp {
  text: string
  settlesAtOnce: boolean
  /** It is for those who follow the run: it does not matter whether the handler waits for it. */
  isMessage?: boolean
  /** A step that has completed and would have to be undone. */
  isUndoable?: boolean
  /** Gives the text anew, for an op that tells its age. */
  rewrite?: () => string
}

/** Ops that have not been sent, in the order in which they came to be, and the numbering of reports. */
export class Outbox {
  readonly #head: string
  #ops: WrittenOp[] = []
  #n = 0
  #replayMs: number | null = null
  /** What the handler says of its run; what is new of it goes with the next report. */
  readonly said: Said

  /** @param wireStatus as for `Said` */
  constructor(turn: Turn, wireStatus?: Json) {
    this.said = new Said(turn, wireStatus)
    this.#head =
      `{"kind":"report","run":${JSON.stringify(turn.run.id)},"generation":${turn.run.generation},` +
      `"turn":${turn.turn},"epoch":${JSON.stringify(turn.epoch)},"n":`
  }

  /** How many ops wait to be sent. */
  get size(): number {
    return this.#ops.length
  }

  /** Whether there is anything to tell. */
  get hasNews(): boolean {
    return this.#ops.length > 0 || this.said.isNew
  }

  /** Whether the handler is waiting for one of these to be recorded. */
  get settlesAtOnce(): boolean {
    return this.#ops.some(op => op.settlesAtOnce)
  }

  /** Whether one of these is a step that would have to be undone. */
  get hasUndoable(): boolean {
    return this.#ops.some(op => op.isUndoable)
  }

  add(op: WrittenOp): void {
    this.#ops.push(op)
  }

  /** The op of anything but a step. A sleep does not get longer while its op waits to be sent. */
  addAsk(key: string, ask: Ask): void {
    const { wanted } = ask
    if (wanted.kind === 'step') return
    const write = () => askOpText(key, ask)
    const isMessage = wanted.kind === 'publish'
    const settlesAtOnce = isMessage || wanted.kind === 'send' || (wanted.kind === 'invoke' && wanted.isDetached)
    this.add({ text: write(), settlesAtOnce, isMessage, ...(wanted.kind === 'sleep' && { rewrite: write }) })
  }

  /** The handler goes no further: nothing but its messages is to be told. */
  keepMessages(): void {
    this.#ops = this.#ops.filter(op => op.isMessage)
  }

  /** What a report carried and did not deliver goes first again. */
  putBack(ops: WrittenOp[]): void {
    this.#ops = [...ops, ...this.#ops]
    this.said.sayAgain()
  }

  /** The time that the replay took: the next report tells it. */
  setReplayMs(replayMs: number): void {
    this.#replayMs = Math.round(replayMs * 1000) / 1000
  }

  /** Takes as many ops as one body holds, at least one when there is one. */
  take(): WrittenOp[] {
    let bytesLeft = LIMITS.bodyBytes - ENVELOPE_BYTES
    let count = 0
    while (count < this.#ops.length && count < LIMITS.opsPerReport) {
      const text = this.#ops[count]?.text ?? ''
      if (count > 0 && !fits(text, bytesLeft)) break
      bytesLeft -= Buffer.byteLength(text) + 1
      count += 1
    }
    const taken = this.#ops.slice(0, count)
    this.#ops = this.#ops.slice(count)
    return taken
  }

  /** The text of the next report. */
  write(state: ReportState, ops: readonly WrittenOp[], error?: WireError): string {
    this.#n += 1
    const replay = this.#replayMs === null ? '' : `,"replayMs":${this.#replayMs}`
    this.#replayMs = null
    const why = error === undefined ? '' : `,"error":${JSON.stringify(error)}`
    return `${this.#head}${this.#n},"state":"${state}","ops":[${ops.map(op => op.rewrite?.() ?? op.text).join(',')}]${why}${this.said.take()}${replay}}`
  }
}
