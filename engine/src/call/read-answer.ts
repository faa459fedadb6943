/*
 * What an app answered, or did not, as a value: its report, its description, or a sentence that says what is wrong and what
 * to do about it.
 */
import {
  type Description,
  type ErrorCode,
  type Frame,
  fingerprint,
  HEADERS,
  LIMITS,
  type Report,
  responseId,
  type SignatureHeaders,
  verify,
} from '@stepwell/protocol'
import { descriptionSchema, firstProblems, reportSchema } from '@stepwell/protocol/schemas'
import { isObject } from '../core/is-object.ts'
import { nestsDeeperThan } from '../core/json-depth.ts'
import { isPlainReport } from '../core/plain-report.ts'
import type { AppCall } from './app-call.ts'
import type { ExchangeOutcome } from './exchange.ts'

export type Refusal = { kind: 'no_answer'; code: ErrorCode; message: string }
export type Answered = { kind: 'report'; report: Report } | { kind: 'description'; description: Description } | Refusal

export type AppOutcome = Answered & { firstByteAtMs: number | null }

/** How much of a wrong answer is shown. */
const EXCERPT_CHARS = 120

/** What came of the request with this id. */
export function explainOutcome(call: AppCall, id: string, outcome: ExchangeOutcome): Answered {
  const url = call.catalog.url ?? ''
  switch (outcome.kind) {
    case 'answer':
      return readAnswer(call, url, id, outcome)
    case 'too_large':
      return refusal('app_body_too_large', `App at ${url} answered with more than ${LIMITS.bodyBytes} bytes.`)
    case 'failed':
      return explainFailure(call, outcome.aborted, outcome.error, outcome.firstByteAtMs !== null)
  }
}

function readAnswer(
  call: AppCall,
  url: string,
  id: string,
  { status, headers, body }: Extract<ExchangeOutcome, { kind: 'answer' }>,
): Answered {
  if (status >= 300 && status < 400)
    return refusal(
      'app_redirected',
      `App at ${url} answered ${status} to ${String(headers.location ?? 'nowhere')}. Redirects are not followed: sync the app under its final URL.`,
    )
  if (status !== 200) return refuseStatus(call, url, status, body)
  const signed = {
    id: single(headers[HEADERS.id]),
    timestamp: single(headers[HEADERS.timestamp]),
    signature: single(headers[HEADERS.signature]),
  }
  const json = readSigned(call, id, signed, body)
  if ('refusal' in json) return json.refusal
  return call.kind === 'turn' ? readReport(url, json.value) : readDescription(url, json.value)
}

/** The last reports of turns in a frame of the response to the batch with this id, by `run epoch`. */
export function readBatchFrame(
  call: AppCall,
  id: string,
  { headers, body }: Frame,
): { outcomes: [string, Answered][] } | { refusal: Refusal } {
  const url = call.catalog.url ?? ''
  const json = readSigned(call, id, headers, body)
  if ('refusal' in json) return json
  const { value } = json
  if (!isObject(value) || !Array.isArray(value.reports))
    return { refusal: refusal('app_body_invalid', `App at ${url} answered with something that is no list of reports.`) }
  const outcomes: [string, Answered][] = []
  for (const item of value.reports as unknown[]) {
    if (!isObject(item)) continue
    const outcome =
      item.kind === 'problem' ? refuseProblem(call, url, Number(item.status), item, '') : readReport(url, item)
    outcomes.push([`${String(item.run)} ${String(item.epoch)}`, outcome])
  }
  return { outcomes }
}

/** Bytes in the response to a batch that are no frame: a page, say. */
export function refuseBytes(call: AppCall, error: unknown): Refusal {
  const why = error instanceof Error ? error.message : String(error)
  return refusal(
    'app_body_invalid',
    `App at ${call.catalog.url ?? ''} answered several turns with something that is no frame. ${why}`,
  )
}

