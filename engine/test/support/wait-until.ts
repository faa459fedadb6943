import { setTimeout as pause } from 'node:timers/promises'

const LOOK_MS = 15

/** Looks until the condition holds; fails with its name, and what `explain` says, when it does not in time. */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs?: number; explain?: () => string | Promise<string> } = {},
): Promise<void> {
  const deadline = performance.now() + (options.timeoutMs ?? 30_000)
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Not in time: ${what}. ${(await options.explain?.()) ?? ''}`)
    await pause(LOOK_MS)
  }
}
