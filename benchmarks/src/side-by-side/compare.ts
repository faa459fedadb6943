/* Stepwell against the peers, row by row. */
import { median, pairedRatio, type Ratio } from '../report/statistics.ts'
import { type Row, valuesOf } from './rows.ts'

export interface Comparison {
  row: Row
  ratios: Record<string, Ratio>
  /** The peer with the best median, or null when none has a value. */
  bestPeer: string | null
}

export function compare(row: Row, given: { ours: string; peers: readonly string[] }): Comparison {
  const ours = row.values[given.ours] ?? []
  const ratios = Object.fromEntries(given.peers.map(peer => [peer, pairedRatio(ours, row.values[peer] ?? [])]))
  const known = given.peers.filter(peer => valuesOf(row, peer).length > 0)
  const better = (a: string, b: string) => {
    const [ofA, ofB] = [median(valuesOf(row, a)), median(valuesOf(row, b))]
    return row.better === 'less' ? ofA - ofB : ofB - ofA
  }
  return { row, ratios, bestPeer: [...known].sort(better)[0] ?? null }
}
