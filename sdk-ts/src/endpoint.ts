/**
 * The app's endpoint: verifies the raw bytes, then parses them, and answers what the engine asks. Whatever comes in, the
 * answer is a signed 200 or a problem that says what is wrong.
 */
import {
  type Description,
  fingerprint,
  HEADERS,
  LIMITS,
  PROTOCOL_VERSIONS,
  REQUEST_KINDS,
  type ReplayGuard,
  responseId,
  type SignedHeaders,
  signHeaders,
  type Turn,
  type Verified,
  verify,
} from '@stepwell/protocol'
import type { DurableFunction } from './function.ts'
import {
  type BodyRead,
  type EndpointAnswer,
  type EndpointRequest,
  framesAnswer,
  isDirect,
  okAnswer,
  problemAnswer,
} from './http-message.ts'
import type { Keys } from './keys.ts'
import { isRecord } from './read-entries.ts'
import { findTurnProblem } from './read-turn.ts'
import { SDK } from './sdk-version.ts'
import type { Served } from './served.ts'
import { executeBatch } from './turn-batch.ts'
import type { TurnEnd } from './turn-input.ts'

/** What an endpoint is made of. */
export interface EndpointParts {
  served: Served
  keys: Keys
  replayGuard: ReplayGuard
  /** Executes a turn whose envelope is right; `secrets` are the keys that the request was verified with. */
  execute: (turn: Turn, definition: DurableFunction, secrets: readonly string[]) => Promise<TurnEnd>
}

/** A whole journal and what stands around it. */
const MAX_BODY_BYTES = LIMITS.journalBytes + LIMITS.bodyBytes

/** Answers one request. Does not reject. */
export async function answerRequest(request: EndpointRequest, parts: EndpointParts): Promise<EndpointAnswer> {
  if (request.method !== 'POST') {
    const answer = problemAnswer(
      405,
      'method_not_allowed',
      'The engine calls this URL with POST; nothing else is here.',
    )
    return { ...answer, headers: { ...answer.headers, allow: 'POST' } }
  }
  const version = request.header(HEADERS.version)
  if (!PROTOCOL_VERSIONS.includes(version ?? '')) {
    const detail = version
      ? `This SDK speaks ${HEADERS.version} ${PROTOCOL_VERSIONS.join(', ')}, not ${version}. Update the older side.`
      : `This is the endpoint of a Stepwell app; only the engine calls it. The request has no ${HEADERS.version} header.`
    return problemAnswer(415, 'version_unknown', detail, { versions: [...PROTOCOL_VERSIONS] })
  }
  const secrets = await parts.keys.find()
  if ('missing' in secrets) return problemAnswer(503, 'unavailable', secrets.missing)
  if (!request.header(HEADERS.signature)) return refuseSignature(check(request, '', secrets), secrets)
  const read = await request.readBody(MAX_BODY_BYTES)
  if (read.kind !== 'bytes') return refuseBody(read)
  return answerBytes(request, read.bytes, secrets, parts)
}

async function answerBytes(
  request: EndpointRequest,
  bytes: Uint8Array,
  secrets: readonly string[],
  parts: EndpointParts,
): Promise<EndpointAnswer> {
  const verified = check(request, bytes, secrets)
  if (!verified.ok) {
    const reloaded = (await parts.keys.reload()) ? await parts.keys.find() : secrets
    // Other keys now: once more with them, and not again, as they do not change within a moment.
    if (reloaded !== secrets && !('missing' in reloaded)) return answerBytes(request, bytes, reloaded, parts)
    return refuseSignature(verified, secrets)
  }
  if (!parts.replayGuard.accept(verified.id, Date.now())) {
    const detail = `The message ${verified.id} was received before. Sign every request with a new ${HEADERS.id}.`
    return problemAnswer(401, 'request_replayed', detail, { fingerprints: secrets.map(fingerprint) })
  }
  const id = responseId(verified.id)
  const sign = (payload: string) => signHeaders({ id, nowMs: Date.now(), payload, secrets })
  const offers: Record<string, string> = isDirect(request) ? { [HEADERS.accepts]: 'turns' } : {}
  const answer = await route(bytes, request.header(HEADERS.workspace), { secrets, parts, sign, offers })
  return typeof answer === 'string' ? okAnswer(answer, { ...sign(answer), ...offers }) : answer
}

/** What answers are made with. */
interface Answering {
  secrets: readonly string[]
  parts: EndpointParts
  sign: (payload: string) => SignedHeaders
  /** Headers that say what else may be sent here. */
  offers: Record<string, string>
}

