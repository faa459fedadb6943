/*
 * Real processes for tests that kill them.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { waitUntil } from './wait-until.ts'

const ENGINE_FOLDER = fileURLToPath(new URL('../../', import.meta.url))
const OUTPUT_CHARS_KEPT = 20_000

export interface RunningProcess {
  pid: number
  /** What it wrote last, both streams. */
  output(): string
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** Resolves with the exit code, or the signal that ended it. */
  exited: Promise<number | NodeJS.Signals>
  isRunning(): boolean
}

/** Runs a TypeScript file of the engine package in a Node process of its own: no shell between us and the signal. */
export function startProcess(file: string, args: string[], env: Record<string, string>): RunningProcess {
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', file, ...args], {
    cwd: ENGINE_FOLDER,
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', chunk => {
      output = (output + String(chunk)).slice(-OUTPUT_CHARS_KEPT)
    })
  const exited = new Promise<number | NodeJS.Signals>(resolve => {
    child.once('exit', (code, signal) => resolve(signal ?? code ?? 0))
  })
  return {
    pid: child.pid ?? 0,
    output: () => output,
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    signal: signal => void child.kill(signal),
    exited,
    isRunning: () => child.exitCode === null && child.signalCode === null,
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('No port.')
  return address.port
}

/** Waits until `GET url` answers 200. */
export async function waitForOk(url: string, from: RunningProcess): Promise<void> {
  await waitUntil(`${url} answers`, async () => {
    if (!from.isRunning()) throw new Error(`The process ended before it answered at ${url}:\n${from.output()}`)
    return (await fetch(url).catch(() => null))?.ok === true
  })
}
