/** Who waits for the macrotask that runs now to be over. One immediate serves all of them: a busy process has hundreds. */
let waiting: (() => void)[] = []

/**
 * Resolves when the current macrotask is over: every microtask has run by then, so that whatever code could go on
 * without something from outside has gone on.
 */
export function nextMacrotask(): Promise<void> {
  return new Promise(resolve => {
    if (waiting.push(resolve) > 1) return
    if (typeof setImmediate === 'function') setImmediate(resolveAll)
    else setTimeout(resolveAll, 0)
  })
}

/** What goes on now runs in microtasks, after this; who waits again waits for the next macrotask. */
function resolveAll(): void {
  const resolves = waiting
  waiting = []
  for (const resolve of resolves) resolve()
}
