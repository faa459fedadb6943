import pc from 'picocolors'
import type { World } from './world.ts'

export type Colors = ReturnType<typeof pc.createColors>

export interface Terminal {
  /** A line for people on stdout. */
  say(line?: string): void
  /** A line about something wrong, on stderr. */
  warn(line: string): void
  colors: Colors
}

/** Lines with colour where there is somebody to see it. */
export function createTerminal(world: Pick<World, 'env' | 'stdout' | 'stderr'>): Terminal {
  return {
    say: (line = '') => void world.stdout.write(`${line}\n`),
    warn: line => void world.stderr.write(`${line}\n`),
    colors: pc.createColors(wantsColor(world)),
  }
}

/** https://no-color.org: any value that is not empty. */
function wantsColor({ env, stdout }: Pick<World, 'env' | 'stdout'>): boolean {
  if (env.NO_COLOR) return false
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0'
  return stdout.isTTY === true && env.TERM !== 'dumb'
}
