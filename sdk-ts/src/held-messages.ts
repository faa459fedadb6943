/**
 * Messages and events that came to a wait when nobody listened to it: it had lost a race, or nobody has looked at it yet.
 * They are held back until somebody listens to the wait, or, where it had lost, waits for the same under another key. The two
 * waits then change places, so that each message is given once, and each wait that somebody listens to can have one.
 * Everything here follows from the journal, so every replay does the same.
 */
import type { Entry } from '@stepwell/protocol'
import type { Ask, Wanted } from './ask.ts'
import type { Slot } from './slot.ts'
import type { StepPromise } from './step-promise.ts'

/** Entries that bring something which one wait may have and another may want. */
export type MessageEntry = Extract<Entry, { type: 'signal_received' | 'wait_matched' }>

/** A wait that nobody listens to. */
export interface Held {
  slot: Slot
  /** What came for it; null where another wait has had that: the journal waits for nothing under this key. */
  entry: MessageEntry | null
}

export class HeldMessages {
  #held: Held[] = []
  /** Came after the handler had been left. */
  readonly #tooLate: MessageEntry[] = []

  hold(slot: Slot, entry: MessageEntry): void {
    this.#held.push({ slot, entry })
  }

  noteTooLate(entry: MessageEntry): void {
    this.#tooLate.push(entry)
  }

  /**
   * What is held for a wait that has lost and answers this one as well: their asks change places.
   * @returns the slot whose entry settles the ask of `asking` from now on; null when nothing is held for it
   */
  changePlaces(asking: Slot): { slot: Slot; entry: MessageEntry } | null {
    if (this.#held.length === 0 || asking.ask === null) return null
    const what = whatOf(asking.ask.wanted)
    const index = this.#held.findIndex(
      ({ slot, entry }) => entry !== null && hasLost(slot.ask) && isFor(slot.ask, what),
    )
    const found = this.#held[index]
    if (found === undefined || found.entry === null) return null
    const { slot, entry } = found
    swapAsks(slot, asking)
    this.#held[index] = { slot: asking, entry: null }
    return { slot, entry }
  }

  /**
   * A wait for the same that somebody listens to, for what came to one that has lost: the one that was asked for first.
   * Their asks change places.
   * @returns whether there is one
   */
  passOn(slot: Slot, pending: Iterable<Slot>): boolean {
    if (slot.ask === null || !hasLost(slot.ask)) return false
    const what = whatOf(slot.ask.wanted)
    for (const other of pending) {
      if (other === slot || other.ask === null || !other.ask.promise.isHeard || !isFor(other.ask, what)) continue
      swapAsks(slot, other)
      return true
    }
    return false
  }

  /** Somebody listens to a promise. @returns the wait of it, where it was held */
  release(promise: StepPromise): Held | null {
    const index = this.#held.findIndex(({ slot }) => slot.ask?.promise === promise)
    return index === -1 ? null : (this.#held.splice(index, 1)[0] ?? null)
  }

  get isEmpty(): boolean {
    return this.#held.length === 0
  }

  /** The keys of what nobody has had, in the order in which it came. */
  get unreadKeys(): string[] {
    const held = this.#held.flatMap(({ entry }) => entry ?? [])
    return [...held, ...this.#tooLate].sort((a, b) => a.seq - b.seq).map(({ key }) => key)
  }
}

/** Whether an entry brings something that may be held. */
export function isMessage(entry: Entry): entry is MessageEntry {
  return entry.type === 'signal_received' || entry.type === 'wait_matched'
}

/** It was raced for, and every race was decided by another. */
function hasLost(ask: Ask | null): boolean {
  return ask?.promise.wasHeard === true && !ask.promise.isHeard
}

function swapAsks(a: Slot, b: Slot): void {
  const { ask } = a
  a.ask = b.ask
  b.ask = ask
}

function isFor(ask: Ask | null, what: string | null): boolean {
  return what !== null && ask !== null && whatOf(ask.wanted) === what
}

/** The same for asks that the same message would answer. */
function whatOf(wanted: Wanted): string | null {
  if (wanted.kind === 'receive') return `signal ${wanted.signal}`
  if (wanted.kind !== 'wait') return null
  return `event ${JSON.stringify([wanted.event, Object.entries(wanted.match).sort(([a], [b]) => (a < b ? -1 : 1))])}`
}
