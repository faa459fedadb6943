import type { SystemFacts } from '../workloads/bench-system.ts'
import type { Goal } from './goals.ts'
import type { Machine } from './machine.ts'
import type { Measurement } from './measure.ts'
import type { Row } from './rows.ts'

/** All of one run of the benchmark, as it is in the JSON file. */
export interface Result {
  at: string
  mode: 'full' | 'quick'
  rounds: number
  machine: Machine
  /** Stepwell first. */
  systems: { name: string; facts: SystemFacts }[]
  /** Why a peer, or one of its figures, is missing. */
  missing: string[]
  rows: Row[]
  bytesToApp: BytesToApp | null
  goals: Goal[]
  measurements: Measurement[]
}

export interface BytesToApp {
  ofOneStep: number
  ofManySteps: number
  manySteps: number
}
