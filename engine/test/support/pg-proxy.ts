/*
 * A TCP proxy between an engine and its Postgres that knows where the commits are. It reads the wire protocol as it passes
 * and can stop the traffic of a connection at one statement: before it reaches the server, or after the server has
 * committed it and before the engine hears of it. What is killed meanwhile is killed exactly there.
 *
 * Messages are one byte of type and four of length; a client's first one has no type.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'

/** The statements that commit something of a run, by the name of their SQL function. */
export const COMMIT_POINTS = [
  'ingest',
  'claim',
  'record',
  'advance',
  'fire_timers',
  'add_shape',
  'add_event_keys',
  'complete_shape',
  'signal',
  'ask_to_cancel',
  'walk_cancelled',
] as const
export type CommitPoint = (typeof COMMIT_POINTS)[number]

export interface CrashPoint {
  at: CommitPoint
  /** 1: the first one from now on. */
  occurrence: number
  phase: 'before' | 'after'
}

export interface PgProxy {
  port: number
  /** How often each statement has passed since `resetCounts`. */
  counts: Record<CommitPoint, number>
  resetCounts(): void
  /** Resolves when the point is reached; the connection stands still until `release`. */
  arm(point: CrashPoint): Promise<void>
  disarm(): void
  /** Lets the traffic go on, or with `drop` closes the connection that stood still: its two ends learn nothing. */
  release(how: 'forward' | 'drop'): void
  close(): Promise<void>
}

const LABELS: [RegExp, CommitPoint][] = [
  [/stepwell\.ingest\(/, 'ingest'],
  [/stepwell\.claim\(/, 'claim'],
  [/stepwell\.record\(/, 'record'],
  [/stepwell\.advance\(/, 'advance'],
  [/stepwell\.fire_timers\(/, 'fire_timers'],
  [/stepwell\.add_shape\(/, 'add_shape'],
  [/insert into stepwell\.event_keys/, 'add_event_keys'],
  [/set complete_since = least/, 'complete_shape'],
  [/stepwell\.signal\(/, 'signal'],
  [/stepwell\.ask_to_cancel\(/, 'ask_to_cancel'],
  [/stepwell\.walk_cancelled\(/, 'walk_cancelled'],
]

interface Armed extends CrashPoint {
  left: number
  hit: () => void
}

interface Held {
  forward: () => void
  drop: () => void
}

/** Starts a proxy to the server that `target` names at the time of each connection. */
export async function startPgProxy(target: () => { host: string; port: number }): Promise<PgProxy> {
  const counts = zeroCounts()
  const sockets = new Set<Socket>()
  let armed: Armed | null = null
  let held: Held | null = null

  /** Counts the statement; says whether it is the point that was armed. */
  function reach(at: CommitPoint): CrashPoint['phase'] | null {
    counts[at] += 1
    if (armed === null || armed.at !== at) return null
    armed.left -= 1
    return armed.left === 0 ? armed.phase : null
  }

  function hold(how: Held): void {
    held = how
    const point = armed
    armed = null
    point?.hit()
  }

  const server: Server = createServer(client => {
    const { host, port } = target()
    const upstream = host.startsWith('/') ? connect({ path: `${host}/.s.PGSQL.${port}` }) : connect({ host, port })
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    joinSockets({ client, upstream, reach, hold })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.')

  return {
    port: address.port,
    counts,
    resetCounts: () => Object.assign(counts, zeroCounts()),
    arm: point =>
      new Promise(resolve => {
        armed = { ...point, left: point.occurrence, hit: resolve }
      }),
    disarm() {
      armed = null
    },
    release(how) {
      held?.[how]()
      held = null
    },
    close: () =>
      new Promise(resolve => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}

function zeroCounts(): Record<CommitPoint, number> {
  return Object.fromEntries(COMMIT_POINTS.map(point => [point, 0])) as Record<CommitPoint, number>
}

interface Joint {
  client: Socket
  upstream: Socket
  reach: (at: CommitPoint) => CrashPoint['phase'] | null
  hold: (how: Held) => void
}

/** Passes messages both ways, and stops at the armed one. */
function joinSockets({ client, upstream, reach, hold }: Joint): void {
  const statements = new Map<string, CommitPoint | null>()
  /** Messages that wait while the connection stands still, by direction. */
  let toServer: Buffer[] | null = null
  let toClient: Buffer[] | null = null
  /** Standing still begins when the server has answered the statement that is under way. */
  let isAwaitingCommit = false

  const resume = {
    forward() {
      for (const message of toServer ?? []) upstream.write(message)
      for (const message of toClient ?? []) client.write(message)
      toServer = null
      toClient = null
    },
    drop() {
      client.destroy()
      upstream.destroy()
    },
  }

  readMessages(client, { hasStartup: true }, (type, message) => {
    const label = labelOf(statements, type, message)
    const phase = label === null ? null : reach(label)
    if (phase === 'before') {
      toServer = []
      hold(resume)
    } else if (phase === 'after') {
      isAwaitingCommit = true
      toClient = []
    }
    if (toServer !== null) toServer.push(message)
    else upstream.write(message)
  })
  readMessages(upstream, { hasStartup: false }, (type, message) => {
    if (toClient !== null) toClient.push(message)
    else client.write(message)
    // ReadyForQuery: what the statement did is committed.
    if (isAwaitingCommit && type === 'Z') {
      isAwaitingCommit = false
      hold(resume)
    }
  })
}

/** Which commit point a client's message executes: a Bind of a statement that was parsed before, or a simple query. */
function labelOf(statements: Map<string, CommitPoint | null>, type: string, message: Buffer): CommitPoint | null {
  if (type === 'P') {
    const [name, text] = readStrings(message, 2)
    statements.set(name ?? '', labelOfText(text ?? ''))
    return null
  }
  if (type === 'B') return statements.get(readStrings(message, 2)[1] ?? '') ?? null
  if (type === 'Q') return labelOfText(readStrings(message, 1)[0] ?? '')
  return null
}

function labelOfText(text: string): CommitPoint | null {
  return LABELS.find(([pattern]) => pattern.test(text))?.[1] ?? null
}

/** Zero-terminated strings after type and length. */
function readStrings(message: Buffer, count: number): string[] {
  const strings: string[] = []
  let at = 5
  while (strings.length < count) {
    const end = message.indexOf(0, at)
    if (end === -1) break
    strings.push(message.toString('utf8', at, end))
    at = end + 1
  }
  return strings
}

/** Cuts a stream into whole messages. */
function readMessages(
  socket: Socket,
  options: { hasStartup: boolean },
  onMessage: (type: string, message: Buffer) => void,
): void {
  let rest: Buffer = Buffer.alloc(0)
  let isStartup = options.hasStartup
  socket.on('data', chunk => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      const header = isStartup ? 0 : 1
      if (rest.length < header + 4) return
      const length = header + rest.readInt32BE(header)
      if (rest.length < length) return
      const type = isStartup ? '' : String.fromCharCode(rest[0] ?? 0)
      const message = rest.subarray(0, length)
      rest = rest.subarray(length)
      isStartup = false
      onMessage(type, message)
    }
  })
}
