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
import { HeldMessages, isMessage } from './held-messages.ts'
import { findMismatch } from './mismatch.ts'
import { newSlot, type Slot } from './slot.ts'
import { type Listening, StepPromise } from './step-promise.ts'

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
  readonly #messages = new HeldMessages()
  readonly #listening: Listening = { over: new WeakSet(), onListen: promise => this.#release(promise) }
  #isAbandoned = false
  readonly #onChange: () => void

  /** @param onChange is called when the handler has got or asked for something, and nobody else would notice */
  constructor(onChange: () => void) {
    this.#onChange = onChange
    this.#answers = new Answers(onChange)
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
    const { promise, resolve, reject } = StepPromise.pending(this.#listening)
    // A step that the handler does not await, such as the loser of a race, may fail without taking the process down.
    promise.allowRejection()
    slot.ask = { wanted, saw: this.seen, promise, resolve, reject }
    slot.isPending = true
    if (slot.settledBy !== null) this.#meet(slot, slot.settledBy)
    else if (!this.#takeHeld(slot)) this.#await(slot)
    return promise
  }

  /** Has races know when a promise that is made of steps is settled. */
  watched(work: Promise<unknown>): Promise<unknown> {
    const { promise, resolve, reject } = StepPromise.pending(this.#listening)
    work.then(resolve, reject)
    return promise
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
        if (slot.settledBy !== null) return false
        slot.settledBy = entry
        this.#close(slot)
        return this.#meet(slot, entry)
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

  /** How many schemas are still looking at an event: the handler's promise follows. */
  get validatingCount(): number {
    return this.#answers.validatingCount
  }

  /** Keys of messages that came and that nobody has had. */
  get unreadKeys(): string[] {
    return this.#messages.unreadKeys
  }

  /** The handler has been left: what it waits for does not matter any more. Its messages are published all the same. */
  abandonPending(): void {
    this.#isAbandoned = true
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

  /** The slot waits for its entry from now on. */
  #await(slot: Slot): void {
    this.pending.add(slot)
    this.#ready.push(slot)
  }

  /** Its entry is here: the promise settles, unless the entry brings something that nobody would hear. */
  #meet(slot: Slot, entry: SettlingEntry): boolean {
    if (!isMessage(entry) || slot.ask === null) return this.#settle(slot, entry)
    if (slot.isAbandoned) this.#messages.noteTooLate(entry)
    if (!slot.isPending) return false
    if (slot.ask.promise.isHeard || this.#messages.passOn(slot, this.pending)) return this.#settle(slot, entry)
    slot.isPending = false
    this.pending.delete(slot)
    this.#messages.hold(slot, entry)
    return false
  }

  /** Settles a new ask with what came to another wait for the same, which had lost. */
  #takeHeld(asking: Slot): boolean {
    const held = this.#messages.changePlaces(asking)
    if (held === null) return false
    asking.isPending = false
    held.slot.isPending = true
    return this.#settle(held.slot, held.entry)
  }

  /** Somebody listens to a promise: what is held for it is given. */
  #release(promise: StepPromise): void {
    if (this.#messages.isEmpty || this.#isAbandoned) return
    const held = this.#messages.release(promise)
    if (held === null) return
    const { slot, entry } = held
    slot.isPending = true
    if (entry !== null) this.#settle(slot, entry)
    else if (slot.ask !== null) {
      // It is asked for only now.
      slot.ask = { ...slot.ask, saw: this.seen }
      this.askCount += 1
      this.#await(slot)
    }
    this.#onChange()
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
    this.#answers.give(ask, entry, slot.sentText)
    slot.sentText = undefined
    return true
  }
}

/** A message of the run that nobody has recorded. */
function isUnpublished(slot: Slot): boolean {
  return slot.ask?.wanted.kind === 'publish' && slot.settledBy === null
}
