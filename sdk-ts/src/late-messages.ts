/**
 * Messages and events that came to a wait when nobody listened to it any more: it had lost a race. They are kept for the next
 * wait for the same. Everything here follows from the journal, so every replay does the same.
 *
 * `Promise.race` calls `then` of each of its promises with one and the same function. So a promise whose `then` was called
 * with nothing but functions of races that another promise has decided is one that nobody listens to. What `await` does
 * cannot be seen; who awaits goes on, though, and what lets the handler go on is not kept.
 */
import type { Entry } from '@stepwell/protocol'
import type { Wanted } from './ask.ts'

/** Entries that bring something which one wait may have and another may want. */
export type MessageEntry = Extract<Entry, { type: 'signal_received' | 'wait_matched' }>

interface Kept {
  /** What it would answer. */
  what: string
  entry: MessageEntry
}

type Listener = (value: unknown) => unknown

export class LateMessages {
  /** By key: the functions that `then` was called with. */
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #decidedRaces = new WeakSet<Listener>()
  #kept: Kept[] = []

  /** Sees who listens to the promise of a key. */
  watch(key: string, promise: Promise<unknown>): void {
    const listen = (listener: Listener | null | undefined) => {
      // Whoever listens anew has what was kept of it.
      this.#kept = this.#kept.filter(({ entry }) => entry.key !== key)
      if (typeof listener !== 'function') return
      const listeners = this.#listeners.get(key) ?? new Set()
      this.#listeners.set(key, listeners.add(listener))
    }
    Object.defineProperty(promise, 'then', {
      value(onFulfilled?: Listener | null, onRejected?: Listener | null) {
        listen(onFulfilled)
        return Promise.prototype.then.call(promise, onFulfilled, onRejected)
      },
    })
  }

  /** The promise of a key is settled: the races that it is in are decided. */
  noteSettled(key: string): void {
    for (const listener of this.#listeners.get(key) ?? []) this.#decidedRaces.add(listener)
  }

  /** Keeps what an entry brought to a wait that had lost. */
  keep(entry: MessageEntry, wanted: Wanted): void {
    const what = whatOf(wanted)
    if (what !== null) this.#kept.push({ what, entry })
  }

  /** Whether the promise of a key was raced for, and every race was decided by another. To be asked before it is settled. */
  hasLost(key: string): boolean {
    const listeners = this.#listeners.get(key)
    return listeners !== undefined && [...listeners].every(listener => this.#decidedRaces.has(listener))
  }

  /** What was kept first of what is wanted; null when there is nothing. */
  take(wanted: Wanted): MessageEntry | null {
    if (this.#kept.length === 0) return null
    const what = whatOf(wanted)
    const at = this.#kept.findIndex(kept => kept.what === what)
    return at === -1 ? null : (this.#kept.splice(at, 1)[0]?.entry ?? null)
  }

  /** The keys of what is kept, for the next generation. */
  get unreadKeys(): string[] {
    return this.#kept.map(({ entry }) => entry.key)
  }
}

/** The same for asks that the same message would answer. */
function whatOf(wanted: Wanted): string | null {
  if (wanted.kind === 'receive') return `signal ${wanted.signal}`
  if (wanted.kind !== 'wait') return null
  return `event ${JSON.stringify([wanted.event, Object.entries(wanted.match).sort(([a], [b]) => (a < b ? -1 : 1))])}`
}
