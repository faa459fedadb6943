/**
 * What is known about each key of a run: what the journal says, what the handler asked, and whether the two have met.
 *
 * Entries come in through `apply`, asks through `ask`, in any order; whichever is second settles the handler's promise.
 * A slot is *pending* from the ask until it is settled, and *open* while the journal waits for something under its key
 * (a sleep, a wait, a back-off). What is pending and neither open nor taken is for the turn to act on: `takeReady`.
 */
import { type Entry, stepKey } from '@stepwell/protocol'
import { Answers } from './answers.ts'
import type { Ask, SettlingEntry, StepWanted } from './ask.ts'
import { isSameAsk } from './ask.ts'
import { type Arrival, dueAtMs, readValue, recordedBy } from './entry-values.ts'
import { duplicateStep, type StepwellError } from './errors.ts'
import { LateMessages, type MessageEntry } from './late-messages.ts'
import { findMismatch } from './mismatch.ts'
import { newSlot, type Slot } from './slot.ts'

/** A completed step that is to be undone. */
export interface Undoable {
  key: string
  wanted: StepWanted
  output: unknown
}

/** The memory of one turn. */
export class Memo {
  /** Slots whose promise the handler may be waiting for. */
  readonly pending = new Set<Slot>()
  /** How many times the handler has asked: tells whether it moved. */
  askCount = 0
  /** The `seq` of the last entry applied: entries are dense, so also how many. */
  seen = 0
  /** When the last entry applied was delivered: the run's clock. */
  at = ''
  /** Somebody wants the run to end. */
  isCancelled = false
  /** The earliest `dueAtMs` among open slots, Infinity when there is none. */
  nextDueAtMs = Number.POSITIVE_INFINITY
  #arrival: Arrival | null = null
  readonly #answers: Answers
  readonly #slots = new Map<string, Slot>()
  readonly #uses = new Map<string, number>()
  #ready: Slot[] = []
  /** Completed steps with an `undo`, in the order in which they completed. */
  readonly #undoable: Undoable[] = []
  readonly #late = new LateMessages()
  /** The message that came last, when nobody listened to its wait any more. */
  #unheard: MessageEntry | null = null

  /** @param onValidated is called when an asynchronous schema has settled a promise of the handler */
  constructor(onValidated: () => void) {
    this.#answers = new Answers(onValidated)
  }

