import { createServer } from 'node:net'
import { join } from 'node:path'
import postgres from 'postgres'
import { EmbeddedPostgresError, errorCode } from './error.ts'

/** For postgres.js: `postgres({ ...connection })`. A `host` that starts with a slash is a folder with a unix socket. */
export interface Connection {
  host: string
  port: number
  user: string
  password: string
  database: string
}

/** Where a server listens: exactly one of the two. */
export type Endpoint = { kind: 'socket'; folder: string; port: number } | { kind: 'tcp'; host: string; port: number }

// With a socket the port is only part of the file's name.
const SOCKET_PORT = 5432
const LOOPBACK = '127.0.0.1'
// sun_path is 108 bytes on Linux and 104 on a Mac, with a byte for the end.
const MAX_SOCKET_PATH_BYTES = 103
const CONNECT_TIMEOUT_S = 10

/**
 * A unix socket where one can be: it costs less per round trip and nobody else on the machine can connect. Not on
 * Windows, not where the path is too long for the system, and not with a comma in it, which libpq takes for two hosts.
 * After a crash the former port is taken again, so that clients find the server where it was.
 */
export async function chooseEndpoint(socketDir: string, formerPort: number | undefined): Promise<Endpoint> {
  const path = join(socketDir, `.s.PGSQL.${SOCKET_PORT}`)
  const fits = Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES && !path.includes(',')
  if (fits && process.platform !== 'win32') return { kind: 'socket', folder: socketDir, port: SOCKET_PORT }
  return { kind: 'tcp', host: LOOPBACK, port: formerPort ?? (await freePort()) }
}

/**
 * The connection as a URL for libpq (psql, pg_dump, most drivers). For a unix socket it has the form
 * `postgres://user:password@/database?host=/folder&port=5432`, which postgres.js does not understand in any spelling
 * (measured with 3.4.9: it refuses the URL, or sends `host` to the server as a setting). Use `connectionFromUrl` first.
 */
export function connectionUrl(connection: Connection): string {
  const { user, password, host, port, database } = connection
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`
  const path = encodeURIComponent(database)
  if (!host.startsWith('/')) return `postgres://${login}@${host}:${port}/${path}`
  return `postgres://${login}@/${path}?host=${encodeURIComponent(host)}&port=${port}`
}

/** Reads back what `connectionUrl` writes; undefined for any other URL, which postgres.js reads by itself. */
export function connectionFromUrl(url: string): Connection | undefined {
  const [, user, password, tcpHost, tcpPort, database, query] =
    /^postgres(?:ql)?:\/\/([^:/@]*):([^/@]*)@(?:([^:/?]+):(\d+))?\/([^?]*)(?:\?(.*))?$/.exec(url) ?? []
  if (user === undefined || password === undefined || database === undefined) return undefined
  const parameters = new URLSearchParams(query)
  const host = tcpHost ?? parameters.get('host')
  const port = Number(tcpPort ?? parameters.get('port') ?? SOCKET_PORT)
  const isOurs = [...parameters.keys()].every(name => tcpHost === undefined && (name === 'host' || name === 'port'))
  if (!host || !isOurs) return undefined
  const [plainUser, plainPassword, plainDatabase] = [user, password, database].map(decodeURIComponent)
  return { host, port, user: plainUser ?? '', password: plainPassword ?? '', database: plainDatabase ?? '' }
}

/** What the server says about itself to somebody who knows our password. */
export interface ServerFacts {
  dataDirectory: string
  fingerprint: string
}

/**
 * Connects once, to see that this is our server, and makes the database when it is not there yet (the first start may
 * have been interrupted just before).
 */
export async function askServer(connection: Connection): Promise<ServerFacts> {
  try {
    return await withClient(connection, readFacts)
  } catch (error) {
    if (errorCode(error) !== UNKNOWN_DATABASE) throw error
  }
  await withClient({ ...connection, database: 'postgres' }, async sql => {
    await sql`create database ${sql(connection.database)}`
  })
  return withClient(connection, readFacts)
}

const UNKNOWN_DATABASE = '3D000'

async function readFacts(sql: postgres.Sql): Promise<ServerFacts> {
  const [row] = await sql<[{ directory: string; fingerprint: string | null }]>`
    select current_setting('data_directory') as directory, current_setting('stepwell.fingerprint', true) as fingerprint
  `
  return { dataDirectory: row.directory, fingerprint: row.fingerprint ?? '' }
}

async function withClient<T>(connection: Connection, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres({
    ...connection,
    max: 1,
    // No look at pg_type: we read text only.
    fetch_types: false,
    connect_timeout: CONNECT_TIMEOUT_S,
    onnotice: () => undefined,
    connection: { application_name: 'stepwell start' },
  })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** A port that was free a moment ago; whoever listens on it must be ready to find it taken. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: LOOPBACK, port: 0 }, resolve)
  })
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') {
    throw new EmbeddedPostgresError('port_in_use', `No port is free on ${LOOPBACK}. Stop a few programs and try again.`)
  }
  return address.port
}
