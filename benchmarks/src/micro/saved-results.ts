import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Measured } from './measure.ts'

const FILE = fileURLToPath(new URL('../../results/micro.json', import.meta.url))

/** The figures of the last time, by the name of the case; empty when there are none. */
export function readSaved(): Map<string, Measured> {
  try {
    const rows = JSON.parse(readFileSync(FILE, 'utf8')) as Measured[]
    return new Map(rows.map(row => [row.name, row]))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw error
  }
}

/** Keeps figures for the next time; cases that were not measured now keep theirs. */
export function save(rows: Measured[]): void {
  const all = readSaved()
  for (const row of rows) all.set(row.name, row)
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(FILE, `${JSON.stringify([...all.values()], null, 2)}\n`)
}
