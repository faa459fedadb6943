import type { Writable } from 'node:stream'

/** What a command knows of the process it runs in. main.ts makes the real one. */
export interface World {
  args: readonly string[]
  env: Readonly<Record<string, string | undefined>>
  pid: number
  stdout: Writable & { isTTY?: boolean }
  stderr: Writable & { isTTY?: boolean }
  /** Resolves when somebody asks the process to stop. */
  stopAsked: Promise<NodeJS.Signals>
}

/** 130 is given by main.ts, when a second signal cuts a stop short. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const
