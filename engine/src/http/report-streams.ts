/*
 * Report streams (SPEC.md 8.4): an app that asks for one gets its connection upgraded, and sends the same signed batches of
 * reports as frames. What HTTP costs per message falls away, which is most of what one report costs. The promises are the
 * same: a batch is acknowledged after its commit.
 */
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  encodeFrame,
  type Frame,
  FrameReader,
  HEADERS,
  payloadOf,
  responseId,
  STREAM_PROTOCOL,
  signHeaders,
} from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { Log } from '../log.ts'
import type { HttpEngine } from './context.ts'
import { type Gate, requireVersion } from './gate.ts'
import { problemOf } from './problems.ts'
import { takeReportBatch } from './report-batch.ts'

const PATH = '/v1/reports'
/** Frames of one stream that are not answered yet; an app that sends more waits. */
const UNANSWERED_MAX = 16
/** Of one engine: app processes that report to it. */
const STREAMS_MAX = 2_000
/** Apps use none that was idle for half as long; a host that has vanished without a word is forgotten. */
const IDLE_MS = 60_000

export interface ReportStreams {
  /** Takes over the connection of a request that asks for an upgrade. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Ends all streams: apps send their next reports elsewhere, or again. */
  close(): void
}

/** Takes upgrades of one engine. */
export function createReportStreams(deps: {
  engine: Pick<HttpEngine, 'takeReports'>
  gate: Gate
  log: Log
  newRequestId: () => string
}): ReportStreams {
  /** Also those that are not accepted yet, or refused and not gone yet: a server does not close before they are. */
  const sockets = new Set<Duplex>()

  async function accept(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy())
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    try {
      const catalog = await identify(request)
      if (socket.destroyed) return
      if (sockets.size > STREAMS_MAX)
        throw new EngineError('unavailable', 503, `There are ${STREAMS_MAX} report streams. Send reports as requests.`)
      if (socket instanceof Socket) socket.setTimeout(IDLE_MS, () => socket.destroy())
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${STREAM_PROTOCOL}\r\n\r\n`)
      readFrames(deps, catalog.name, socket, head)
    } catch (error) {
      const problem = problemOf(error, deps.newRequestId())
      const body = JSON.stringify(problem)
      socket.end(
        `HTTP/1.1 ${problem.status} ${problem.title}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n` +
          `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
        () => socket.destroy(),
      )
    }
  }

  async function identify(request: IncomingMessage): Promise<Catalog> {
    const { method = '', url = '', headers } = request
    if (method !== 'GET' || url !== PATH || headers.upgrade !== STREAM_PROTOCOL) {
      const message = `Only GET ${PATH} can be upgraded here, and only to ${STREAM_PROTOCOL}.`
      throw new EngineError('not_found', 404, message)
    }
    requireVersion(single(headers[HEADERS.version]), true)
    const catalog = await deps.gate.workspaceNamed(single(headers[HEADERS.workspace]))
    const signed = {
      id: single(headers[HEADERS.id]),
      timestamp: single(headers[HEADERS.timestamp]),
      signature: single(headers[HEADERS.signature]),
    }
    deps.gate.verify(catalog, signed, payloadOf(method, url, null))
    return catalog
  }

  return {
    accept: (request, socket, head) => void accept(request, socket, head),
    close() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** Answers frames as they come, each when it is ready. A frame that is not what it should be ends the stream. */
function readFrames(
  deps: Parameters<typeof createReportStreams>[0],
  workspace: string,
  socket: Duplex,
  head: Buffer,
): void {
  const reader = new FrameReader()
  let unanswered = 0
  /** The app sends no more; what it has sent is answered. */
  let isEnded = false

  async function answer(frame: Frame): Promise<void> {
    unanswered += 1
    if (unanswered === UNANSWERED_MAX) socket.pause()
    try {
      // Asked for anew: keys may have changed since the stream was opened.
      const catalog = await deps.gate.workspaceNamed(workspace)
      const id = deps.gate.verify(catalog, frame.headers, frame.body)
      const payload = JSON.stringify(await acksOf(catalog, frame.body))
      const signed = { id: responseId(id), nowMs: Date.now(), payload, secrets: catalog.keys }
      // Answered when it is on its way: an app that reads no answers is not read from without end.
      await new Promise<unknown>(resolve => socket.write(encodeFrame(signHeaders(signed), payload), resolve))
    } catch (error) {
      // Not from somebody with our key, or no workspace any more: there is nobody to answer to.
      deps.log.warn({ workspace, err: error }, 'report stream ended')
      socket.destroy()
    }
    unanswered -= 1
    if (unanswered < UNANSWERED_MAX && socket.isPaused()) socket.resume()
    if (isEnded && unanswered === 0) socket.end()
  }

  async function acksOf(catalog: Catalog, body: Buffer): Promise<object> {
    try {
      return await takeReportBatch(deps.engine, catalog, body)
    } catch (error) {
      const problem = problemOf(error, deps.newRequestId())
      if (problem.status >= 500) deps.log.warn({ requestId: problem.requestId, err: error }, 'reports refused')
      return problem
    }
  }

  function read(chunk: Buffer): void {
    try {
      // Not awaited: each frame is answered by itself, and its failure ends the stream.
      for (const frame of reader.read(chunk)) void answer(frame)
    } catch {
      socket.destroy()
    }
  }

  socket.on('data', read)
  socket.once('end', () => {
    isEnded = true
    if (unanswered === 0) socket.end()
  })
  if (head.length > 0) read(head)
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value
}
