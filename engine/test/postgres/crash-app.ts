/*
 * An app that ends itself with SIGKILL at the worst moments: after the commit of a transaction and before the report (`tx`),
 * or after the engine has stored the events of the outbox and before they are deleted (`drain`).
 */
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createFunction, type SqlClient, StepwellClient, serve } from '@stepwell/sdk'
import { drainOutbox } from '@stepwell/sdk/postgres'
import pg from 'pg'
import postgres from 'postgres'
import type { Connection } from '../../src/embedded/connection.ts'
import { connectionUrl } from '../../src/embedded/connection.ts'

const { CONNECTION = '{}', DIES = '', DRIVER = '', LEDGER = '', PORT = '' } = process.env
const connection = JSON.parse(CONNECTION) as Connection

/** Nothing runs after this: not a handler, not a flush. */
function die(): void {
  process.kill(process.pid, 'SIGKILL')
}

function openPostgresJs(): SqlClient {
  const sql = postgres({ ...connection, max: 2 })
  if (DIES === 'tx') {
    const { begin } = sql
    sql.begin = (async (work: never) => {
      await begin(work)
      die()
    }) as never
  }
  return sql
}

function openPool(): SqlClient {
  const pool = new pg.Pool({ connectionString: connectionUrl(connection), max: 2 })
  if (DIES === 'tx') {
    pool.on('connect', client => {
      const query = client.query.bind(client) as (config: { text?: string }) => Promise<unknown>
      client.query = (async (config: { text?: string }) => {
        const answer = await query(config)
        if (config.text === 'commit') die()
        return answer
      }) as never
    })
  }
  return pool
}

const client = DRIVER === 'pg' ? openPool() : openPostgresJs()

const charge = createFunction({
  id: 'charge',
  trigger: { event: 'charge' },
  handler: async ({ step }) => {
    const attempt = await step.tx('charge', client, async (tx: unknown, context) => {
      appendFileSync(LEDGER, 'called\n')
      const text = `insert into effects values ('charged')`
      await (DRIVER === 'pg' ? (tx as pg.PoolClient).query(text) : (tx as postgres.TransactionSql).unsafe(text))
      return { key: context.idempotencyKey }
    })
    return attempt
  },
})

const serving = serve([charge])
createServer((request, response) => {
  if (request.method === 'GET') response.end('ok')
  else void serving(request, response)
}).listen(Number(PORT), '127.0.0.1')

if (DIES === 'drain') {
  const stepwell = new StepwellClient()
  const send = async (events: never) => {
    await stepwell.send(events)
    die()
  }
  drainOutbox({ client: { send }, sql: client })
}
