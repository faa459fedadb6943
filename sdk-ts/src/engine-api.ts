/** Signed requests to the engine's REST API, and what its refusals mean. */
import {
  ERROR_CODES,
  type ErrorCode,
  fingerprint,
  HEADERS,
  newMessageId,
  PROTOCOL_VERSION,
  payloadOf,
  responseId,
  signHeaders,
  verify,
} from '@stepwell/protocol'
import { readDevFile } from './dev-file.ts'
import { StepwellError } from './errors.ts'
import { type HttpAnswer, HttpClient } from './http-client.ts'
import { Keys, type SigningKey } from './keys.ts'
import { isRecord } from './read-entries.ts'
import { SDK } from './sdk-version.ts'
import { signatureHeadersOf } from './signature-headers.ts'

const DEFAULT_URL = 'http://127.0.0.1:3030'
const DEFAULT_WORKSPACE = 'default/dev'
const ANSWER_TIMEOUT_MS = 30_000

/** One engine and one workspace of it. */
export class EngineApi {
  readonly #url: string | undefined
  readonly #workspace: string | undefined
  readonly #keys: Keys
  readonly #client = new HttpClient()

  /** @throws TypeError when the URL or a key is malformed */
  constructor(options: { url?: string; signingKey?: SigningKey; workspace?: string }) {
    if (options.url !== undefined) checkUrl(options.url, 'url')
    this.#url = options.url
    this.#workspace = options.workspace
    this.#keys = new Keys(options.signingKey)
  }

  /**
   * Sends a signed request and gives the body of the answer.
   * @param options `retryDelaysMs`: how long to wait before each further try, when the engine did not answer or is busy
   * @throws StepwellError when the engine refuses, or none answers
   */
  async request<Answer>(
    method: 'GET' | 'POST',
    path: string,
    options: { body?: string; retryDelaysMs: readonly number[] },
  ): Promise<Answer> {
    for (let tries = 0; ; tries += 1) {
      try {
        // The engine's answer is signed with our key: what the protocol says about its shape holds.
        return (await this.#requestOnce(method, path, options.body ?? null)) as Answer
      } catch (error) {
        const delayMs = options.retryDelaysMs[tries]
        const isKeyNew = error instanceof StepwellError && error.status === 401 && (await this.#keys.reload())
        if (!isKeyNew) {
          if (delayMs === undefined || !isWorthRetrying(error)) throw error
          await new Promise(resolve => setTimeout(resolve, delayMs))
        }
      }
    }
  }

  async #requestOnce(method: 'GET' | 'POST', path: string, body: string | null): Promise<unknown> {
    const base = await this.#findUrl()
    const url = new URL(base.replace(/\/+$/, '') + path)
    const secrets = await this.#keys.find()
    if ('missing' in secrets) throw new StepwellError('signature_missing', secrets.missing)
    const id = newMessageId()
    const payload = payloadOf(method, url.pathname + url.search, body)
    const headers = {
      ...(body !== null && { 'content-type': 'application/json' }),
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: this.#workspace ?? process.env.STEPWELL_WORKSPACE ?? DEFAULT_WORKSPACE,
      [HEADERS.sdk]: SDK,
      ...signHeaders({ id, nowMs: Date.now(), payload, secrets }),
    }
    let answer: HttpAnswer
    try {
      answer = await this.#client.send({ method, url: url.href, headers, body, timeoutMs: ANSWER_TIMEOUT_MS })
    } catch (cause) {
      throw noAnswer(base, cause)
    }
    return readAnswer(answer, { base, secrets, id: responseId(id) })
  }

  /** The dev file is read on every request: `stepwell dev` may be started later, and again on another port. */
  async #findUrl(): Promise<string> {
    const url = this.#url ?? process.env.STEPWELL_URL
    if (url !== undefined && url !== '') {
      checkUrl(url, 'STEPWELL_URL')
      return url
    }
    if (process.env.NODE_ENV === 'production') {
      throw new StepwellError('unavailable', 'It is not said where the engine is. Set STEPWELL_URL, or pass { url }.')
    }
    return (await readDevFile())?.url ?? DEFAULT_URL
  }
}

function checkUrl(url: string, where: string): void {
  if (/^https?:\/\//.test(url) && URL.canParse(url)) return
  throw new TypeError(`${where} is "${url}"; the engine's address starts with http:// or https://.`)
}

function readAnswer(
  { status, headers, body }: HttpAnswer,
  request: { base: string; secrets: readonly string[]; id: string },
): unknown {
  const { base, secrets, id } = request
  const parsed = parse(body)
  if (status < 200 || status > 299) throw refusal(status, parsed, request)
  const received = signatureHeadersOf(headers)
  const verified = verify({ headers: received, payload: body, secrets, nowMs: Date.now() })
  if (!verified.ok || verified.id !== id) {
    const why = verified.ok ? 'it answers another request' : verified.message
    const fingerprints = { ours: secrets.map(fingerprint), theirs: [] }
    const message = `The answer of ${base} is not from an engine with this key: ${why}`
    throw new StepwellError('signature_invalid', message, { status, fingerprints })
  }
  if (isRecord(parsed)) return parsed
  throw new StepwellError('internal', `${base} answered ${status} with something that is no JSON object.`, { status })
}

/** What the engine's problem says; or that something else answered, such as a proxy. */
function refusal(
  status: number,
  problem: unknown,
  request: { base: string; secrets: readonly string[] },
): StepwellError {
  if (!isRecord(problem) || !isCode(problem.code)) {
    const message = `${request.base} answered ${status}, and not as an engine does. Is it the engine's address?`
    return new StepwellError(status >= 500 ? 'unavailable' : 'internal', message, { status })
  }
  const { code, detail, requestId, errors, fingerprints } = problem
  const theirs = Array.isArray(fingerprints) ? fingerprints.filter(item => typeof item === 'string') : []
  const ours = request.secrets.map(fingerprint)
  const keys = status === 401 ? ` Our key has the fingerprint ${ours.join(', ')}.` : ''
  return new StepwellError(code, `${typeof detail === 'string' ? detail : code}${keys}`, {
    status,
    ...(typeof requestId === 'string' && { requestId }),
    ...(status === 401 && { fingerprints: { ours, theirs } }),
    ...(Array.isArray(errors) && { errors: errors.filter(isPathAndMessage) }),
  })
}

function noAnswer(base: string, cause: unknown): StepwellError {
  const why =
    cause instanceof Error ? cause.message || ('code' in cause ? String(cause.code) : cause.name) : String(cause)
  const message = `The engine does not answer at ${base}: ${why}. Is it running? \`stepwell dev\` starts one.`
  return new StepwellError('unavailable', message, { cause })
}

function isWorthRetrying(error: unknown): boolean {
  if (!(error instanceof StepwellError)) return false
  return error.status === 503 || (error.code === 'unavailable' && error.cause !== undefined)
}

function isCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && (ERROR_CODES as readonly string[]).includes(code)
}

function isPathAndMessage(error: unknown): error is { path: string; message: string } {
  return isRecord(error) && typeof error.path === 'string' && typeof error.message === 'string'
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    return undefined
  }
}
