/**
 * Resolves when the current macrotask is over: every microtask has run by then, so that whatever code could go on
 * without something from outside has gone on.
 */
export function nextMacrotask(): Promise<void> {
  return new Promise(resolve => {
    if (typeof setImmediate === 'function') setImmediate(resolve)
    else setTimeout(resolve, 0)
  })
}