/** The JSON of a message that answers the request with this id. */
function readSigned(
  call: AppCall,
  id: string,
  headers: SignatureHeaders,
  body: Buffer,
): { value: unknown } | { refusal: Refusal } {
  const url = call.catalog.url ?? ''
  const verified = verify({ headers, payload: body, secrets: call.catalog.keys, nowMs: Date.now() })
  if (!verified.ok || verified.id !== responseId(id)) {
    const why = verified.ok ? 'Its signature belongs to another request.' : verified.message
    const message = `App at ${url} answered 200, but not signed as it should be (${excerpt(body)}). ${why}`
    return { refusal: refusal('app_signature_invalid', message) }
  }
  if (nestsDeeperThan(body, LIMITS.jsonDepth)) {
    const message = `App at ${url} answered with JSON that nests deeper than ${LIMITS.jsonDepth} levels.`
    return { refusal: refusal('app_body_invalid', message) }
  }
  try {
    return { value: JSON.parse(body.toString('utf8')) }
  } catch {
    const message = `App at ${url} answered with something that is not JSON: ${excerpt(body)}.`
    return { refusal: refusal('app_body_invalid', message) }
  }
}

function readReport(url: string, json: unknown): Answered {
  if (isPlainReport(json)) return { kind: 'report', report: json }
  const parsed = reportSchema.safeParse(json)
  if (!parsed.success) return malformed(url, 'report', firstProblems(parsed.error, PROBLEMS_MAX))
  return { kind: 'report', report: parsed.data as Report }
}

function readDescription(url: string, json: unknown): Answered {
  const parsed = descriptionSchema.safeParse(json)
  if (!parsed.success) return malformed(url, 'description', firstProblems(parsed.error, PROBLEMS_MAX))
  return { kind: 'description', description: parsed.data as Description }
}

const PROBLEMS_MAX = 3

function malformed(url: string, what: string, problems: { path: string; message: string }[]): Refusal {
  const told = problems.map(({ path, message }) => `${path}: ${message}`).join('; ')
  return refusal('app_body_invalid', `App at ${url} answered with a malformed ${what}: ${told}.`)
}

/** What a status other than 200 says about the app, with its own words where it speaks our protocol. */
function refuseStatus(call: AppCall, url: string, status: number, body: Buffer): Refusal {
  let problem: unknown = null
  try {
    problem = JSON.parse(body.toString('utf8'))
  } catch {
    // Not ours: a proxy's page, say.
  }
  return refuseProblem(call, url, status, isObject(problem) ? problem : {}, excerpt(body))
}

function refuseProblem(
  call: AppCall,
  url: string,
  status: number,
  problem: Record<string, unknown>,
  shown: string,
): Refusal {
  const detail =
    typeof problem.code === 'string' && typeof problem.detail === 'string' ? problem.detail.slice(0, 500) : null
  if (problem.code === 'function_not_found')
    return refusal(
      'app_functions_differ',
      `App at ${url} does not serve this function: ${detail} Deploy it again, or sync the app that has it.`,
    )
  if (problem.code === 'version_not_found') return refusal('version_not_found', `App at ${url}: ${detail}`)
  if (status === 401) {
    const ours = call.catalog.keys.map(fingerprint).join(', ')
    const fingerprints = Array.isArray(problem.fingerprints) ? problem.fingerprints.map(String).slice(0, 8) : null
    const theirs = fingerprints === null ? '' : `, the app has ${fingerprints.join(', ')}`
    return refusal(
      'app_signature_invalid',
      `App at ${url} refused our signature: we sign with key ${ours}${theirs}. ${detail ?? ''} Give both sides the same signing key.`,
    )
  }
  return refusal('app_status', `App at ${url} answered ${status}: ${detail ?? shown}`)
}

/** Why there is no answer. `aborted`: the reason why we gave up. */
export function explainFailure(call: AppCall, aborted: string | null, error: unknown, hadHeaders: boolean): Refusal {
  const url = call.catalog.url ?? ''
  if (aborted === 'timeout')
    return refusal(
      'app_timeout',
      `App at ${url} showed no sign of life for ${call.timeoutMs / 1000} s: neither a report nor a response.`,
    )
  const code = (error as { code?: unknown }).code
  const reason = typeof code === 'string' ? code : error instanceof Error ? error.message : String(error)
  if (hadHeaders || code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE')
    return refusal('app_closed', `App at ${url} closed the connection before its answer was complete (${reason}).`)
  return refusal('app_unreachable', `App at ${url} cannot be reached (${reason}).`)
}

export function refusal(code: ErrorCode, message: string): Refusal {
  // Postgres text holds no NUL, and a message is one line.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
  return { kind: 'no_answer', code, message: message.replace(/[\u0000-\u001f]+/g, ' ').trim() }
}

function excerpt(body: Buffer): string {
  const text = body.toString('utf8').slice(0, EXCERPT_CHARS).replace(/\s+/g, ' ').trim()
  return text === '' ? 'an empty body' : JSON.stringify(text)
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}
