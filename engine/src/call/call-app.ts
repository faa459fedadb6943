/*
 * The only place that calls apps. One signed POST; whatever comes back, or does not, becomes a value: an app that fails is
 * an outcome that we expect, and never an exception.
 */
import {
  type Description,
  type ErrorCode,
  fingerprint,
  HEADERS,
  LIMITS,
  newMessageId,
  PROTOCOL_VERSION,
  type Report,
  responseId,
  signHeaders,
  verify,
} from '@stepwell/protocol'
import { descriptionSchema, firstProblems, reportSchema } from '@stepwell/protocol/schemas'
import type { Catalog } from '../core/catalog.ts'
import { nestsDeeperThan } from '../core/json-depth.ts'
import { type ExchangeOutcome, Exchanger } from './exchange.ts'

export interface AppCall {
  catalog: Pick<Catalog, 'name' | 'keys'> & { url: string | null }
  kind: 'turn' | 'describe'
  /** JSON text */
  body: string
  /** Our monotonic clock at the app's last sign of life besides the response; the time-out counts from there. */
  lastSignAtMs: () => number
  timeoutMs: number
  /** The answer does not matter any more. */
  isOver: () => boolean
}

export type AppOutcome = (
  | { kind: 'report'; report: Report }
  | { kind: 'description'; description: Description }
  | { kind: 'no_answer'; code: ErrorCode; message: string }
) & { firstByteAtMs: number | null }

type Refusal = { kind: 'no_answer'; code: ErrorCode; message: string }

export type CallApp = <Kind extends AppCall['kind']>(
  call: AppCall & { kind: Kind },
) => Promise<Exclude<AppOutcome, { kind: Kind extends 'turn' ? 'description' : 'report' }>>

/** For describes: they wait for no turn. */
const DESCRIBES_AT_ONCE = 4
/** How much of a wrong answer is shown. */
const EXCERPT_CHARS = 120

/** A caller with its own connections, one for each turn at once, so that none waits for another; `close` waits for none. */
export function createCallApp(options: { turnsAtOnce: number }): { callApp: CallApp; close: () => Promise<void> } {
  const exchangers = { turn: new Exchanger(options.turnsAtOnce), describe: new Exchanger(DESCRIBES_AT_ONCE) }
  // The kind of the answer follows from the kind of the call: readAnswer parses by it.
  return {
    callApp: (call => send(exchangers[call.kind], call)) as CallApp,
    close: async () => {
      await Promise.all(Object.values(exchangers).map(exchanger => exchanger.close()))
    },
  }
}

type Outcome = { kind: 'report'; report: Report } | { kind: 'description'; description: Description } | Refusal

async function send(exchanger: Exchanger, call: AppCall): Promise<AppOutcome> {
  const url = call.catalog.url ?? ''
  if (!URL.canParse(url))
    return { ...refusal('app_unreachable', `App at ${url} cannot be reached (Invalid URL).`), firstByteAtMs: null }
  const id = newMessageId()
  const outcome = await exchanger.send({
    url: new URL(url),
    body: call.body,
    bodyBytesMax: LIMITS.bodyBytes,
    headers: {
      'content-type': 'application/json',
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: call.catalog.name,
      ...signHeaders({ id, nowMs: Date.now(), payload: call.body, secrets: call.catalog.keys }),
    },
    reasonToAbort() {
      if (call.isOver()) return 'over'
      return performance.now() - call.lastSignAtMs() > call.timeoutMs ? 'timeout' : null
    },
  })
  return { ...explain(call, url, id, outcome), firstByteAtMs: outcome.firstByteAtMs }
}

function explain(call: AppCall, url: string, id: string, outcome: ExchangeOutcome): Outcome {
  switch (outcome.kind) {
    case 'answer':
      return readAnswer(call, url, id, outcome)
    case 'too_large':
      return refusal('app_body_too_large', `App at ${url} answered with more than ${LIMITS.bodyBytes} bytes.`)
    case 'failed':
      return explainFailure(url, call, outcome.aborted, outcome.error, outcome.firstByteAtMs !== null)
  }
}

