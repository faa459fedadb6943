/** What a local `stepwell dev` tells the apps of this machine: `~/.stepwell/dev.json`. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { isSecret } from '@stepwell/protocol'
import { isRecord } from './read-entries.ts'

/** Where the engine listens, and the key of its default workspace. */
export interface DevFile {
  url: string
  signingKey: string
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
  if (!isRecord(parsed) || typeof parsed.url !== 'string' || typeof parsed.signingKey !== 'string') return null
  return isSecret(parsed.signingKey) ? { url: parsed.url, signingKey: parsed.signingKey } : null
}
