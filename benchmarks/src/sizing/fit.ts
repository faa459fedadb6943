import type { Coefficients, Costs } from './coefficients.ts'
import { aloneOf, type Counts, countsOf, KINDS, type Shape, transactionsOf } from './predict.ts'

const ROUNDS = 20_000

/**
 * The costs, none of them below zero, that explain the observed amounts best: least squares, where a load ten times as
 * heavy counts ten times as much and not a hundred. By coordinate descent, which needs no library for six unknowns.
 * @param kinds which costs there can be; the others are 0
 */
export function fitCosts(observed: { counts: Counts; amount: number }[], kinds: readonly (keyof Costs)[]): Costs {
  const costs: Costs = { run: 0, step: 0, transaction: 0, eventByte: 0, outputByte: 0, second: 0 }
  const rows = observed
    .filter(({ amount }) => amount > 0)
    .map(({ counts, amount }) => ({ counts, root: Math.sqrt(amount) }))
  const errors = rows.map(({ root }) => root)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const kind of KINDS.filter(kind => kinds.includes(kind))) {
      const parts = rows.map(({ counts, root }) => counts[kind] / root)
      const square = parts.reduce((sum, part) => sum + part ** 2, 0)
      if (square === 0) continue
      const slope = parts.reduce((sum, part, at) => sum + part * (errors[at] ?? 0), 0)
      const change = Math.max(-costs[kind], slope / square)
      costs[kind] += change
      for (const [at, part] of parts.entries()) errors[at] = (errors[at] ?? 0) - part * change
    }
  }
  return costs
}

/** Up to this share of the most transactions that were seen, nearly each comes alone. */
const ALONE = 0.55
const BATCH_MS_MAX = 10
const BATCH_MS_STEP = 0.02

/** How many transactions a run and a step make when they come alone, and how long a batch takes. */
export function fitTransactions(observed: { shape: Shape; transactions: number }[]): Coefficients['transactions'] {
  let best = { error: Number.POSITIVE_INFINITY, given: { perRun: 0, perStep: 0, batchMs: 0 } }
  const loads = observed.filter(({ shape }) => shape.runsPerSecond > 0)
  const most = Math.max(...loads.map(({ transactions }) => transactions))
  // Where most is in batches already, how many there would be without them is anybody's guess.
  const apart = loads.filter(({ transactions }) => transactions <= most * ALONE)
  for (let batchMs = 0; batchMs <= BATCH_MS_MAX && (most * batchMs) / 1_000 < 1; batchMs += BATCH_MS_STEP) {
    const { run, step } = fitCosts(
      apart.map(({ shape, transactions }) => ({
        counts: countsOf(shape, 0),
        amount: aloneOf(transactions, batchMs),
      })),
      ['run', 'step'],
    )
    const given = { perRun: run, perStep: step, batchMs }
    const error = loads.reduce(
      (sum, { shape, transactions }) => sum + (transactionsOf(shape, given) / transactions - 1) ** 2,
      0,
    )
    if (error < best.error) best = { error, given }
  }
  return best.given
}
