import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'

/** Counts what reaches this process over all its sockets from now on: nothing stands in between, and nothing is slower. */
export function countReceivedBytes(): () => number {
  const open = new Set<Socket>()
  let closedBytes = 0
  const count = (message: unknown) => {
    const { socket } = message as { socket: Socket }
    open.add(socket)
    socket.once('close', () => {
      open.delete(socket)
      closedBytes += socket.bytesRead
    })
  }
  subscribe('net.client.socket', count)
  subscribe('net.server.socket', count)
  return () => [...open].reduce((sum, { bytesRead }) => sum + bytesRead, closedBytes)
}
