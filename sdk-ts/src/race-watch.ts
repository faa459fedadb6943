/**
 * Sees who listens to the promises of a handler, and so which of them nobody listens to any more.
 *
 * `Promise.race` reads `constructor` of each of its promises and then calls their `then`, all with one and the same
 * function: a promise that has settled has decided the races of the functions that it was given. `await` reads
 * `constructor` and calls no `then`: whoever awaits listens for good. So does whoever calls `then` by hand, except where
 * what `then` gave was itself raced for, and lost. What is inside another promise (an async function that awaits) is not
 * seen from outside: a race that such a promise wins counts as undecided.
 */

/** Who listens to one promise. */
interface Listeners {
  isSettled: boolean
  isAwaited: boolean
  readonly others: (RaceEnd | Listeners)[]
}

/** The function by which a promise tells a race that it has won. */
type RaceEnd = (value: unknown) => unknown

/** The watched promises of one turn, by key. */
export class RaceWatch {
  readonly #decided = new WeakSet<RaceEnd>()
  readonly #watched = new Map<string, Listeners>()

  /** @param onListen is called whenever somebody begins to listen, now or later, to it or to what its `then` gave */
  watch(key: string, promise: Promise<unknown>, onListen: () => void): void {
    this.#watched.set(key, this.#listenersOf(promise, onListen))
  }

  /** Whether the promise of a key was raced for, and every race was decided by another. To be asked before it is settled. */
  hasLost(key: string): boolean {
    const listeners = this.#watched.get(key)
    return listeners !== undefined && this.#haveLost(listeners)
  }

  /** Whether anybody has ever looked at the promise of a key. */
  isListenedTo(key: string): boolean {
    const listeners = this.#watched.get(key)
    return listeners === undefined || listeners.isAwaited || listeners.others.length > 0
  }

  #haveLost({ isAwaited, others }: Listeners): boolean {
    if (isAwaited || others.length === 0) return false
    return others.every(other => (typeof other === 'function' ? this.#decided.has(other) : this.#haveLost(other)))
  }

  #listenersOf(promise: Promise<unknown>, onListen: () => void): Listeners {
    const listeners: Listeners = { isSettled: false, isAwaited: false, others: [] }
    const settle = () => {
      listeners.isSettled = true
      for (const other of listeners.others) if (typeof other === 'function') this.#decided.add(other)
    }
    void Promise.prototype.then.call(promise, settle, settle)
    /** `constructor` was read, and whether `then` follows is not known yet. */
    let isRead = false
    let isCallingThen = false
    const noteAwait = () => {
      if (isRead) listeners.isAwaited = true
      isRead = false
    }
    const readConstructor = () => {
      // The own `then` of promises reads it too.
      if (isCallingThen) return Promise
      noteAwait()
      isRead = true
      queueMicrotask(noteAwait)
      onListen()
      return Promise
    }
    const listen = (onFulfilled?: RaceEnd | null, onRejected?: RaceEnd | null) => {
      const isRace = isRead && typeof onFulfilled === 'function'
      isRead = false
      isCallingThen = true
      const next = Promise.prototype.then.call(promise, onFulfilled, onRejected)
      isCallingThen = false
      onListen()
      if (isRace && listeners.isSettled) this.#decided.add(onFulfilled)
      listeners.others.push(isRace ? onFulfilled : this.#listenersOf(next, onListen))
      return next
    }
    Object.defineProperty(promise, 'constructor', { get: readConstructor })
    Object.defineProperty(promise, 'then', { value: listen })
    return listeners
  }
}
