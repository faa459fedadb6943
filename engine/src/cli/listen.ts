/*
 * The HTTP servers of one engine. The port is taken first, so that a second engine stops before it touches anything; until
 * the engine behind it is ready every request is answered with 503.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import { type ErrorCode, STREAM_PROTOCOL } from '@stepwell/protocol'
import type { HttpEdge } from '../http/app.ts'
import { ignoreUpgrade } from './ignore-upgrade.ts'

/** Longer than any client or load balancer keeps an idle connection: the side that sends should be the one to close it. */
const KEEP_ALIVE_MS = 75_000
/** A body of the largest size takes no longer over a line that is of use. */
const REQUEST_TIMEOUT_MS = 60_000
const CLOSE_GRACE_MS = 5_000
const CLOSE_POLL_MS = 25
const FREE_PORT_TRIES = 5

export interface Listening {
  port: number
  /** From now on requests get there. */
  serve(edge: HttpEdge): void
  /** Takes no more connections; answers what is under way. */
  close(): Promise<void>
}

/**
 * Listens on every host under one port. A host that this machine does not have (no IPv6) is left out, but not the first.
 * @throws the error of `listen`, such as EADDRINUSE
 */
export async function listen(hosts: readonly string[], port: number): Promise<Listening> {
  let edge: HttpEdge | null = null
  let isClosing = false
  const listener = getRequestListener((request, env) => edge?.app.fetch(request, env) ?? notReady(), {
    errorHandler: unreadable,
  })
  for (let attempt = 1; ; attempt += 1) {
    const servers: Server[] = []
    try {
      for (const host of hosts) {
        const bound = port === 0 && servers[0] !== undefined ? portOf(servers[0]) : port
        const server = await listenOn(listener, host, bound, servers.length > 0)
        if (server === null) continue
        server.on('upgrade', (request, socket, head) => {
          if (request.headers.upgrade !== STREAM_PROTOCOL) ignoreUpgrade(server, request, socket, head)
          else if (edge === null || isClosing) socket.destroy()
          else edge.streams.accept(request, socket, head)
        })
        servers.push(server)
      }
      const [first] = servers
      if (first === undefined) throw new Error(`There is no address to listen on in ${hosts.join(', ')}.`)
      return {
        port: portOf(first),
        serve: served => {
          edge = served
        },
        async close() {
          isClosing = true
          edge?.streams.close()
          await Promise.all(servers.map(closeServer))
        },
      }
    } catch (error) {
      await Promise.all(servers.map(closeServer))
      // A port that is free on one address can be taken on the other: ask for another one.
      if (port !== 0 || attempt === FREE_PORT_TRIES) throw error
    }
  }
}

async function listenOn(
  listener: ReturnType<typeof getRequestListener>,
  host: string,
  port: number,
  isOptional: boolean,
): Promise<Server | null> {
  const server = createServer(
    { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: REQUEST_TIMEOUT_MS, noDelay: true },
    listener,
  )
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port }, resolve)
    })
    return server
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (isOptional && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) return null
    throw error
  }
}

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise(resolve => server.close(resolve))
  // Connections that were busy a moment ago become idle, and nobody else closes those.
  const idle = setInterval(() => server.closeIdleConnections(), CLOSE_POLL_MS)
  const late = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS)
  await closed
  clearInterval(idle)
  clearTimeout(late)
}

function notReady(): Response {
  return problem(503, 'unavailable', 'The engine is starting. Try again in a second.', { 'retry-after': '1' })
}

/** An address or a Host header that make no URL, or (never, we hope) something that the app itself did not catch. */
function unreadable(error: unknown): Response {
  if (error instanceof RequestError) return problem(404, 'not_found', 'The address of the request cannot be read.')
  return problem(500, 'internal', 'The request could not be handled.')
}

/** What the app answers by itself once it is there. */
function problem(status: number, code: ErrorCode, detail: string, headers: Record<string, string> = {}): Response {
  const document = { type: `urn:stepwell:error:${code}`, title: code.replaceAll('_', ' '), status, code, detail }
  return new Response(JSON.stringify(document), {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
  })
}

function portOf(server: Server): number {
  // A server that listens on a port has an address of this kind; a path would give a text.
  return (server.address() as AddressInfo).port
}
