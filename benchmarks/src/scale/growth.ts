import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One figure at several sizes, the smallest first. */
export interface Growth {
  name: string
  unit: 'ms' | 'steps/s' | 'CPU ms/1,000 steps'
  points: { at: string; value: number }[]
  /** By what factor it may get worse from the first point to any other; null when it is shown and not judged. */
  limit: number | null
}

interface Saved extends Growth {
  factor: number
  verdict: string
  machine: string
  at: string
}

/** Flat, in the words of this benchmark. */
export const FLAT = 1.5

const FILE = fileURLToPath(new URL('../../results/scale.json', import.meta.url))

/** How much worse the worst point is than the first: above 1 is slower, whatever the unit. */
export function factorOf({ unit, points }: Growth): number {
  const values = points.map(point => point.value)
  const first = values[0] ?? Number.NaN
  return unit === 'steps/s' ? first / Math.min(...values) : Math.max(...values) / first
}

export function printGrowth(growth: Growth): void {
  const points = growth.points.map(({ at, value }) => `${at}: ${round(value)}`).join('   ')
  console.log(`${growth.name}, ${growth.unit}\n    ${points}   => x ${factorOf(growth).toFixed(2)}, ${verdict(growth)}`)
}

/** Keeps what was measured; questions that were not asked now keep their last answer. */
export function saveGrowths(growths: Growth[]): void {
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}`
  const at = new Date().toISOString()
  const all = new Map(readSaved().map(row => [row.name, row]))
  for (const growth of growths)
    all.set(growth.name, { ...growth, factor: factorOf(growth), verdict: verdict(growth), machine, at })
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(FILE, `${JSON.stringify([...all.values()], null, 2)}\n`)
}

function readSaved(): Saved[] {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as Saved[]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function verdict(growth: Growth): string {
  if (growth.limit === null) return 'not judged'
  const word = growth.limit === FLAT ? 'flat' : `within x ${growth.limit}`
  return factorOf(growth) <= growth.limit ? word : `NOT ${word}`
}

function round(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: value < 100 ? 2 : 0 })
}
