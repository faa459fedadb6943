/*
 * What has been measured, as rows: one metric each, with a value per system and round. Tables, ratios, goals, the
 * picture and the JSON are made of these and of nothing else.
 */
import type { Idle, Measurement, Parts } from './measure.ts'
import { describeWorkload, type Plan, WORKLOAD_IDS, type WorkloadId } from './plan.ts'

export interface Row {
  /** `W3.stepsPerSecond` */
  id: string
  /** `W3  2,000 runs of 5 steps started at once` */
  group: string
  label: string
  better: 'less' | 'more'
  /** By system, one for each round; empty where there is none. */
  values: Record<string, number[]>
}

export interface Measured {
  measurements: readonly Measurement[]
  idle: readonly Idle[]
  /** Milliseconds by system; NaN where a system cannot. */
  longRunMs: Readonly<Record<string, number>>
}

interface Metric {
  id: string
  label: string
  better: Row['better']
  of(measurement: Measurement): number
}

const PARTS: (keyof Parts)[] = ['server', 'database', 'app']

const P50 = latency('p50Ms', 'p50 ms')
const P95 = latency('p95Ms', 'p95 ms')
const P99 = latency('p99Ms', 'p99 ms')
const HANDLER_ENDED = latency('handlerEndedP50Ms', 'p50 ms until the handler has ended')
const RATE: Metric = { id: 'stepsPerSecond', label: 'steps/s', better: 'more', of: given => given.stepsPerSecond }
const CPU: Metric = {
  id: 'cpuSeconds',
  label: 'CPU s per 1,000 steps, all of it',
  better: 'less',
  of: given => sumOfKnown(PARTS.map(part => given.cpuSeconds[part])),
}
const CPU_PARTS = PARTS.map(
  (part): Metric => ({ id: `cpu.${part}`, label: `  ${part}`, better: 'less', of: given => given.cpuSeconds[part] }),
)
const WRITTEN: Metric[] = [
  { id: 'walBytes', label: 'WAL bytes per step', better: 'less', of: given => given.walBytesPerStep },
  { id: 'commits', label: 'commits per step', better: 'less', of: given => given.transactionsPerStep },
]

const METRICS: Record<WorkloadId, Metric[]> = {
  W1: [P50, P95, P99, HANDLER_ENDED, CPU],
  W2: [P50, P95, P99, HANDLER_ENDED, CPU],
  W3: [RATE, CPU, ...CPU_PARTS, ...WRITTEN],
  W4: [P50, CPU, ...WRITTEN],
  W5: [P50, CPU],
  W6: [
    latency('p50Ms', 'p50 ms too late, from asking on'),
    latency('p99Ms', 'p99 ms too late, from asking on'),
    latency('lateAfterRecordedP50Ms', 'p50 ms after the due time recorded'),
    latency('lateAfterRecordedP99Ms', 'p99 ms after the due time recorded'),
  ],
}

export function rowsOf(measured: Measured, plan: Plan, systems: readonly string[]): Row[] {
  const rows = WORKLOAD_IDS.flatMap(id => {
    const group = `${id}  ${describeWorkload(plan.workloads[id])}`
    return METRICS[id].map(metric => rowOf(measured.measurements, { id, group, metric, systems }))
  })
  if (plan.longRunSteps !== null) rows.push(longRunRow(measured, plan.longRunSteps, systems))
  return [...rows, ...idleRows(measured.idle, systems)]
}

/** What is known of a system, one value for each round. */
export function valuesOf(row: Row, system: string): number[] {
  return (row.values[system] ?? []).filter(value => !Number.isNaN(value))
}

function sumOfKnown(values: readonly number[]): number {
  const known = values.filter(value => !Number.isNaN(value))
  return known.length === 0 ? Number.NaN : known.reduce((sum, value) => sum + value, 0)
}

type LatencyKey =
  | 'p50Ms'
  | 'p95Ms'
  | 'p99Ms'
  | 'handlerEndedP50Ms'
  | 'lateAfterRecordedP50Ms'
  | 'lateAfterRecordedP99Ms'

function latency(key: LatencyKey, label: string): Metric {
  return { id: key, label, better: 'less', of: given => given[key] }
}

function rowOf(
  measurements: readonly Measurement[],
  given: { id: WorkloadId; group: string; metric: Metric; systems: readonly string[] },
): Row {
  const { id, group, metric, systems } = given
  const ofSystem = (system: string) =>
    measurements.filter(found => found.system === system && found.workload === id).map(metric.of)
  return {
    id: `${id}.${metric.id}`,
    group,
    label: metric.label,
    better: metric.better,
    values: Object.fromEntries(systems.map(system => [system, ofSystem(system)])),
  }
}

function longRunRow(measured: Measured, steps: number, systems: readonly string[]): Row {
  return {
    id: 'W4.longRunMs',
    group: `W4  one run of ${steps.toLocaleString('en')} steps in sequence`,
    label: 'ms',
    better: 'less',
    values: Object.fromEntries(systems.map(system => [system, [measured.longRunMs[system] ?? Number.NaN]])),
  }
}

function idleRows(idle: readonly Idle[], systems: readonly string[]): Row[] {
  const row = (given: { part: keyof Parts; id: string; label: string; of: (found: Idle) => number }): Row => ({
    id: `W7.${given.id}.${given.part}`,
    group: 'W7  idle',
    label: `${given.label}, ${given.part}`,
    better: 'less',
    values: Object.fromEntries(systems.map(system => [system, idle.filter(of => of.system === system).map(given.of)])),
  })
  return [
    ...PARTS.map(part => row({ part, id: 'cpuPercent', label: '% of a core', of: found => found.cpuPercent[part] })),
    ...PARTS.map(part =>
      row({ part, id: 'memoryMb', label: 'memory MB', of: found => found.memoryBytes[part] / 1_000_000 }),
    ),
  ]
}
