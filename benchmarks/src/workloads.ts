import { randomUUID } from 'node:crypto'
import type { CpuSeconds, System } from './system.ts'

export interface Measured {
  name: string
  /** Milliseconds; one run from the event to the result seen, or null for throughput workloads. */
  p50: number | null
  p95: number | null
  stepsPerSecond: number | null
  /** CPU seconds per 1,000 steps. */
  cpu: CpuSeconds
}

const POLL_MS = 1
const EVENTS_PER_CALL = 1_000

/** One run at a time: how long from sending its event until its result is seen. */
export async function measureLatency(
  system: System,
  given: { name: string; steps: number; runs: number },
): Promise<Measured> {
  const event = { name: `bench.steps-${given.steps}` }
  for (let n = 0; n < Math.ceil(given.runs / 5); n += 1) await runOnce(system, event)
  const before = system.cpu()
  const times: number[] = []
  for (let n = 0; n < given.runs; n += 1) {
    const startedAt = performance.now()
    await runOnce(system, event)
    times.push(performance.now() - startedAt)
  }
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
  return {
    name: given.name,
    p50: at(0.5),
    p95: at(0.95),
    stepsPerSecond: null,
    cpu: per1000Steps(before, system.cpu(), given.runs * given.steps),
  }
}

/** Many runs started at once: how many steps per second until the last is done. */
export async function measureThroughput(
  system: System,
  given: { name: string; steps: number; runs: number },
): Promise<Measured> {
  const before = system.cpu()
  const startedAt = performance.now()
  const events = Array.from({ length: given.runs }, () => ({ name: `bench.steps-${given.steps}` }))
  for (let at = 0; at < events.length; at += EVENTS_PER_CALL)
    await system.client.send(events.slice(at, at + EVENTS_PER_CALL))
  while (await isBusy(system)) await pause(10)
  const seconds = (performance.now() - startedAt) / 1_000
  return {
    name: given.name,
    p50: null,
    p95: null,
    stepsPerSecond: (given.runs * given.steps) / seconds,
    cpu: per1000Steps(before, system.cpu(), given.runs * given.steps),
  }
}

async function runOnce(system: System, event: { name: string }): Promise<void> {
  const id = `bench-${randomUUID()}`
  const ended = system.whenEnded(id)
  const [sent] = await system.client.send({ ...event, id })
  const run = sent?.runs[0]
  if (run === undefined) throw new Error(`"${event.name}" started nothing.`)
  await ended
  for (;;) {
    const { state } = await system.client.getRun(run)
    if (state === 'completed') return
    if (state === 'failed') throw new Error(`${run} failed.`)
    await pause(POLL_MS)
  }
}

async function isBusy(system: System): Promise<boolean> {
  for (const state of ['running', 'queued', 'waiting']) {
    const response = await fetch(`${system.engineUrl}/v1/runs?limit=1&state=${state}`)
    if (((await response.json()) as { runs: unknown[] }).runs.length > 0) return true
  }
  return false
}

function per1000Steps(before: CpuSeconds, after: CpuSeconds, steps: number): CpuSeconds {
  const share = (part: keyof CpuSeconds) => ((after[part] - before[part]) / steps) * 1_000
  return { engine: share('engine'), app: share('app'), postgres: share('postgres') }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
