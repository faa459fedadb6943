/*
 * `dev.json`: how the apps of this machine find the dev engine and its key. The key stays for good, so that an app
 * keeps working across restarts; where the engine is, only while it runs.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isSecret } from '@stepwell/protocol'
import { z } from 'zod'

const KEY_BYTES = 32

const schema = z.object({
  url: z.string().optional(),
  pid: z.int().positive().optional(),
  signingKey: z.string().refine(isSecret).optional(),
})

export type DevFile = z.output<typeof schema>

/** What the file says; empty when it is not there or was spoilt. */
export async function readDevFile(home: string): Promise<DevFile> {
  try {
    const parsed = schema.safeParse(JSON.parse(await readFile(pathIn(home), 'utf8')))
    return parsed.success ? parsed.data : {}
  } catch {
    return {}
  }
}

/** Replaces the file as a whole: a reader sees the old one or the new one. Only its owner can read it. */
export async function writeDevFile(home: string, file: DevFile): Promise<void> {
  await mkdir(home, { recursive: true, mode: 0o700 })
  const draft = `${pathIn(home)}.${randomBytes(4).toString('hex')}`
  await writeFile(draft, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 })
  await rename(draft, pathIn(home))
}

/** After a clean stop nothing leads here any more. Leaves alone what another process has written meanwhile. */
export async function forgetEngine(home: string, pid: number): Promise<void> {
  const file = await readDevFile(home)
  if (file.pid !== pid || file.signingKey === undefined) return
  await writeDevFile(home, { signingKey: file.signingKey })
}

export function newSigningKey(): string {
  return `whsec_${randomBytes(KEY_BYTES).toString('base64')}`
}

function pathIn(home: string): string {
  return join(home, 'dev.json')
}
