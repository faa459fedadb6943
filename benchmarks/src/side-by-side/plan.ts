/* What is measured, how much of it, and how often. */
import type { Workload } from '../workloads/workloads.ts'

export const WORKLOAD_IDS = ['W1', 'W2', 'W3', 'W4', 'W5', 'W6'] as const
export type WorkloadId = (typeof WORKLOAD_IDS)[number]

export interface Plan {
  mode: 'full' | 'quick'
  rounds: number
  warmUp: Workload
  /** Before each workload: wakes connections, caches and code that stood still in another system's turn. */
  wakeUp: Workload
  workloads: Record<WorkloadId, Workload>
  /** A run of so many steps, once for each system that can; null leaves it out. */
  longRunSteps: number | null
  /** Before idling is measured: what a process put off while it was busy, and memory that it gives back, is not idling. */
  settleMs: number
  idleMs: number
}

export const FULL: Plan = {
  mode: 'full',
  rounds: 3,
  // A server runs for weeks: what is measured is code that the compilers have seen enough of.
  warmUp: { kind: 'warm_up', ms: 20_000, burst: 1_000 },
  wakeUp: { kind: 'at_once', runs: 300, steps: 5 },
  workloads: {
    W1: { kind: 'one_by_one', runs: 500, steps: 1, limitMs: 3_000 },
    W2: { kind: 'one_by_one', runs: 250, steps: 10, limitMs: 3_000 },
    W3: { kind: 'at_once', runs: 2_000, steps: 5 },
    W4: { kind: 'one_by_one', runs: 3, steps: 1_000, limitMs: 3_000 },
    W5: { kind: 'parallel', runs: 5, steps: 500, limitMs: 3_000 },
    W6: { kind: 'timers', runs: 2_000, ms: 3_000 },
  },
  longRunSteps: 10_000,
  // Node gives memory back after about half a minute.
  settleMs: 45_000,
  idleMs: 8_000,
}

/** Under a minute for all systems. Bursts are smaller and sleeps shorter, so figures wander more. */
export const QUICK: Plan = {
  mode: 'quick',
  rounds: 1,
  warmUp: { kind: 'warm_up', ms: 1_000, burst: 200 },
  wakeUp: { kind: 'at_once', runs: 50, steps: 5 },
  workloads: {
    W1: { kind: 'one_by_one', runs: 150, steps: 1, limitMs: 400 },
    W2: { kind: 'one_by_one', runs: 75, steps: 10, limitMs: 500 },
    W3: { kind: 'at_once', runs: 300, steps: 5 },
    W4: { kind: 'one_by_one', runs: 1, steps: 1_000, limitMs: 500 },
    W5: { kind: 'parallel', runs: 2, steps: 500, limitMs: 150 },
    W6: { kind: 'timers', runs: 300, ms: 500 },
  },
  longRunSteps: null,
  settleMs: 500,
  idleMs: 1_000,
}

/** What a workload is, in the words of the table. */
export function describeWorkload(workload: Workload): string {
  switch (workload.kind) {
    case 'one_by_one':
      return workload.steps === 1 ? 'one run of 1 step' : `one run of ${count(workload.steps)} steps in sequence`
    case 'parallel':
      return `one run of ${count(workload.steps)} parallel steps`
    case 'at_once':
      return `${count(workload.runs)} runs of ${workload.steps} steps started at once`
    case 'timers':
      return `${count(workload.runs)} sleeps of ${workload.ms / 1_000} s started at once`
    case 'warm_up':
      return 'warm-up'
  }
}

/** Steps that a workload has run when it took these times. A sleep counts as a step. */
export function stepsOf(workload: Workload, timesCount: number): number {
  switch (workload.kind) {
    case 'one_by_one':
    case 'parallel':
      return timesCount * workload.steps
    case 'at_once':
      return workload.runs * workload.steps
    case 'timers':
      return workload.runs
    case 'warm_up':
      return 0
  }
}

function count(value: number): string {
  return value.toLocaleString('en')
}
