/** Reads what `step.*` was called with: each gives one ask, or says what is wrong with the call. */
import { type Duration, LIMITS, type Match, parseDuration, problemOfChannel } from '@stepwell/protocol'
import type { StepBody, UndoBody, Wanted } from './ask.ts'
import type { BodyLimits } from './body-watch.ts'
import { StepwellError } from './errors.ts'
import { toInstantText } from './instants.ts'
import { fits, toJsonText } from './json.ts'
import { isName } from './names.ts'
import { type Encoder, INVOKED } from './payloads.ts'
import { type RetryRules, toRetryRules } from './retries.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { InvokeOptions, RunOptions, WaitOptions } from './step.ts'

/** `step.run`. */
export function readRun(id: string, body: unknown, options: RunOptions | undefined, retries: RetryRules): Wanted {
  if (typeof body !== 'function') {
    throw new TypeError(`Step "${id}" has no body. Pass a function: step.run("${id}", () => …).`)
  }
  const { retries: own, undo, timeout, heartbeat } = options ?? {}
  if (undo !== undefined && typeof undo !== 'function') {
    throw new TypeError(`The undo of step "${id}" is no function. Pass one: { undo: output => … }.`)
  }
  return {
    kind: 'step',
    body: body as StepBody,
    retries: own === undefined ? retries : toRetryRules(own, `step "${id}"`),
    undo: undo as UndoBody | undefined,
    limits: timeout === undefined && heartbeat === undefined ? undefined : readLimits(id, timeout, heartbeat),
  }
}

function readLimits(id: string, timeout: Duration | undefined, heartbeat: Duration | undefined): BodyLimits {
  return { timeoutMs: readLimit(id, 'timeout', timeout), heartbeatMs: readLimit(id, 'heartbeat', heartbeat) }
}

function readLimit(id: string, name: string, limit: Duration | undefined): number | undefined {
  if (limit === undefined) return undefined
  const ms = readDuration(limit, `The ${name} of step "${id}"`)
  if (ms > 0) return ms
  const message = `The ${name} of step "${id}" is 0: no body would ever be in time. Give it longer, or leave it out.`
  throw new StepwellError('duration_invalid', message)
}

/** A duration of a step, in milliseconds. @param where names the step */
export function readDuration(duration: Duration, where: string): number {
  try {
    return parseDuration(duration)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new StepwellError('duration_invalid', `${where}: ${why}`, { cause: error })
  }
}

/** `step.sleepUntil`. @param at the run's clock, ISO 8601: the same on every replay */
export function readInstant(id: string, instant: Date | string | number, at: string): string {
  const text = toInstantText(instant)
  if (text !== null) {
    if (Date.parse(text) - Date.parse(at) <= LIMITS.durationMs) return text
    const tooFar = `step.sleepUntil "${id}": ${text} is more than 366 days away. Sleep several times, or go on with step.continueAsNew.`
    throw new StepwellError('duration_invalid', tooFar)
  }
  const shown = instant instanceof Date ? 'an invalid Date' : JSON.stringify(instant)
  throw new StepwellError(
    'duration_invalid',
    `step.sleepUntil "${id}": ${shown} is no instant. Pass a Date, milliseconds, or ISO 8601 with a zone (2026-01-31T12:00:00Z).`,
  )
}

/** `step.waitForEvent`. */
export function readWait(id: string, options: WaitOptions & { schema?: StandardSchema }): Wanted {
  const { event, match = {}, timeout, schema } = options
  if (!isName(event, LIMITS.eventNameChars)) {
    const message = `step.waitForEvent "${id}" needs the name of an event: 1 to ${LIMITS.eventNameChars} characters.`
    throw new StepwellError('match_invalid', message)
  }
  checkMatch(id, match)
  const timeoutMs = timeout === undefined ? undefined : readDuration(timeout, `step.waitForEvent "${id}"`)
  return { kind: 'wait', event, match: { ...match }, timeoutMs, schema }
}

function checkMatch(id: string, match: Match): void {
  if (typeof match !== 'object' || match === null || Array.isArray(match)) {
    throw matchInvalid(id, 'it is no object of paths and values; pass { orderId: 7 }')
  }
  const paths = Object.entries(match)
  if (paths.length > LIMITS.matchPaths) {
    throw matchInvalid(id, `it has ${paths.length} paths; at most ${LIMITS.matchPaths} are allowed`)
  }
  for (const [path, value] of paths) {
    if (!isName(path, LIMITS.matchPathChars)) {
      throw matchInvalid(id, `a path is no text of 1 to ${LIMITS.matchPathChars} characters`)
    }
    const isScalar = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value)
    if (!isScalar) {
      throw matchInvalid(id, `"${path}" is ${value === undefined ? 'undefined' : 'no string, number, boolean or null'}`)
    }
    if (typeof value === 'string' && value.length > LIMITS.matchValueChars) {
      throw matchInvalid(id, `"${path}" is longer than ${LIMITS.matchValueChars} characters`)
    }
  }
}

function matchInvalid(id: string, why: string): StepwellError {
  return new StepwellError('match_invalid', `The match of step.waitForEvent "${id}" is not valid: ${why}.`)
}

/** `step.waitForSignal`. */
export function readReceive(id: string, signal: string, options: { timeout?: Duration } | undefined): Wanted {
  if (!isName(signal, LIMITS.eventNameChars)) {
    const message = `step.waitForSignal "${id}" needs the name of a signal: 1 to ${LIMITS.eventNameChars} characters.`
    throw new StepwellError('match_invalid', message)
  }
  const { timeout } = options ?? {}
  const timeoutMs = timeout === undefined ? undefined : readDuration(timeout, `step.waitForSignal "${id}"`)
  return { kind: 'receive', signal, timeoutMs }
}

/** `step.publish`. */
export function readPublish(channel: string, data: unknown): Wanted {
  const problem = typeof channel === 'string' ? problemOfChannel(channel) : 'is no text'
  if (problem !== null) {
    const message = `The channel of step.publish ${problem}. Use a name such as "progress": 1 to ${LIMITS.channelChars} characters.`
    throw new StepwellError('channel_invalid', message)
  }
  const dataText = toJsonText(data, `The data of step.publish on "${channel}"`) ?? 'null'
  if (fits(dataText, LIMITS.publishBytes)) return { kind: 'publish', channel, dataText }
  const message = `The data of step.publish on "${channel}" has more than ${LIMITS.publishBytes} bytes. Store it elsewhere and publish where it is, or publish it in parts.`
  throw new StepwellError('publish_too_large', message)
}

/** `step.invoke`. */
export function readInvoke(id: string, options: InvokeOptions, encoder: Encoder | null): Wanted {
  const wanted: unknown = options?.function
  const name = typeof wanted === 'object' && wanted !== null && 'id' in wanted ? wanted.id : wanted
  if (typeof name !== 'string' || name === '') {
    throw new TypeError(
      `step.invoke "${id}" does not say which function to start. Pass { function: child } or { function: "its-id" }.`,
    )
  }
  const { data, timeout, onCancel = 'cancel', detached = false } = options
  const dataText = toJsonText(data, `The data of step.invoke "${id}"`)
  return {
    kind: 'invoke',
    function: name,
    dataText: encoder === null ? dataText : encoder.encodeText(dataText ?? '{}', INVOKED),
    timeoutMs: timeout === undefined ? undefined : readDuration(timeout, `step.invoke "${id}"`),
    onCancel,
    isDetached: detached,
  }
}
