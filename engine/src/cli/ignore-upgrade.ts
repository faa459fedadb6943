/*
 * Clients offer other protocols along with ordinary requests (Java's HTTP client and curl offer h2c), and a server that does
 * not speak them answers as if they had not (RFC 9110, 7.8). Once it takes upgrades at all, node:http hands over every
 * connection on which one is offered, its parser taken off. So the connection is given back to it, with the same request
 * less the offer.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'

/** Has the server take the request that came with an offer as one without. `head`: what has been read after its headers. */
export function ignoreUpgrade(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  let text = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n`
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    const name = request.rawHeaders[at] ?? ''
    if (name.toLowerCase() !== 'upgrade') text += `${name}: ${request.rawHeaders[at + 1]}\r\n`
  }
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head]))
  server.emit('connection', socket)
}