function readAnswer(
  call: AppCall,
  url: string,
  id: string,
  { status, headers, body }: Extract<ExchangeOutcome, { kind: 'answer' }>,
): Outcome {
  if (status >= 300 && status < 400)
    return refusal(
      'app_redirected',
      `App at ${url} answered ${status} to ${String(headers.location ?? 'nowhere')}. Redirects are not followed: sync the app under its final URL.`,
    )
  if (status !== 200) return refuseStatus(call, url, status, body)
  const verified = verify({
    headers: {
      id: single(headers[HEADERS.id]),
      timestamp: single(headers[HEADERS.timestamp]),
      signature: single(headers[HEADERS.signature]),
    },
    payload: body,
    secrets: call.catalog.keys,
    nowMs: Date.now(),
  })
  if (!verified.ok || verified.id !== responseId(id)) {
    const why = verified.ok ? 'Its signature belongs to another request.' : verified.message
    return refusal(
      'app_signature_invalid',
      `App at ${url} answered 200, but not signed as it should be (${excerpt(body)}). ${why}`,
    )
  }
  if (nestsDeeperThan(body, LIMITS.jsonDepth))
    return refusal(
      'app_body_invalid',
      `App at ${url} answered with JSON that nests deeper than ${LIMITS.jsonDepth} levels.`,
    )
  let json: unknown
  try {
    json = JSON.parse(body.toString('utf8'))
  } catch {
    return refusal('app_body_invalid', `App at ${url} answered with something that is not JSON: ${excerpt(body)}.`)
  }
  const parsed = call.kind === 'turn' ? reportSchema.safeParse(json) : descriptionSchema.safeParse(json)
  if (!parsed.success) {
    const problems = firstProblems(parsed.error, 3).map(problem => `${problem.path}: ${problem.message}`)
    return refusal(
      'app_body_invalid',
      `App at ${url} answered with a malformed ${call.kind === 'turn' ? 'report' : 'description'}: ${problems.join('; ')}.`,
    )
  }
  return call.kind === 'turn'
    ? { kind: 'report', report: parsed.data as Report }
    : { kind: 'description', description: parsed.data as Description }
}

/** What a status other than 200 says about the app, with its own words where it speaks our protocol. */
function refuseStatus(call: AppCall, url: string, status: number, body: Buffer): Refusal {
  const problem = readProblem(body)
  if (problem?.code === 'function_not_found')
    return refusal(
      'app_functions_differ',
      `App at ${url} does not serve this function: ${problem.detail} Deploy it again, or sync the app that has it.`,
    )
  if (status === 401) {
    const ours = call.catalog.keys.map(fingerprint).join(', ')
    const theirs = problem?.fingerprints === undefined ? '' : `, the app has ${problem.fingerprints.join(', ')}`
    return refusal(
      'app_signature_invalid',
      `App at ${url} refused our signature: we sign with key ${ours}${theirs}. ${problem?.detail ?? ''} Give both sides the same signing key.`,
    )
  }
  const words = problem?.detail ?? excerpt(body)
  return refusal('app_status', `App at ${url} answered ${status}: ${words}`)
}

function readProblem(body: Buffer): { code?: string; detail?: string; fingerprints?: string[] } | null {
  try {
    const json = JSON.parse(body.toString('utf8')) as {
      code?: unknown
      detail?: unknown
      fingerprints?: unknown
    } | null
    if (typeof json?.code !== 'string') return null
    return {
      code: json.code,
      ...(typeof json.detail === 'string' ? { detail: json.detail.slice(0, 500) } : {}),
      ...(Array.isArray(json.fingerprints) ? { fingerprints: json.fingerprints.map(String).slice(0, 8) } : {}),
    }
  } catch {
    return null
  }
}

function explainFailure(
  url: string,
  call: AppCall,
  aborted: string | null,
  error: unknown,
  hadHeaders: boolean,
): Refusal {
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

function refusal(code: ErrorCode, message: string): Refusal {
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
