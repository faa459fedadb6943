import { LIMITS, type Report } from '@stepwell/protocol'
import { isObject } from './is-object.ts'

/**
 * Whether a report is what most are: of a turn that runs, or that ended with a result, and of steps that have succeeded. The
 * schema accepts all of that as it is, and takes ten times as long to find out. Anything else, right or wrong, is left to it.
 */
export function isPlainReport(report: unknown): report is Report {
  if (!isObject(report) || report.kind !== 'report' || 'error' in report || 'status' in report || 'tags' in report)
    return false
  const { run, generation, turn, epoch, n, replayMs, ops } = report
  if (!isPlainName(run) || !isPlainName(epoch) || !isCount(generation) || !isCount(turn) || !isCount(n)) return false
  if ('replayMs' in report && !isDuration(replayMs)) return false
  if (!Array.isArray(ops) || ops.length > LIMITS.opsPerReport) return false
  const isEnd = report.state === 'done'
  if (!isEnd && report.state !== 'running') return false
  const steps: unknown[] = isEnd ? ops.slice(0, -1) : ops
  return steps.every(isPlainStep) && (!isEnd || isFinish(ops.at(-1)))
}

function isFinish(op: unknown): boolean {
  return isObject(op) && op.op === 'finish'
}

function isPlainStep(op: unknown): boolean {
  if (!isObject(op) || op.op !== 'step' || 'error' in op || 'retry' in op || 'undo' in op) return false
  const { key, saw, attempt, startedMs, durationMs } = op
  if (!isPlainName(key) || !isCount(saw) || !isCount(attempt) || attempt > LIMITS.maxAttempts) return false
  if ('startedMs' in op && !isDuration(startedMs)) return false
  return !('durationMs' in op) || isDuration(durationMs)
}

const PLAIN_NAME = /^[A-Za-z0-9_.:#-]{1,128}$/
const MAX_COUNT = 2 ** 31 - 1

function isPlainName(value: unknown): boolean {
  return typeof value === 'string' && PLAIN_NAME.test(value)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_COUNT
}

function isDuration(value: unknown): boolean {
  return typeof value === 'number' && value >= 0 && value <= LIMITS.durationMs
}
