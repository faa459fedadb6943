import { type ChildProcessByStdio, type SpawnOptions, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { errorCode } from './error.ts'

const MAX_OUTPUT_CHARS = 64 * 1024

/** Runs a program to its end and collects what it said. Never rejects: not starting is an outcome too. */
export function runToEnd(options: {
  file: string
  args: readonly string[]
  identity: Pick<SpawnOptions, 'uid' | 'gid'>
  env: Record<string, string>
  timeoutMs: number
}): Promise<{ ok: boolean; output: string; code: string | undefined }> {
  const { file, args, identity, env, timeoutMs } = options
  return new Promise(resolve => {
    const notStarted = (error: unknown) =>
      resolve({ ok: false, output: error instanceof Error ? error.message : String(error), code: errorCode(error) })
    let child: ChildProcessByStdio<null, Readable, Readable>
    try {
      child = spawn(file, args, {
        ...identity,
        cwd: process.platform === 'win32' ? undefined : '/',
        env: environmentOf(env),
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: timeoutMs,
        windowsHide: true,
      })
    } catch (error) {
      // Some errors of the system are thrown (EPERM), others are emitted (ENOENT).
      return notStarted(error)
    }
    let output = ''
    const collect = (chunk: Buffer) => {
      if (output.length < MAX_OUTPUT_CHARS) output += chunk.toString('utf8')
    }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', notStarted)
    child.on('close', (code, signal) => {
      const said = output.trim()
      resolve({ ok: code === 0, output: said || `it ended with ${signal ?? `exit code ${code}`}`, code: undefined })
    })
  })
}

/**
 * The environment of the binaries. Not ours: PGDATA, PGOPTIONS, LANG and the like change what they do, and messages
 * must be in English for us to read. On Windows they do not start without the system's variables.
 */
export function environmentOf(extra: Record<string, string>): Record<string, string | undefined> {
  const inherited = process.platform === 'win32' ? process.env : {}
  return { ...inherited, PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', ...extra }
}
