/*
 * The workloads, in the app's process: one code for all systems. They only take times; statistics are made elsewhere,
 * when nothing is being measured.
 */
import type { BenchSystem } from './bench-system.ts'
import type { Notes, WorkflowInput } from './workflows.ts'

export type Workload =
  /** One run at a time, for no longer than `limitMs`; milliseconds from its start until its result is seen. */
  | { kind: 'one_by_one'; runs: number; steps: number; limitMs: number }
  /** Many runs at once; milliseconds from the start of the first until the last is recorded. */
  | { kind: 'at_once'; runs: number; steps: number }
  /** The same with runs whose steps are all asked for at once. */
  | { kind: 'parallel'; runs: number; steps: number; limitMs: number }
  /** Many sleeps at once: how late each handler went on, after the time at which it first asked plus the sleep. */
  | { kind: 'timers'; runs: number; ms: number }
  /** A bit of everything, for so long. */
  | { kind: 'warm_up'; ms: number; burst: number }

export interface Times {
  /** One for each run, for `at_once` one for all, for `timers` the lateness of each. */
  timesMs: number[]
  /** One by one only: from the start of a run until its handler has ended, whoever has seen it. */
  handlerEndedMs: number[]
  /** Timers only: how late after the time that the system had recorded as due, where that is another. */
  lateAfterRecordedMs: number[]
}

const NO_TIMES: Times = { timesMs: [], handlerEndedMs: [], lateAfterRecordedMs: [] }
const WARM_UP_LATENCY_MS = 300
const WARM_UP_STEPS = 5
const WARM_UP_PARALLEL = 50

export class Workloads {
  readonly #system: BenchSystem
  readonly #notes: Notes
  #number = 0

  constructor(system: BenchSystem, notes: Notes) {
    this.#system = system
    this.#notes = notes
  }

  async measure(workload: Workload): Promise<Times> {
    this.#notes.clear()
    switch (workload.kind) {
      case 'one_by_one':
        return this.#oneByOne('steps', workload)
      case 'parallel':
        return this.#oneByOne('parallel', workload)
      case 'at_once':
        return { ...NO_TIMES, timesMs: [await this.#atOnce(workload)] }
      case 'timers':
        return { ...NO_TIMES, ...(await this.#timers(workload)) }
      case 'warm_up':
        await this.#warmUp(workload)
        return NO_TIMES
    }
  }

  async #oneByOne(
    workflow: 'steps' | 'parallel',
    { runs, steps, limitMs }: { runs: number; steps: number; limitMs: number },
  ): Promise<Times> {
    const timesMs: number[] = []
    const handlerEndedMs: number[] = []
    const untilMs = performance.now() + limitMs
    for (let n = 0; n < runs && (n === 0 || performance.now() < untilMs); n += 1) {
      const input = this.#input({ count: steps })
      const startedAt = performance.now()
      const result = await this.#system.run(workflow, input)
      timesMs.push(performance.now() - startedAt)
      handlerEndedMs.push((this.#notes.endedAtMs.get(input.number) ?? Number.NaN) - startedAt)
      if (result !== steps) throw new Error(`A run of ${steps} steps gave ${JSON.stringify(result)}.`)
    }
    return { ...NO_TIMES, timesMs, handlerEndedMs }
  }

  async #atOnce({ runs, steps }: { runs: number; steps: number }): Promise<number> {
    const inputs = Array.from({ length: runs }, () => this.#input({ count: steps }))
    const startedAt = performance.now()
    await this.#system.runMany('steps', inputs)
    const ms = performance.now() - startedAt
    const ended = this.#notes.endedAtMs.size
    if (ended !== runs) throw new Error(`Of ${runs} runs, ${ended} have ended.`)
    return ms
  }

  async #timers({ runs, ms }: { runs: number; ms: number }) {
    const inputs = Array.from({ length: runs }, () => this.#input({ ms }))
    await this.#system.runMany('timer', inputs)
    const wokeAtMs = (number: number) => this.#notes.wokeAtMs.get(number) ?? Number.NaN
    const sleptFromMs = (number: number) => this.#notes.sleptFromMs.get(number) ?? Number.NaN
    const timesMs = inputs.map(({ number }) => wokeAtMs(number) - sleptFromMs(number) - ms)
    const dueTimes = await this.#system.readDueTimes?.()
    if (dueTimes === undefined) return { timesMs, lateAfterRecordedMs: timesMs }
    const epochMs = Date.now() - performance.now()
    const dueMs = (number: number) => (dueTimes.get(number) ?? Number.NaN) - epochMs
    return { timesMs, lateAfterRecordedMs: inputs.map(({ number }) => wokeAtMs(number) - dueMs(number)) }
  }

  /** Every path that is measured gets hot: alternately many at once and one by one. */
  async #warmUp({ ms, burst }: { ms: number; burst: number }): Promise<void> {
    const untilMs = performance.now() + ms
    await this.#timers({ runs: burst, ms: 10 })
    while (performance.now() < untilMs) {
      this.#notes.clear()
      await this.#atOnce({ runs: burst, steps: WARM_UP_STEPS })
      await this.#system.run('parallel', this.#input({ count: WARM_UP_PARALLEL }))
      const onesUntilMs = performance.now() + WARM_UP_LATENCY_MS
      while (performance.now() < onesUntilMs) await this.#system.run('steps', this.#input({ count: WARM_UP_STEPS }))
    }
  }

  #input(given: Partial<WorkflowInput>): WorkflowInput {
    this.#number += 1
    return { count: 0, ms: 0, ...given, number: this.#number }
  }
}
