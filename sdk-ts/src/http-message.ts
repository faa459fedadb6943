/** Requests and answers of an endpoint, in the one shape that every adapter translates into and out of. */
import { type ErrorCode, HEADERS, PROTOCOL_VERSION, type Problem } from '@stepwell/protocol'
import { SDK } from './sdk-version.ts'

/** A request as the endpoint sees it. */
export interface EndpointRequest {
  method: string
  /** The value of a header; `name` is in lower case. */
  header(name: string): string | null | undefined
  /** Reads the raw bytes of the body, at most `maxBytes`. Called at most once. */
  readBody(maxBytes: number): Promise<BodyRead>
}

/** Headers that proxies add. What comes through one may be held back until it is complete. */
const PROXY_HEADERS = ['via', 'forwarded', 'x-forwarded-for', 'x-real-ip']

/** Whether what is written of an answer is likely to arrive at once. */
export function isDirect(request: EndpointRequest): boolean {
  return PROXY_HEADERS.every(name => !request.header(name))
}

/** The bytes, or why there are none. */
export type BodyRead =
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'too_large' }
  /** Something before us has read the body and left no raw bytes. */
  | { kind: 'consumed' }
  /** The connection was lost. */
  | { kind: 'broken' }

/** An answer. */
export interface EndpointAnswer {
  status: number
  headers: Record<string, string>
  /** A text, or parts that are sent as they come. */
  body: string | AsyncIterable<Uint8Array>
}

const OWN_HEADERS = { [HEADERS.version]: PROTOCOL_VERSION, [HEADERS.sdk]: SDK }

/** A signed answer of status 200. */
export function okAnswer(body: string, signed: Record<string, string>): EndpointAnswer {
  return { status: 200, headers: { 'content-type': 'application/json', ...OWN_HEADERS, ...signed }, body }
}

/** An answer that comes in frames, each signed. Nothing on the way should pack it together. */
export function framesAnswer(frames: AsyncIterable<Uint8Array>, extra: Record<string, string>): EndpointAnswer {
  const headers = {
    'content-type': 'application/x-stepwell-frames',
    'cache-control': 'no-store, no-transform',
    // What nginx understands.
    'x-accel-buffering': 'no',
  }
  return { status: 200, headers: { ...headers, ...OWN_HEADERS, ...extra }, body: frames }
}

/**
 * An error answer: RFC 9457.
 * @param extra further members of the problem; never keys, never the environment
 */
export function problemAnswer(
  status: number,
  code: ErrorCode,
  detail: string,
  extra: Record<string, Problem[string]> = {},
): EndpointAnswer {
  const title = code.replaceAll('_', ' ')
  const problem: Problem = { type: `urn:stepwell:error:${code}`, title, status, code, detail, ...extra }
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...OWN_HEADERS },
    body: JSON.stringify(problem),
  }
}
