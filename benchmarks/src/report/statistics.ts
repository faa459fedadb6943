/** The value below which this share of the values lies (nearest rank). NaN of no values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

/** The middle value, or the mean of the middle two. NaN of no values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (sorted.length % 2 === 1) return sorted[Math.floor(middle)] ?? Number.NaN
  return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

export interface Ratio {
  median: number
  min: number
  max: number
}

/** Ours divided by theirs, round by round: what the machine did to a round, it did to both. */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): Ratio {
  const ratios = ours.map((value, round) => value / (theirs[round] ?? Number.NaN)).filter(Number.isFinite)
  if (ratios.length === 0) return { median: Number.NaN, min: Number.NaN, max: Number.NaN }
  return { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) }
}
