/**
 * The promise of a step: it knows who listens to it, and so whether what comes to it would reach anybody.
 *
 * `Promise.race` and its like read `constructor` of each of their promises and then call its `then` with functions of
 * their own. A race gives all of them the same function, and is over when that function is called; `Promise.any` shares
 * the first of its two functions, `Promise.all` the second. `await` reads `constructor` and calls no `then`: who awaits
 * listens for good. So does a function that is given to `then` by hand, unless somebody listens to what that `then` gave,
 * and all of those races are over. What an async function makes of a promise that it awaits cannot be seen from here.
 */

/** What the promises of one turn share. */
export interface Listening {
  /** Functions of races that are over. */
  readonly over: WeakSet<object>
  /** Somebody begins to listen to a promise, or to what its `then` gave. */
  onListen: (promise: StepPromise) => void
}

type Listener =
  /** The two functions of a `Promise.race` or its like. */
  | { kind: 'race'; functions: readonly object[] }
  /** A `then` by hand, and what it gave; `acts` when it does something with a value. */
  | { kind: 'then'; acts: boolean; next: StepPromise }

type BuiltIn = (value: unknown) => void
type OnFulfilled<T> = ((value: unknown) => T | PromiseLike<T>) | null | undefined
type OnRejected<T> = ((reason: unknown) => T | PromiseLike<T>) | null | undefined

export class StepPromise extends Promise<unknown> {
  #listening: Listening | null = null
  /** The promise that this one came from, by `then`. */
  #origin: StepPromise = this
  #listeners: Listener[] = []
  #isAwaited = false
  /** `constructor` was read, and whether `then` follows is not known yet. */
  #isRead = false
  /** What `constructor` is to the own methods of promises, which read it too. */
  #species: PromiseConstructor | null = null
  /** Whether anybody has ever listened. */
  wasHeard = false

  /** One that is pending, and what settles it. */
  static pending(listening: Listening) {
    let resolve: (value: unknown) => void = () => {}
    let reject: (error: unknown) => void = () => {}
    const promise = new StepPromise((onValue, onError) => {
      resolve = onValue
      reject = onError
    })
    promise.#listening = listening
    return { promise, resolve, reject }
  }

  /** Whether somebody listens. To be asked while it is pending. */
  get isHeard(): boolean {
    return this.#isAwaited || this.#isRead || this.#listeners.some(listener => this.#isLive(listener))
  }

  /** It may be rejected without being awaited, as the loser of a race; this is not listening. */
  allowRejection(): void {
    void this.#thenAs(Promise, undefined, () => {})
  }

  // biome-ignore lint/complexity/useLiteralKeys: without the brackets it would be the constructor of the class
  override get ['constructor'](): PromiseConstructor {
    if (this.#species !== null) return this.#species
    this.#noteAwait()
    this.#isRead = true
    // A race calls `then` before anything else can happen.
    queueMicrotask(() => this.#noteAwait())
    this.#noteListener()
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  override then<A = unknown, B = never>(onFulfilled?: OnFulfilled<A>, onRejected?: OnRejected<B>): Promise<A | B> {
    const isRace = this.#isRead && isBuiltIn(onFulfilled) && isBuiltIn(onRejected)
    if (isRace) this.#isRead = false
    else this.#noteAwait()
    const next = isRace ? this.#enterRace(onFulfilled, onRejected) : this.#listenByHand(onFulfilled, onRejected)
    this.#noteListener()
    // What the functions give is what `then` gives.
    return next as Promise<A | B>
  }

  override finally(onFinally?: (() => void) | null): Promise<unknown> {
    // It reads `constructor` and calls `then`, and is no race.
    this.#species = Promise
    try {
      return super.finally(onFinally)
    } finally {
      this.#species = null
    }
  }

  #enterRace(onFulfilled: BuiltIn, onRejected: BuiltIn): Promise<unknown> {
    // One that is raced for in a loop does not keep all the races that are over.
    while (this.#listeners.length > 0 && !this.#isLive(this.#listeners.at(-1) as Listener)) this.#listeners.pop()
    this.#listeners.push({ kind: 'race', functions: [onFulfilled, onRejected] })
    return this.#thenAs(Promise, this.#ending(onFulfilled), this.#ending(onRejected))
  }

  #listenByHand(onFulfilled: unknown, onRejected: unknown): StepPromise {
    // `constructor` says so, and `then` makes what that is.
    const next = this.#thenAs(StepPromise, onFulfilled, onRejected) as StepPromise
    next.#listening = this.#listening
    next.#origin = this.#origin
    this.#listeners.push({ kind: 'then', acts: typeof onFulfilled === 'function', next })
    return next
  }

  /** `then` as it is, giving a promise of this class. */
  #thenAs(species: Pick<PromiseConstructor, 'prototype'>, onFulfilled: unknown, onRejected: unknown): Promise<unknown> {
    this.#species = species as PromiseConstructor
    try {
      return super.then(onFulfilled as OnFulfilled<unknown>, onRejected as OnRejected<unknown>)
    } finally {
      this.#species = null
    }
  }

  #noteAwait(): void {
    if (this.#isRead) this.#isAwaited = true
    this.#isRead = false
  }

  #noteListener(): void {
    this.#origin.wasHeard = true
    this.wasHeard = true
    this.#listening?.onListen(this.#origin)
  }

  /** A function of a race, which is over when it is called. */
  #ending(end: BuiltIn): BuiltIn {
    return value => {
      this.#listening?.over.add(end)
      end(value)
    }
  }

  #isLive(listener: Listener): boolean {
    if (listener.kind === 'race') return !listener.functions.some(one => this.#listening?.over.has(one))
    const { acts, next } = listener
    return next.wasHeard ? next.isHeard : acts
  }
}

/** Functions that a race gives are built in; those that a handler gives are not, but for odd cases. */
function isBuiltIn(one: unknown): one is BuiltIn {
  return (
    typeof one === 'function' && one.name === '' && Function.prototype.toString.call(one).endsWith('{ [native code] }')
  )
}
