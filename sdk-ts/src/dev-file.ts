/** What a local `stepwell dev` tells the apps of this machine: `~/.stepwell/dev.json`. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { isSecret } from '@stepwell/protocol'
import { isRecord } from './read-entries.ts'

/** Where the engine listens, while it runs, and the key of its workspace, which stays. */
export interface DevFile {
  url: string | undefined
  signingKey: string | undefined
}

/** The file, or null when there is none, it is unreadable, or this is production, where it is not looked for. */
export async function readDevFile(): Promise<DevFile | null> {
  if (process.env.NODE_ENV === 'production') return null
  const home = process.env.STEPWELL_HOME ?? join(homedir(), '.stepwell')
  let parsed: unknown
  try {
    parsed = JSON.parse(await readFile(join(home, 'dev.json'), 'utf8'))
  } catch {
    // Not there yet, or half written: the caller looks again.
    return null
  }
  if (!isRecord(parsed)) return null
  const { url, signingKey } = parsed
  return {
    url: typeof url === 'string' && URL.canParse(url) ? url : undefined,
    signingKey: typeof signingKey === 'string' && isSecret(signingKey) ? signingKey : undefined,
  }
}
