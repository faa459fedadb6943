/**
 * A process that owns a data folder, for tests that kill it. Its argument is the options as JSON. It prints one line:
 * what it got, or the error. On SIGINT it does what a draining engine does: it uses the database, then stops it.
 */
import postgres from 'postgres'
import { EmbeddedPostgresError } from '../../src/embedded/error.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)
const options = JSON.parse(process.argv[2] ?? '{}')

try {
  const server = await startEmbeddedPostgres(options)
  if (options.note) await server.setNote(options.note)
  const { connection, url, dataDir, postmasterPid, how } = server
  process.once('SIGINT', async () => {
    const sql = postgres({ ...connection, max: 1 })
    const [row] = await sql`select 1 + 1 as sum`
    await sql.end()
    await server.stop()
    say({ drained: row?.sum })
    process.exit(0)
  })
  say({ connection, url, dataDir, postmasterPid, how, pid: process.pid })
  // Until it is killed: the server itself keeps no process alive.
  setInterval(() => undefined, 60_000)
} catch (error) {
  if (!(error instanceof EmbeddedPostgresError)) throw error
  say({ code: error.code, message: error.message })
}
