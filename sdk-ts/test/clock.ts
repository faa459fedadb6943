/** A clock that a test moves, while sockets stay real. */
import { vi } from 'vitest'

/** To be undone with `vi.useRealTimers()`. */
export function useMovedClock(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
}

/** Lets time pass until a promise is settled, and tells how much did. */
export async function timed<T>(promise: Promise<T>): Promise<{ value: T; tookMs: number }> {
  const startMs = performance.now()
  let isSettled = false
  const settled = promise.finally(() => {
    isSettled = true
  })
  while (!isSettled) {
    await new Promise(resolve => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(50)
  }
  return { value: await settled, tookMs: performance.now() - startMs }
}

/** Waits for something outside of the clock. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise(resolve => setImmediate(resolve))
}
