/*
 * How fast is a run, and what does a step cost? W1: one run of 1 step. W2: one run of 10 sequential steps. W3: 2,000 runs
 * of 5 steps started at once. No-op steps, fsync on, everything on this machine: engine, app, Postgres, and the one who
 * asks. Not a test: print, compare, decide.
 */
import { cpus } from 'node:os'
import { startSystem } from './system.ts'
import { type Measured, measureLatency, measureThroughput } from './workloads.ts'

const WARM_UP_RUNS = 500

const system = await startSystem()
try {
  await measureThroughput(system, { name: 'warm-up', steps: 5, runs: WARM_UP_RUNS })
  const rows = [
    await measureLatency(system, { name: 'W1 one run of 1 step', steps: 1, runs: 200 }),
    await measureLatency(system, { name: 'W2 one run of 10 steps', steps: 10, runs: 100 }),
    await measureThroughput(system, { name: 'W3 2,000 runs of 5 steps', steps: 5, runs: 2_000 }),
    await measureLatency(system, { name: 'W4 one run of 1,000 steps', steps: 1_000, runs: 3 }),
  ]
  console.log(`${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}, fsync on\n`)
  print(rows)
} finally {
  await system.stop()
}

function print(rows: Measured[]): void {
  const heads = ['', 'p50 ms', 'p95 ms', 'steps/s', 'CPU s per 1,000 steps', 'engine', 'app', 'postgres']
  const lines = rows.map(({ name, p50, p95, stepsPerSecond, cpu }) => [
    name,
    p50?.toFixed(2) ?? '',
    p95?.toFixed(2) ?? '',
    stepsPerSecond?.toFixed(0) ?? '',
    (cpu.engine + cpu.app + cpu.postgres).toFixed(3),
    cpu.engine.toFixed(3),
    cpu.app.toFixed(3),
    cpu.postgres.toFixed(3),
  ])
  const widths = heads.map((head, column) => Math.max(head.length, ...lines.map(line => line[column]?.length ?? 0)))
  for (const line of [heads, ...lines])
    console.log(
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    )
}
