/**
 * What is known about each key of a run: what the journal says, what the handler asked, and whether the two have met.
 *
 * Entries come in through `apply`, asks through `ask`, in any order; whichever is second settles the handler's promise.
 * A slot is *pending* from the ask until it is settled, and *open* while the journal waits for something under its key
 * (a sleep, a wait, a back-off). What is pending and neither open nor taken is for the turn to act on: `takeReady`.
 */
import { type Entry, type Event, stepKey } from '@stepwell/protocol'
import type { Ask, Recorded, SettlingEntry, StepWanted } from './ask.ts'
import { describeRecorded, isSameAsk } from './ask.ts'
import { type Arrival, childError, dueAtMs, readValue, recordedBy, stepError } from './entry-values.ts'
import { childTimedOut, duplicateStep, StepwellError } from './errors.ts'
import { validateEvent } from './event-schema.ts'

/** Everything about one key. */
export interface Slot {
  readonly key: string
  recorded: Recorded | null
  settledBy: SettlingEntry | null
  /** The journal waits for something under this key: a sleep, a wait, or the end of a back-off. */
  isOpen: boolean
  /** When the open sleep or back-off should be over, in milliseconds of this process's monotonic clock. */
  dueAtMs: number | null
  failedAttempts: number
  ask: Ask | null
  isPending: boolean
  /** The turn has taken it up: its body is queued or runs, or its op is on the way. */
  isTaken: boolean
  /** The JSON text of the output that this process sent: an acknowledgement does not repeat it. */
  sentText: string | undefined
  /** The handler has been left: nobody waits for this any more, and nothing more is done about it. */
  isAbandoned: boolean
}

/** A completed step that is to be undone. */
export interface Undoable {
  key: string
  wanted: StepWanted
  output: unknown
}

/** Keys in a message. */
const MAX_KEYS_SHOWN = 3

/** The memory of one turn. */
export class Memo {
  /** Slots whose promise the handler may be waiting for. */
  readonly pending = new Set<Slot>()
  /** How many schemas are still looking at an event: the handler's promise follows. */
  validatingCount = 0
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
  readonly #onValidated: () => void
  readonly #slots = new Map<string, Slot>()
  readonly #uses = new Map<string, number>()
  #ready: Slot[] = []
  /** Completed steps with an `undo`, in the order in which they completed. */
  readonly #undoable: Undoable[] = []

  /** @param onValidated is called when an asynchronous schema has settled a promise of the handler */
  constructor(onValidated: () => void) {
    this.#onValidated = onValidated
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
    return new Promise((resolve, reject) => {
      slot.ask = { wanted, saw: this.seen, resolve, reject }
      slot.isPending = true
      this.pending.add(slot)
      if (slot.settledBy !== null) this.#settle(slot, slot.settledBy)
      else this.#ready.push(slot)
    })
  }

  /**
   * Takes in the next entry.
   * @returns whether the handler may move now
   */
  apply(entry: Entry, arrival: Arrival): boolean {
    this.seen = entry.seq
    this.at = entry.at
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
        return this.#settle(slot, entry)
    }
  }

  /** Takes the slots that nobody has acted on: pending (or messages), not open, not taken. In the order in which they became so. */
  takeReady(): Slot[] {
    const ready: Slot[] = []
    for (const slot of this.#ready) {
      if (!(slot.isPending || isMessage(slot)) || slot.isOpen || slot.isTaken) continue
      // A step that was asked for and became due in one replay is listed twice.
      slot.isTaken = true
      ready.push(slot)
    }
    this.#ready = []
    return ready
  }

  /** The handler has been left: what it waits for does not matter any more. Its messages are published all the same. */
  abandonPending(): void {
    for (const slot of this.pending) {
      slot.isPending = false
      slot.isAbandoned = true
    }
    this.pending.clear()
    this.#ready = this.#ready.filter(isMessage)
  }

  /** The step that completed last and is not undone; null when there is none. */
  takeUndoable(): Undoable | null {
    return this.#undoable.pop() ?? null
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

  /** The first key that the journal has and this code did not ask for, or asked for as something else. */
  findMismatch(functionId: string): StepwellError | null {
    for (const slot of this.#slots.values()) {
      if (slot.recorded === null) continue
      if (slot.ask === null) return mismatch(functionId, slot.key, slot.recorded, this.#describeNew())
      if (!isSameAsk(slot.recorded, slot.ask.wanted)) {
        return mismatch(functionId, slot.key, slot.recorded, `asks for ${describeRecorded(slot.ask.wanted)}`)
      }
    }
    return null
  }

  /** What this code asks for and the journal does not know: most often the new name of what is missing. */
  #describeNew(): string {
    const unknown = [...this.#slots.values()].filter(slot => slot.recorded === null && slot.ask !== null)
    if (unknown.length === 0) return 'does not ask for it'
    const keys = unknown.slice(0, MAX_KEYS_SHOWN).map(slot => JSON.stringify(slot.key))
    return `does not ask for it, but for ${keys.join(', ')}${unknown.length > keys.length ? ' and others' : ''}`
  }

  #slotOf(key: string): Slot {
    const known = this.#slots.get(key)
    if (known !== undefined) return known
    const slot: Slot = {
      key,
      recorded: null,
      settledBy: null,
      isOpen: false,
      dueAtMs: null,
      failedAttempts: 0,
      ask: null,
      isPending: false,
      isTaken: false,
      sentText: undefined,
      isAbandoned: false,
    }
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
    if (entry.type === 'step_failed') ask.reject(stepError(entry))
    else if (entry.type === 'child_failed') ask.reject(childError(entry))
    else if (entry.type === 'child_expired') ask.reject(childTimedOut(entry.key))
    else if (entry.type === 'wait_matched') this.#settleWait(ask, entry.data)
    else ask.resolve(readValue(entry, slot.sentText))
    slot.sentText = undefined
    return true
  }

  #settleWait(ask: Ask, event: Extract<SettlingEntry, { type: 'wait_matched' }>['data']): void {
    const schema = ask.wanted.kind === 'wait' ? ask.wanted.schema : undefined
    const validated = schema === undefined ? event : validateEvent(event, schema)
    if (!(validated instanceof Promise)) {
      answerWith(ask, validated)
      return
    }
    this.validatingCount += 1
    void validated.then(result => {
      this.validatingCount -= 1
      answerWith(ask, result)
      this.#onValidated()
    })
  }
}

/** A message that nobody has recorded. */
function isMessage(slot: Slot): boolean {
  return slot.ask?.wanted.kind === 'publish' && slot.settledBy === null
}

function answerWith(ask: Ask, event: Event | StepwellError): void {
  if (event instanceof StepwellError) ask.reject(event)
  else ask.resolve(event)
}

function mismatch(functionId: string, key: string, recorded: Recorded, instead: string): StepwellError {
  return new StepwellError(
    'journal_mismatch',
    `The journal of this run has ${describeRecorded(recorded)} under the key ${JSON.stringify(key)}; ` +
      `the code of "${functionId}" that runs now ${instead}. Put the step back, or deploy the old code again until ` +
      'its runs have ended, or give the changed function a new id.',
  )
}
