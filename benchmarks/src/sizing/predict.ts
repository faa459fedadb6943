import { type Coefficients, type Costs, DISK_TABLES, type DiskTable } from './coefficients.ts'

/** A load. The payload is that of the event and of each step's output. */
export interface Shape {
  runsPerSecond: number
  steps: number
  payloadBytes: number
}

/** What a load takes, each second. */
export interface Needs {
  transactions: number
  engineCores: number
  appCores: number
  postgresCores: number
  walBytes: number
  walFlushes: number
  networkBytes: number
  /** By table: what stays. */
  diskBytes: Record<DiskTable, number>
}

/** How often each thing that costs happens in a second. */
export type Counts = Costs

/** How full the one core of an engine process may be before another process has to help. */
const ENGINE_FULL = 0.8
const ENGINES_MAX = 1_000

/** What the load of that shape takes, by these coefficients, on as many engine processes as it needs. */
export function predict(shape: Shape, coefficients: Coefficients): Needs & { engines: number } {
  for (let engines = 1; ; engines += 1) {
    const share = predictOne({ ...shape, runsPerSecond: shape.runsPerSecond / engines }, coefficients)
    if (share.engineCores <= ENGINE_FULL || engines === ENGINES_MAX) return { ...times(share, engines), engines }
  }
}

function times(needs: Needs, count: number): Needs {
  return {
    transactions: needs.transactions * count,
    engineCores: needs.engineCores * count,
    appCores: needs.appCores * count,
    postgresCores: needs.postgresCores * count,
    walBytes: needs.walBytes * count,
    walFlushes: needs.walFlushes * count,
    networkBytes: needs.networkBytes * count,
    diskBytes: diskOf(table => needs.diskBytes[table] * count),
  }
}

function predictOne(shape: Shape, coefficients: Coefficients): Needs {
  const counts = countsOf(shape, transactionsOf(shape, coefficients.transactions))
  const cores = (costs: Costs) => total(costs, counts) / 1_000
  return {
    transactions: counts.transaction,
    engineCores: cores(coefficients.engineCpuMs),
    appCores: cores(coefficients.appCpuMs),
    postgresCores: cores(coefficients.postgresCpuMs),
    walBytes: total(coefficients.walBytes, counts),
    walFlushes: total(coefficients.walFlushes, counts),
    networkBytes: total(coefficients.networkBytes, counts),
    diskBytes: diskOf(table => total(coefficients.diskBytes[table], counts)),
  }
}

/** The higher, the sharper the bend between each for itself and all in batches. */
const BEND = 4

/**
 * Group commit: the next batch is what came while the one before was under way. Where little comes each commit is for
 * itself; where much comes they follow one another, and it is the batches that grow.
 */
export function transactionsOf(shape: Shape, given: Coefficients['transactions']): number {
  const alone = shape.runsPerSecond * (given.perRun + shape.steps * given.perStep)
  return alone / (1 + ((alone * given.batchMs) / 1_000) ** BEND) ** (1 / BEND)
}

/** The other way round: how many it would have been without batches. NaN for more than `batchMs` allows. */
export function aloneOf(transactions: number, batchMs: number): number {
  return transactions / (1 - ((transactions * batchMs) / 1_000) ** BEND) ** (1 / BEND)
}

export function countsOf(shape: Shape, transactions: number): Counts {
  const { runsPerSecond, steps, payloadBytes } = shape
  return {
    run: runsPerSecond,
    step: runsPerSecond * steps,
    transaction: transactions,
    eventByte: runsPerSecond * payloadBytes,
    outputByte: runsPerSecond * steps * payloadBytes,
    second: 1,
  }
}

/** One figure for each table of history. */
export function diskOf(figure: (table: DiskTable) => number): Record<DiskTable, number> {
  // Every table is in the list, so every key is in the record.
  return Object.fromEntries(DISK_TABLES.map(table => [table, figure(table)])) as Record<DiskTable, number>
}

function total(costs: Costs, counts: Counts): number {
  return KINDS.reduce((sum, kind) => sum + costs[kind] * counts[kind], 0)
}

export const KINDS = ['run', 'step', 'transaction', 'eventByte', 'outputByte', 'second'] as const
