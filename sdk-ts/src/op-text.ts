/**
 * Ops as JSON text. They are written once, when they come to be: outputs are large, and one serialisation decides what
 * is recorded, what the handler gets back and how large the report is.
 */
import type { RetryPolicy, WireError } from '@stepwell/protocol'
import type { Ask } from './ask.ts'

/** How one execution of a body ended. `liveText` is what the handler gets, where that is not what is recorded. */
export type StepEnd = { outputText: string | undefined; liveText?: string } | StepFailure

/** `thrown` is what the error of the wire was made of. */
export interface StepFailure {
  error: WireError
  thrown: unknown
  isFinal: boolean
  afterMs?: number
}

/** How long things took, in milliseconds. */
export interface StepTimes {
  /** From the arrival of the turn to the start of the body. */
  startedMs: number
  durationMs: number
}

/** The op of a body that has ended. */
export function stepOpText(
  key: string,
  step: { saw: number; attempt: number; end: StepEnd; retries: RetryPolicy; times: StepTimes; hasUndo: boolean },
): string {
  const { saw, attempt, end, retries, times, hasUndo } = step
  const result =
    'error' in end ? failureText(end, retries) : end.outputText === undefined ? '' : `,"output":${end.outputText}`
  const { startedMs, durationMs } = times
  return (
    `{"op":"step","key":${JSON.stringify(key)},"saw":${saw},"attempt":${attempt}${result},` +
    `"startedMs":${round(startedMs)},"durationMs":${round(durationMs)}${hasUndo ? ',"undo":true' : ''}}`
  )
}

/** The op of anything but a step, as it is now: a sleep tells its age. */
export function askOpText(key: string, { wanted, saw }: Ask): string {
  const head = `"key":${JSON.stringify(key)},"saw":${saw}`
  switch (wanted.kind) {
    case 'sleep':
      return 'ms' in wanted
        ? `{"op":"sleep",${head},"ms":${wanted.ms},"ageMs":${round(performance.now() - wanted.askedAtMs)}}`
        : `{"op":"sleep",${head},"until":${JSON.stringify(wanted.until)}}`
    case 'wait': {
      const match = Object.keys(wanted.match).length === 0 ? '' : `,"match":${JSON.stringify(wanted.match)}`
      const timeout = wanted.timeoutMs === undefined ? '' : `,"timeoutMs":${wanted.timeoutMs}`
      return `{"op":"wait",${head},"event":${JSON.stringify(wanted.event)}${match}${timeout}}`
    }
    case 'send':
      return `{"op":"send",${head},"events":${wanted.eventsText}}`
    case 'publish':
      return `{"op":"publish",${head},"channel":${JSON.stringify(wanted.channel)},"data":${wanted.dataText}}`
    case 'receive': {
      const timeout = wanted.timeoutMs === undefined ? '' : `,"timeoutMs":${wanted.timeoutMs}`
      return `{"op":"receive",${head},"signal":${JSON.stringify(wanted.signal)}${timeout}}`
    }
    case 'invoke': {
      const data = wanted.dataText === undefined ? '' : `,"data":${wanted.dataText}`
      const timeout = wanted.timeoutMs === undefined ? '' : `,"timeoutMs":${wanted.timeoutMs}`
      const abandon = wanted.onCancel === 'abandon' ? ',"onCancel":"abandon"' : ''
      const detached = wanted.isDetached ? ',"detached":true' : ''
      return `{"op":"invoke",${head},"function":${JSON.stringify(wanted.function)}${data}${timeout}${abandon}${detached}}`
    }
    case 'step':
      throw new Error('A step has no op before its body has ended.')
  }
}

/** The handler returned. */
export function finishOpText(outputText: string | undefined): string {
  return outputText === undefined ? '{"op":"finish"}' : `{"op":"finish","output":${outputText}}`
}

/** What had to be undone is undone. */
export function cancelledOpText(): string {
  return '{"op":"cancelled"}'
}

/** The handler goes on as the next generation. */
export function continueOpText(inputText: string | undefined, unread: string[]): string {
  const input = inputText === undefined ? '' : `,"input":${inputText}`
  return `{"op":"continue_as_new"${input}${unread.length === 0 ? '' : `,"unread":${JSON.stringify(unread)}`}}`
}

/** The handler threw. */
export function failOpText(error: WireError): string {
  return `{"op":"fail","error":${JSON.stringify(error)}}`
}

function failureText(end: StepFailure, retries: RetryPolicy): string {
  const error = `,"error":${JSON.stringify(end.error)}`
  if (end.isFinal) return error
  const retry = end.afterMs === undefined ? retries : { ...retries, afterMs: end.afterMs }
  return `${error},"retry":${JSON.stringify(retry)}`
}

/** To the microsecond: more is noise. */
function round(ms: number): number {
  return Math.round(ms * 1000) / 1000
}
