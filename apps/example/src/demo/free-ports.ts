import { createServer, type Server } from 'node:net'

const HOST = '127.0.0.1'

/** Ports that nobody uses right now, all different. */
export async function findFreePorts(count: number): Promise<number[]> {
  // All held at once, and let go together: so none is found twice.
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)))
  const ports = servers.map(server => {
    const address = server?.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
  await Promise.all(servers.map(close))
  return ports
}

/** The first free port from `from` on. */
export async function findPortFrom(from: number, attempts = 100): Promise<number> {
  for (let port = from; port < from + attempts; port += 1) {
    const server = await listen(port)
    if (server === null) continue
    await close(server)
    return port
  }
  throw new Error(`No port from ${from} to ${from + attempts - 1} is free.`)
}

function listen(port: number): Promise<Server | null> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(null))
    server.listen(port, HOST, () => resolve(server))
  })
}

function close(server: Server | null): Promise<void> {
  return new Promise(resolve => (server === null ? resolve() : server.close(() => resolve())))
}
