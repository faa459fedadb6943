/*
 * What every system runs: the same three workflows of no-op steps, written against the few words that all of them have.
 * All runs of a process share its memory (nothing restarts during a benchmark), so the workflows note their own times
 * there, and the one who measures asks nobody.
 */
export interface BenchStep {
  /** A durable step. */
  run<Result>(name: string, body: () => Result): Promise<Result>
  /** A durable sleep. */
  sleep(name: string, ms: number): Promise<void>
  /** All of several steps. `Promise.all`, where the system has no combinator of its own. */
  all(steps: Promise<number>[]): Promise<number[]>
}

export type WorkflowName = 'steps' | 'parallel' | 'timer'

export interface WorkflowInput {
  /** Names the run in `Notes`; unique within a process. */
  number: number
  /** Steps of `steps` and `parallel`. */
  count: number
  /** Length of the sleep of `timer`. */
  ms: number
}

/** What runs have noted about themselves. Times are of `performance.now()`. */
export class Notes {
  readonly sleptFromMs = new Map<number, number>()
  readonly wokeAtMs = new Map<number, number>()
  readonly endedAtMs = new Map<number, number>()
  #waiting: { count: number; resolve: () => void } | null = null

  ended(number: number): void {
    this.endedAtMs.set(number, performance.now())
    if (this.#waiting !== null && this.endedAtMs.size >= this.#waiting.count) this.#waiting.resolve()
  }

  /** Resolves when so many handlers have ended since the notes were cleared. */
  whenEnded(count: number): Promise<void> {
    if (this.endedAtMs.size >= count) return Promise.resolve()
    return new Promise(resolve => {
      this.#waiting = { count, resolve }
    })
  }

  clear(): void {
    for (const times of [this.sleptFromMs, this.wokeAtMs, this.endedAtMs]) times.clear()
    this.#waiting = null
  }
}

type Workflow = (step: BenchStep, input: WorkflowInput) => Promise<number>

export function workflowsWith(notes: Notes): Record<WorkflowName, Workflow> {
  return {
    async steps(step, { number, count }) {
      for (let n = 0; n < count; n += 1) await step.run(`step-${n}`, () => n)
      notes.ended(number)
      return count
    },
    async parallel(step, { number, count }) {
      const results = await step.all(Array.from({ length: count }, (_, n) => step.run(`step-${n}`, () => n)))
      notes.ended(number)
      return results.length
    },
    async timer(step, { number, ms }) {
      // A replay comes by here again; the sleep was asked for the first time.
      if (!notes.sleptFromMs.has(number)) notes.sleptFromMs.set(number, performance.now())
      await step.sleep('sleep', ms)
      notes.wokeAtMs.set(number, performance.now())
      notes.ended(number)
      return ms
    },
  }
}
