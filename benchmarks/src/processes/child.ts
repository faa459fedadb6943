/*
 * Processes that a benchmark starts. A Node child answers questions over the IPC channel (answer.ts is its side), ends
 * when its parent has gone, and ends in order when asked, which is when Node writes a CPU profile.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { killAtExit, signal } from './kill-at-exit.ts'

export interface Child {
  pid: number
  /** The end of what it has printed. */
  output(): string
  hasEnded(): boolean
  /** Asks it to end, and kills it when it does not. */
  stop(): Promise<void>
}

export interface NodeChild extends Child {
  /** Sends a question to `answerParent` in the child. Rejects when the answer is an error, or the child ends. */
  ask<Answer>(question: unknown): Promise<Answer>
}

export interface Answered {
  id: number
  answer?: unknown
  error?: string
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const OUTPUT_CHARS_MAX = 10_000
const STOP_MS = 20_000

/**
 * Starts a TypeScript file of this repository, its path from the root. `STEPWELL_BENCH_PROFILE` profiles it.
 * @param options.folder of temporary data, which goes when this process exits before the child was stopped
 */
export function startNode(options: {
  file: string
  args?: string[]
  env?: Record<string, string>
  folder?: string
}): NodeChild {
  const folder = process.env.STEPWELL_BENCH_PROFILE
  const profile = folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${folder}`]
  const child = spawn(process.execPath, [...profile, '--import', 'tsx', options.file, ...(options.args ?? [])], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const kept = keep(child, options.file, options.folder)
  const waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>()
  let asked = 0
  child.on('message', message => {
    const { id, answer, error } = message as Answered
    const { resolve, reject } = waiting.get(id) ?? {}
    waiting.delete(id)
    if (error !== undefined) reject?.(new Error(`${options.file}: ${error}`))
    // The one who asked names the type of the answer.
    else resolve?.(answer as never)
  })
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error(`${options.file} has ended:\n${kept.output()}`))
  })
  return {
    ...kept,
    ask: question =>
      new Promise((resolve, reject) => {
        if (kept.hasEnded()) return reject(new Error(`${options.file} has ended:\n${kept.output()}`))
        asked += 1
        waiting.set(asked, { resolve, reject })
        child.send({ id: asked, question })
      }),
  }
}

/** Starts any other program. */
export function startProgram(options: { file: string; args: string[]; cwd: string; env?: Record<string, string> }) {
  const { file, args, cwd, env } = options
  return keep(spawn(file, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] }), file)
}

/** Waits until `check` says yes. An error of it is a no. */
export async function waitUntilUp(child: Child, options: { what: string; limitMs: number; check(): Promise<boolean> }) {
  const untilMs = performance.now() + options.limitMs
  while (!(await options.check().catch(() => false))) {
    if (child.hasEnded() || performance.now() > untilMs)
      throw new Error(`${options.what} did not start:\n${child.output()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

function keep(child: ChildProcess, name: string, folder?: string): Child {
  let output = ''
  const collect = (chunk: unknown) => {
    output = (output + String(chunk)).slice(-OUTPUT_CHARS_MAX)
  }
  child.stdout?.on('data', collect)
  child.stderr?.on('data', collect)
  child.on('error', error => collect(error.stack))
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  const { pid } = child
  if (pid === undefined) throw new Error(`${name} could not be started.`)
  const kill = killAtExit(pid, folder)
  return {
    pid,
    output: () => output,
    hasEnded,
    async stop() {
      signal([pid], 'SIGTERM')
      const timer = setTimeout(kill.now, STOP_MS)
      if (!hasEnded()) await ended
      clearTimeout(timer)
      kill.cancel()
    },
  }
}
