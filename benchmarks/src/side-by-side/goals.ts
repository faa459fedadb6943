/* What must hold, and whether it does. */
import { median } from '../report/statistics.ts'
import { compare } from './compare.ts'
import type { Row } from './rows.ts'

export interface Goal {
  what: string
  goal: string
  measured: string
  verdict: 'holds' | 'short' | 'not measured'
  /** How far away: `by 1.4 x`. Empty unless short. */
  short: string
}

interface Bounds {
  what: string
  row: string
  limit: number
  /** Of our own figure, or of its ratio to the best peer's. */
  of: 'value' | 'best_peer'
  at: 'most' | 'least'
  unit: string
}

const BOUNDS: Bounds[] = [
  atBestPeer('W3 steps/s against the best peer', 'W3.stepsPerSecond', 5, 'least'),
  atMost('W3 CPU s per 1,000 steps, everything', 'W3.cpuSeconds', 0.18, 's'),
  atBestPeer('W3 CPU against the best peer', 'W3.cpuSeconds', 0.25, 'most'),
  atBestPeer('W1 p50 against the best peer', 'W1.p50Ms', 0.6, 'most'),
  atBestPeer('W2 p50 against the best peer', 'W2.p50Ms', 0.4, 'most'),
  atBestPeer('W4 1,000 steps against the best peer', 'W4.p50Ms', 0.5, 'most'),
  atMost('W4 10,000 steps against 1,000', 'W4.factor', 11, 'x'),
  atBestPeer('W5 against the best peer', 'W5.p50Ms', 0.4, 'most'),
  atMost('W6 lateness p50', 'W6.p50Ms', 1, 'ms'),
  atMost('W6 lateness p99', 'W6.p99Ms', 5, 'ms'),
  atMost('W7 idle engine', 'W7.cpuPercent.server', 1, '% of a core'),
  atMost('W7 memory of the engine', 'W7.memoryMb.server', 120, 'MB'),
  atMost('bytes to the app, 1,000 steps against 1', 'bytes.factor', 1_100, 'x'),
]

/** @param bytesFactor bytes to the app, a run of 1,000 steps against one of 1 step */
export function goalsOf(
  rows: readonly Row[],
  given: { ours: string; peers: readonly string[]; bytesFactor: number },
): Goal[] {
  const { ours, peers, bytesFactor } = given
  const figureOf = (bounds: Bounds): { value: number; note: string } => {
    if (bounds.row === 'bytes.factor') return { value: bytesFactor, note: '' }
    if (bounds.row === 'W4.factor') return { value: ownMedian('W4.longRunMs') / ownMedian('W4.p50Ms'), note: '' }
    const row = rows.find(({ id }) => id === bounds.row)
    if (row === undefined) return { value: Number.NaN, note: '' }
    if (bounds.of === 'value') return { value: median(row.values[ours] ?? []), note: '' }
    const { bestPeer, ratios } = compare(row, { ours, peers })
    return { value: ratios[bestPeer ?? '']?.median ?? Number.NaN, note: bestPeer === null ? '' : ` of ${bestPeer}` }
  }
  const ownMedian = (id: string) => median(rows.find(row => row.id === id)?.values[ours] ?? [])
  return BOUNDS.map(bounds => judge(bounds, figureOf(bounds)))
}

function judge(bounds: Bounds, { value, note }: { value: number; note: string }): Goal {
  const { what, limit, at, unit } = bounds
  const goal = `${at === 'most' ? '<=' : '>='} ${limit.toLocaleString('en')} ${unit}`
  if (Number.isNaN(value)) return { what, goal, measured: '-', verdict: 'not measured', short: '' }
  const measured = `${shown(value)} ${unit}${note}`
  const holds = at === 'most' ? value <= limit : value >= limit
  if (holds) return { what, goal, measured, verdict: 'holds', short: '' }
  const factor = at === 'most' ? value / limit : limit / value
  return { what, goal, measured, verdict: 'short', short: `by ${shown(factor)} x` }
}

function atBestPeer(what: string, row: string, limit: number, at: Bounds['at']): Bounds {
  return { what, row, limit, at, of: 'best_peer', unit: 'x' }
}

function atMost(what: string, row: string, limit: number, unit: string): Bounds {
  return { what, row, limit, at: 'most', of: 'value', unit }
}

function shown(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: value >= 1_000 ? 4 : 3 })
}
