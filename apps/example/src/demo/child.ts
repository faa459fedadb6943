/** Programs that the demo starts and kills: node itself with tsx's loader, so that a signal hits the real process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ROOT } from './places.ts'

export interface Child {
  name: string
  pid: number
  hasEnded(): boolean
  /** Resolves when it is gone, whatever the reason. */
  ended: Promise<void>
  /** SIGKILL: no handler runs, nothing is tidied up. Resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGTERM, and SIGKILL when that takes too long. */
  stop(): Promise<void>
  /** What it printed last. */
  logTail(): string
}

export interface ChildOptions {
  name: string
  /** A TypeScript file. */
  file: string
  args?: string[]
  env: Record<string, string>
  /** Takes all that it prints, after what is there already; null: it prints where we print. */
  logPath: string | null
}

const STOP_MS = 15_000
const POLL_MS = 20
const TAIL_LINES = 12

/** Starts a program. */
export function startChild(options: ChildOptions): Child {
  const { name, file, args = [], env, logPath } = options
  const log = logPath === null ? 'inherit' : openSync(logPath, 'a')
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file, ...args], {
    cwd: ROOT,
    env: { ...inheritedEnv(process.env), ...env },
    stdio: ['ignore', log, log],
    // A group of its own: Ctrl-C is for the demo, which then stops its children in order.
    detached: true,
  })
  if (log !== 'inherit') closeSync(log)
  const ended = endOf(child)
  return {
    name,
    pid: child.pid ?? 0,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined,
    ended,
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
    async stop() {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(timer)
    },
    logTail: () => (logPath === null ? '' : readTail(logPath)),
  }
}

/**
 * Waits until a URL answers with 2xx.
 * @throws Error when the program ends first or the time is up
 */
export async function waitUntilUp(child: Child, url: string, timeoutMs: number): Promise<void> {
  const untilMs = performance.now() + timeoutMs
  while (performance.now() < untilMs) {
    if (child.hasEnded()) throw new Error(`The ${child.name} ended at its start.`)
    if (await isUp(url)) return
    await sleep(POLL_MS)
  }
  throw new Error(`The ${child.name} did not answer at ${url} within ${timeoutMs / 1000} s.`)
}

async function isUp(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) })
    await answer.arrayBuffer()
    return answer.ok
  } catch {
    return false
  }
}

function endOf(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    child.once('exit', () => resolve())
    // It could not be started at all.
    child.once('error', () => resolve())
  })
}

/** What may point at another engine, another database or another way to run stays outside. */
function inheritedEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(
    ([name]) => !/^(?:STEPWELL_|GATEKEEPER_|PG)/.test(name) && !['NODE_ENV', 'DATABASE_URL', 'PORT'].includes(name),
  )
  return Object.fromEntries(kept)
}

function readTail(path: string): string {
  try {
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
    // Frames of a stack push what was said above them out of sight.
    const telling = lines.filter(line => !/^\s+at /.test(line))
    return telling.slice(-TAIL_LINES).join('\n')
  } catch {
    return '(no log)'
  }
}