  /**
   * The handler asks for the next use of an id. The promise settles when an entry says so, perhaps at once.
   * @throws StepwellError `duplicate_step`
   */
  ask(id: string, wanted: Ask['wanted']): Promise<unknown> {
    const use = (this.#uses.get(id) ?? 0) + 1
    // Messages tell their handler nothing: whichever branch asks first is the earlier one, on every replay.
    const mayOverlap = wanted.kind === 'publish'
    if (use > 1 && !mayOverlap && this.#slots.get(stepKey(id, use - 1))?.isPending) throw duplicateStep(id)
    this.#uses.set(id, use)
    const slot = this.#slotOf(stepKey(id, use))
    this.askCount += 1
    if (isMessageAsk(wanted)) {
      this.#late.begin(this.pending)
      // What came to another wait for the same, which had lost its race by then.
      slot.settledBy ??= this.#late.take(wanted)
    }
    const answer = new Promise((resolve, reject) => {
      slot.ask = { wanted, saw: this.seen, resolve, reject }
      slot.isPending = true
      this.pending.add(slot)
      if (slot.settledBy !== null) this.#settle(slot, slot.settledBy)
      else this.#ready.push(slot)
    })
    // A step that the handler does not await, such as the loser of a race, may fail without taking the process down.
    // Before it is watched: this is not listening.
    void answer.catch(() => {})
    if (slot.isPending) slot.answer = answer
    this.#late.watch(slot.key, answer)
    return answer
  }

  /**
   * Takes in the next entry.
   * @returns whether the handler may move now
   */
  apply(entry: Entry, arrival: Arrival): boolean {
    this.seen = entry.seq
    this.at = entry.at
    this.#arrival = arrival
    if (entry.type === 'run_started') return false
    if (entry.type === 'cancel_requested') {
      this.isCancelled = true
      return true
    }
    const slot = this.#slotOf(entry.key)
    const recorded = recordedBy(entry)
    if (recorded !== null) slot.recorded ??= recorded
    switch (entry.type) {
      case 'step_retrying':
        slot.failedAttempts += 1
        slot.firstStartedAtMs ??= Date.parse(entry.at) - (entry.data.durationMs ?? 0)
        slot.isTaken = false
        this.#open(slot, dueAtMs(entry.data.dueAt, arrival))
        return false
      case 'step_due':
        this.#close(slot)
        this.#ready.push(slot)
        return false
      case 'sleep_started':
        this.#open(slot, dueAtMs(entry.data.until, arrival))
        return false
      case 'wait_opened':
      case 'signal_awaited':
      case 'child_started':
        this.#open(slot, null)
        return false
      default:
        if (slot.settledBy !== null) {
          // It has had what came to another wait; this is for the next one.
          return isMessage(entry) && slot.ask !== null ? this.#handOver(entry, slot.ask.wanted) : false
        }
        slot.settledBy = entry
        this.#close(slot)
        if (slot.isAbandoned && slot.ask !== null && isMessage(entry)) this.#late.keep(entry, slot.ask.wanted)
        this.#unheard = isMessage(entry) && this.#late.hasLost(slot.key) ? entry : null
        return this.#settle(slot, entry)
    }
  }

  /** Takes the slots that nobody has acted on: pending (or messages), not open, not taken. In the order in which they became so. */
  takeReady(): Slot[] {
    const ready: Slot[] = []
    for (const slot of this.#ready) {
      if (!(slot.isPending || isUnpublished(slot)) || slot.isOpen || slot.isTaken) continue
      // A step that was asked for and became due in one replay is listed twice.
      slot.isTaken = true
      ready.push(slot)
    }
    this.#ready = []
    return ready
  }

  /**
   * The handler did not go on with what the last entry gave it: if nobody listened, it is for another wait for the same, or is
   * kept for the next one.
   * @returns whether the handler may move now
   */
  noteUnmoved(): boolean {
    const entry = this.#unheard
    this.#unheard = null
    const wanted = entry === null ? undefined : this.#slots.get(entry.key)?.ask?.wanted
    return entry !== null && wanted !== undefined && this.#handOver(entry, wanted)
  }

  /** Gives it to the wait for the same that was asked for first, or keeps it for the next one. */
  #handOver(entry: MessageEntry, wanted: Ask['wanted']): boolean {
    this.#late.keep(entry, wanted)
    for (const slot of this.pending) {
      if (slot.ask === null || !isMessageAsk(slot.ask.wanted) || this.#late.hasLost(slot.key)) continue
      const kept = this.#late.take(slot.ask.wanted)
      if (kept === null) continue
      slot.settledBy = kept
      this.#close(slot)
      return this.#settle(slot, kept)
    }
    return false
  }

  /** How many schemas are still looking at an event: the handler's promise follows. */
  get validatingCount(): number {
    return this.#answers.validatingCount
  }

  /** Keys of messages that came and that nobody has had. */
  get unreadKeys(): string[] {
    return this.#late.unreadKeys
  }

  /** The handler has been left: what it waits for does not matter any more. Its messages are published all the same. */
  abandonPending(): void {
    for (const slot of this.pending) {
      slot.isPending = false
      slot.isAbandoned = true
    }
    this.pending.clear()
    this.#ready = this.#ready.filter(isUnpublished)
  }

  /** The step that completed last and is not undone; null when there is none. */
  takeUndoable(): Undoable | null {
    return this.#undoable.pop() ?? null
  }

  /** How many milliseconds ago a step that has failed began: by the engine's clock, and ours since its last entry came. */
  sinceFirstAttemptMs({ firstStartedAtMs }: Slot): number {
    if (this.#arrival === null || firstStartedAtMs === null) return 0
    const { at, nowMs } = this.#arrival
    return Date.parse(at) - firstStartedAtMs + performance.now() - nowMs
  }

  /** Whether the handler has asked for the key of an entry, or the entry is not about an op of the handler. */
  isAsked(entry: Entry): boolean {
    return !('key' in entry) || (this.#slots.get(entry.key)?.ask ?? null) !== null
  }

  /**
   * Is an open sleep or back-off over by now? Those that are come up again after `againMs`.
   * @returns whether there is one: then it is time to ask the engine
   */
  findDue(nowMs: number, againMs: number): boolean {
    if (nowMs < this.nextDueAtMs) return false
    let isDue = false
    this.nextDueAtMs = Number.POSITIVE_INFINITY
    for (const slot of this.pending) {
      if (slot.dueAtMs === null) continue
      if (slot.dueAtMs <= nowMs) {
        slot.dueAtMs = nowMs + againMs
        isDue = true
      }
      this.nextDueAtMs = Math.min(this.nextDueAtMs, slot.dueAtMs)
    }
    return isDue
  }

  /** As `findMismatch` of all that is known. */
  findMismatch(functionId: string): StepwellError | null {
    return findMismatch(this.#slots.values(), functionId)
  }

  #slotOf(key: string): Slot {
    const known = this.#slots.get(key)
    if (known !== undefined) return known
    const slot = newSlot(key)
    this.#slots.set(key, slot)
    return slot
  }

  #open(slot: Slot, dueAtMs: number | null): void {
    slot.isOpen = true
    slot.dueAtMs = dueAtMs
    if (dueAtMs !== null) this.nextDueAtMs = Math.min(this.nextDueAtMs, dueAtMs)
  }

  #close(slot: Slot): void {
    slot.isOpen = false
    slot.dueAtMs = null
  }

  /** Settles the handler's promise, when it has asked, and for the same thing. */
  #settle(slot: Slot, entry: SettlingEntry): boolean {
    const { ask } = slot
    if (ask?.wanted.kind === 'step' && ask.wanted.undo !== undefined && entry.type === 'step_completed') {
      this.#undoable.push({ key: slot.key, wanted: ask.wanted, output: readValue(entry, slot.sentText) })
    }
    if (ask === null || !slot.isPending) return false
    // Asked for as something else: the promise stays as it is, and the mismatch is told when all entries are applied.
    if (slot.recorded !== null && !isSameAsk(slot.recorded, ask.wanted)) return false
    slot.isPending = false
    this.pending.delete(slot)
    slot.answer = null
    if (isMessage(entry)) this.#late.noteGiven(slot.key, entry)
    this.#answers.give(ask, entry, slot.sentText)
    slot.sentText = undefined
    return true
  }
}

function isMessageAsk({ kind }: Ask['wanted']): boolean {
  return kind === 'receive' || kind === 'wait'
}

function isMessage(entry: Entry): entry is MessageEntry {
  return entry.type === 'signal_received' || entry.type === 'wait_matched'
}

/** A message of the run that nobody has recorded. */
function isUnpublished(slot: Slot): boolean {
  return slot.ask?.wanted.kind === 'publish' && slot.settledBy === null
}
