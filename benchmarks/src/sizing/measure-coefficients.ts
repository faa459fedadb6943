import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Coefficients, Costs } from './coefficients.ts'
import { fitCosts, fitTransactions } from './fit.ts'
import { type Observed, startBench } from './observe.ts'
import { countsOf, KINDS, type Needs, predict, type Shape } from './predict.ts'

/** What was observed, for whoever wants to fit it otherwise. */
const FILE = fileURLToPath(new URL('../../results/sizing.json', import.meta.url))
const KIB = 1_024
const SECONDS = 10
/** Few and many runs, short and long ones, small and large payloads: as many differences as there are unknowns, and more. */
const SHAPES: Shape[] = [
  { runsPerSecond: 0, steps: 0, payloadBytes: 0 },
  { runsPerSecond: 50, steps: 1, payloadBytes: 100 },
  { runsPerSecond: 50, steps: 10, payloadBytes: 100 },
  { runsPerSecond: 100, steps: 1, payloadBytes: 100 },
  { runsPerSecond: 100, steps: 5, payloadBytes: KIB },
  { runsPerSecond: 300, steps: 1, payloadBytes: KIB },
  { runsPerSecond: 200, steps: 5, payloadBytes: 100 },
  { runsPerSecond: 30, steps: 100, payloadBytes: 100 },
  { runsPerSecond: 300, steps: 10, payloadBytes: 100 },
  { runsPerSecond: 600, steps: 10, payloadBytes: 100 },
  { runsPerSecond: 20, steps: 1, payloadBytes: 32 * KIB },
  { runsPerSecond: 20, steps: 8, payloadBytes: 32 * KIB },
]
/** The share of the machine's cores up to which it is not full. */
const ROOM = 0.65
const ALL = KINDS
/** Rows stay; how they got there does not matter. */
const STORED: readonly (keyof Costs)[] = ['run', 'step', 'eventByte', 'outputByte']

/** Measures all shapes, about three minutes, and prints the coefficients as `coefficients.ts` has them. */
export async function measureCoefficients(): Promise<void> {
  const bench = await startBench()
  const observed: Observed[] = []
  try {
    for (const shape of SHAPES) {
      observed.push(await bench.observe(shape, SECONDS))
      process.stderr.write('.')
    }
  } finally {
    await bench.stop()
  }
  process.stderr.write('\n')
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(FILE, `${JSON.stringify(observed, null, 2)}\n`)
  const coefficients = coefficientsOf(observed)
  const text = JSON.stringify(coefficients, (_, value) => (typeof value === 'number' ? short(value) : value), 2)
  console.log(`export const COEFFICIENTS: Coefficients = ${text}\n`)
  for (const one of observed.filter(({ shape }) => shape.runsPerSecond > 0)) {
    const { runsPerSecond, steps, payloadBytes } = one.shape
    console.log(
      `// ${runsPerSecond.toFixed(0)} runs/s of ${steps} steps, ${payloadBytes} B: ${offBy(one, coefficients)}`,
    )
  }
}

function hasRoom({ needs }: Observed): boolean {
  return needs.engineCores + needs.appCores + needs.postgresCores <= cpus().length * ROOM
}

/** How far the coefficients are from what they were made of. */
function offBy({ shape, needs }: Observed, coefficients: Coefficients): string {
  const predicted = predict(shape, coefficients)
  return (['transactions', 'engineCores', 'appCores', 'postgresCores', 'walBytes', 'networkBytes'] as const)
    .map(key => `${key} ${((predicted[key] / needs[key] - 1) * 100).toFixed(0)} %`)
    .join(', ')
}

function coefficientsOf(observed: Observed[]): Coefficients {
  const fit = (amountOf: (needs: Needs) => number, kinds: readonly (keyof Costs)[] = ALL) =>
    fitCosts(
      observed.map(({ shape, needs }) => ({ counts: countsOf(shape, needs.transactions), amount: amountOf(needs) })),
      kinds,
    )
  return {
    machine: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}`,
    // On a machine that is full everything takes longer, so batches are larger than they will be on one that is sized right.
    transactions: fitTransactions(
      observed.filter(hasRoom).map(({ shape, needs }) => ({ shape, transactions: needs.transactions })),
    ),
    engineCpuMs: fit(needs => needs.engineCores * 1_000),
    appCpuMs: fit(needs => needs.appCores * 1_000),
    postgresCpuMs: fit(needs => needs.postgresCores * 1_000),
    walBytes: fit(needs => needs.walBytes),
    walFlushes: fit(needs => needs.walFlushes, ['transaction', 'second']),
    networkBytes: fit(needs => needs.networkBytes),
    diskBytes: {
      events: fit(needs => needs.diskBytes.events, STORED),
      journal: fit(needs => needs.diskBytes.journal, STORED),
      runs_done: fit(needs => needs.diskBytes.runs_done, STORED),
      turns: fit(needs => needs.diskBytes.turns, STORED),
    },
  }
}

/** Three digits: more would claim more than was measured. */
function short(value: number): number {
  return Number(value.toPrecision(3))
}