/** The body of a 200, or a problem. */
async function route(
  bytes: Uint8Array,
  workspace: string | null | undefined,
  answering: Answering,
): Promise<string | EndpointAnswer> {
  const { secrets, parts } = answering
  const body = parseBody(bytes)
  if (body === null) return problemAnswer(400, 'body_invalid', 'The body is no JSON object. Send a Turn or a Describe.')
  if (typeof body.workspace === 'string' && workspace && body.workspace !== workspace) {
    const detail = `The header ${HEADERS.workspace} says "${workspace}", the signed body "${body.workspace}".`
    return problemAnswer(401, 'signature_invalid', detail, { fingerprints: secrets.map(fingerprint) })
  }
  switch (body.kind) {
    case 'describe':
      return JSON.stringify(describe(parts.served))
    case 'turn':
      return takeTurn(body, secrets, parts)
    case 'turns':
      return takeTurns(body, answering)
    default: {
      const detail = `This SDK does not know requests of kind ${JSON.stringify(body.kind)}.`
      return problemAnswer(400, 'kind_unknown', detail, { kinds: [...REQUEST_KINDS] })
    }
  }
}

async function takeTurn(
  body: Record<string, unknown>,
  secrets: readonly string[],
  parts: EndpointParts,
): Promise<string | EndpointAnswer> {
  const problem = findTurnProblem(body)
  if (problem !== null) {
    const detail = `The turn is malformed: ${problem.path} ${problem.message}.`
    return problemAnswer(400, 'body_invalid', detail, { errors: [{ ...problem }] })
  }
  // Every member that is read from here on was checked.
  const turn = body as unknown as Turn
  const found = parts.served.find(turn.function, turn.version ?? 1)
  if ('missing' in found) {
    const code = found.missing === 'version' ? 'version_not_found' : 'function_not_found'
    return problemAnswer(404, code, found.message, { functions: parts.served.ids })
  }
  const end = await parts.execute(turn, found.definition, secrets)
  return end.kind === 'report' ? end.text : problemAnswer(409, 'stale_epoch', end.message)
}

/** Several turns: a problem of one of them is told in its place. */
function takeTurns({ workspace, turns }: Record<string, unknown>, answering: Answering): EndpointAnswer {
  const { secrets, parts, sign, offers } = answering
  if (typeof workspace !== 'string' || !Array.isArray(turns) || !turns.every(isRecord)) {
    return problemAnswer(400, 'body_invalid', 'The batch is malformed: it needs a "workspace" and "turns".')
  }
  const execute = async (turn: Record<string, unknown>) => {
    const answer =
      turn.workspace === workspace
        ? await takeTurn(turn, secrets, parts).catch(failedTurn)
        : problemAnswer(400, 'body_invalid', 'The turn is about another workspace than its batch.')
    return typeof answer === 'string' ? answer : problemOfTurn(turn, answer)
  }
  return framesAnswer(executeBatch({ turns, workspace, execute, sign }), offers)
}

/** A defect of this SDK. The other turns of the batch go on. */
function failedTurn(error: unknown): EndpointAnswer {
  console.error('[stepwell] internal error', error)
  return problemAnswer(500, 'internal', 'The SDK has failed; the log of the app says why. Please report it.')
}

/** A problem document in the place of a report. */
function problemOfTurn({ run, epoch }: Record<string, unknown>, { status, body }: EndpointAnswer): string {
  const { code, detail }: { code?: unknown; detail?: unknown } = typeof body === 'string' ? JSON.parse(body) : {}
  return JSON.stringify({ kind: 'problem', run: isRecord(run) ? run.id : null, epoch, status, code, detail })
}

function describe(served: Served): Description {
  return { kind: 'description', sdk: SDK, functions: served.describe() }
}

function check(request: EndpointRequest, payload: string | Uint8Array, secrets: readonly string[]): Verified {
  const headers = {
    id: request.header(HEADERS.id),
    timestamp: request.header(HEADERS.timestamp),
    signature: request.header(HEADERS.signature),
  }
  return verify({ headers, payload, secrets, nowMs: Date.now() })
}

function refuseSignature(verified: Verified, secrets: readonly string[]): EndpointAnswer {
  if (verified.ok) throw new Error('A message that was verified is not refused.')
  return problemAnswer(401, verified.code, verified.message, { fingerprints: secrets.map(fingerprint) })
}

function refuseBody(read: Exclude<BodyRead, { kind: 'bytes' }>): EndpointAnswer {
  switch (read.kind) {
    case 'too_large':
      return problemAnswer(413, 'body_too_large', `The body has more than ${MAX_BODY_BYTES} bytes.`)
    case 'broken':
      return problemAnswer(400, 'body_invalid', 'The connection was lost before the end of the body.')
    case 'consumed': {
      const detail =
        'Something (express.json() does that) read the body before Stepwell did, so its signature cannot be checked. ' +
        'Put the endpoint before it:\n  app.post("/api/stepwell", serve(functions))\n  app.use(express.json())'
      return problemAnswer(400, 'body_invalid', detail)
    }
  }
}

function parseBody(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
    return isRecord(parsed) ? parsed : null
  } catch {
    return null
  }
}
