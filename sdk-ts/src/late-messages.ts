/**
 * Messages and events that came to a wait when nobody listened to it any more: it had lost a race. They are kept for the next
 * wait for the same. Everything here follows from the journal, so every replay does the same. What lets the handler go on
 * is not kept.
 */
import type { Entry } from '@stepwell/protocol'
import type { Wanted } from './ask.ts'
import { RaceWatch } from './race-watch.ts'
import type { Slot } from './slot.ts'

/** Entries that bring something which one wait may have and another may want. */
export type MessageEntry = Extract<Entry, { type: 'signal_received' | 'wait_matched' }>

interface Kept {
  /** What it would answer. */
  what: string
  entry: MessageEntry
}

export class LateMessages {
  /** Null before the handler has waited for a message: a handler that never does pays nothing. */
  #races: RaceWatch | null = null
  #kept: Kept[] = []
  /** By the key of the wait: what its promise was settled with. */
  readonly #given = new Map<string, MessageEntry>()

  /** The handler waits for a message: from now on it is seen who listens to what. */
  begin(pending: Iterable<Slot>): void {
    if (this.#races !== null) return
    this.#races = new RaceWatch()
    for (const { key, answer } of pending) if (answer !== null) this.watch(key, answer)
  }

  /** Sees who listens to the promise of a key. */
  watch(key: string, answer: Promise<unknown>): void {
    if (this.#races === null) return
    // Whoever listens anew has what was kept of it.
    const onListen = () => {
      if (this.#kept.length > 0) this.#kept = this.#kept.filter(({ entry }) => entry.key !== key)
    }
    this.#races.watch(key, answer, onListen)
  }

  /** Keeps what an entry brought to a wait that nobody listens to. */
  keep(entry: MessageEntry, wanted: Wanted): void {
    const what = whatOf(wanted)
    if (what !== null) this.#kept.push({ what, entry })
  }

  /** The promise of a key is settled with a message. */
  noteGiven(key: string, entry: MessageEntry): void {
    this.#given.set(key, entry)
  }

  /** As of the promise of a key. To be asked before it is settled. */
  hasLost(key: string): boolean {
    return this.#races?.hasLost(key) ?? false
  }

  /** What was kept first of what is wanted; null when there is nothing. */
  take(wanted: Wanted): MessageEntry | null {
    if (this.#kept.length === 0) return null
    const what = whatOf(wanted)
    const at = this.#kept.findIndex(kept => kept.what === what)
    return at === -1 ? null : (this.#kept.splice(at, 1)[0]?.entry ?? null)
  }

  /** The keys of what nobody has had, in the order in which it came, for the next generation. */
  get unreadKeys(): string[] {
    const unread = new Set(this.#kept.map(({ entry }) => entry))
    for (const [key, entry] of this.#given) if (this.#races?.isListenedTo(key) === false) unread.add(entry)
    return [...unread].sort((a, b) => a.seq - b.seq).map(({ key }) => key)
  }
}

/** The same for asks that the same message would answer. */
function whatOf(wanted: Wanted): string | null {
  if (wanted.kind === 'receive') return `signal ${wanted.signal}`
  if (wanted.kind !== 'wait') return null
  return `event ${JSON.stringify([wanted.event, Object.entries(wanted.match).sort(([a], [b]) => (a < b ? -1 : 1))])}`
}
