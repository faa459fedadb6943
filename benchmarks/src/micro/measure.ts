import type { Meter } from './meter.ts'

/** One thing to measure. An operation handles `items` things at once, so that batches of all sizes compare per item. */
export interface Case {
  name: string
  items: number
  run: () => unknown
  /** Before and after each operation, not timed. A case that has neither and is synchronous is timed in batches. */
  prepare?: () => Promise<void>
  tidy?: () => Promise<void>
  /** What else to count around each operation. */
  meter?: Meter
}

export interface Measured {
  name: string
  items: number
  operations: number
  meanUs: number
  p50Us: number
  p95Us: number
  /** Per item; null where nobody counts. */
  walBytes: number | null
  postgresUs: number | null
}

const WARM_UP_SHARE = 0.2
/** A clock that is read around a microsecond measures itself. */
const BATCH_MS = 1
const SAMPLES_MIN = 10

/** Runs a case for about `seconds`, the first part of it unmeasured. */
export async function measure(given: Case, seconds: number): Promise<Measured> {
  const isAsync = given.prepare !== undefined || given.meter !== undefined || given.run() instanceof Promise
  const batch = isAsync ? 1 : findBatch(given.run)
  const sampleOnce = isAsync ? () => timeOne(given) : async () => timeBatch(given.run, batch)
  await repeat(sampleOnce, seconds * WARM_UP_SHARE)
  given.meter?.reset()
  const samples = await repeat(sampleOnce, seconds)
  const operations = samples.length * batch
  const counted = given.meter?.read() ?? null
  samples.sort((a, b) => a - b)
  return {
    name: given.name,
    items: given.items,
    operations,
    meanUs: samples.reduce((sum, us) => sum + us, 0) / samples.length,
    p50Us: samples[Math.floor(samples.length * 0.5)] ?? 0,
    p95Us: samples[Math.floor(samples.length * 0.95)] ?? 0,
    walBytes: counted === null ? null : counted.walBytes / operations / given.items,
    postgresUs: counted === null ? null : counted.cpuUs / operations / given.items,
  }
}

async function repeat(sampleOnce: () => Promise<number>, seconds: number): Promise<number[]> {
  const samples: number[] = []
  const until = performance.now() + seconds * 1_000
  while (performance.now() < until || samples.length < SAMPLES_MIN) samples.push(await sampleOnce())
  return samples
}

async function timeOne(given: Case): Promise<number> {
  await given.prepare?.()
  await given.meter?.begin()
  const startedAt = performance.now()
  await given.run()
  const us = (performance.now() - startedAt) * 1_000
  await given.meter?.end()
  await given.tidy?.()
  return us
}

function timeBatch(run: () => unknown, batch: number): number {
  const startedAt = performance.now()
  for (let n = 0; n < batch; n += 1) run()
  return ((performance.now() - startedAt) * 1_000) / batch
}

/** How many operations take a batch's time. */
function findBatch(run: () => unknown): number {
  let batch = 1
  while (timeBatch(run, batch) * batch < BATCH_MS * 1_000) batch *= 2
  return batch
}
