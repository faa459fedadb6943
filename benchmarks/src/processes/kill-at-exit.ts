import { rmSync } from 'node:fs'
import { pidsOf } from './usage.ts'

/**
 * Whatever becomes of us, nothing stays behind: when this process exits, that one and all that it has started are
 * killed, also while they stand still, and the folder is deleted. `bench.ts` sees to it that a Ctrl-C is an exit.
 */
export function killAtExit(pid: number, folder?: string): { now(): void; cancel(): void } {
  function now(): void {
    signal(pidsOf({ roots: [pid] }), 'SIGKILL')
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', now)
  return { now, cancel: () => process.off('exit', now) }
}

/** Processes that have gone meanwhile are fine. */
export function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, name)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
}
