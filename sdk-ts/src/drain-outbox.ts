/**
 * Sends what lies in the outbox of the app's database. A row is locked while its event is sent and deleted in the same
 * transaction, so several drains take different rows; when one dies, its rows are free, and are sent again under the same
 * ids, which the engine takes for the same events (for 24 hours).
 *
 * There is no mark up to which is drained: what an open transaction commits late, under a low `place`, is simply found by
 * the next look. Idle, looks become rarer, from 20 ms to `pollInterval`; `nudge` makes the next one come at once.
 */
import { type Duration, type ErrorCode, LIMITS, parseDuration } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { Pause } from './pause.ts'
import { type Query, type SqlClient, transact } from './sql-client.ts'
import { explainMissing, quoteSchema } from './step-tx.ts'
import { checkClient } from './stepwell-tables.ts'

/** What is drained, where to, and how often. */
export interface DrainOptions {
  /** A `StepwellClient`. */
  client: { send(events: never): Promise<unknown> }
  /** A client of the app's database, with room for a transaction that is open while events are sent. */
  sql: SqlClient
  /** The longest pause between two looks; a second by default. */
  pollInterval?: Duration
  /** How many events are sent at a time: 1 to 1,000, and 100 by default. */
  batch?: number
  /** Where the table `outbox` is; `stepwell` by default. */
  schema?: string
}

/** A drain that runs. */
export interface OutboxDrain {
  /** Look now: the app has just committed something. */
  nudge(): void
  /** Ends it. Resolves when the batch under way is settled; the database client may then be closed. */
  stop(): Promise<void>
}

const DEFAULT_BATCH = 100
const DEFAULT_POLL: Duration = '1s'
const FIRST_PAUSE_MS = 20
const FIRST_TROUBLE_PAUSE_MS = 250
const LAST_TROUBLE_PAUSE_MS = 30_000

/** Postgres frees the rows of a drain that hangs, or is frozen with its machine, after this long. */
const ROWS_HELD_MS = 60_000

/** What is wrong with an event itself, so that sending it again would not help. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'body_invalid',
  'body_too_large',
  'event_too_large',
  'too_many_events',
  'value_not_json',
])

/**
 * Starts to send what `select stepwell.send(…)` puts into the outbox, until it is stopped. Several processes may do so.
 * An event that can never be accepted is marked (`error`, `refused_at`), logged and left where it is.
 * @throws TypeError when an option is malformed
 * @example
 * const drain = drainOutbox({ client: new StepwellClient(), sql })
 * await sql.begin(async tx => {
 *   await tx`insert into orders (id) values (1)`
 *   await tx`select stepwell.send('order.paid', '{"orderId":1}')`
 * })
 * drain.nudge()
 */
export function drainOutbox(options: DrainOptions): OutboxDrain {
  return new Drain(options)
}

interface OutboxRow {
  place: string
  id: string
  name: string
  data: string | null
  ts: string
}

interface Refusal {
  row: OutboxRow
  error: StepwellError
}

class Drain implements OutboxDrain {
  readonly #client: { send(events: readonly object[]): Promise<unknown> }
  readonly #sql: SqlClient
  readonly #table: string
  readonly #batch: number
  readonly #pollMs: number
  readonly #pause = new Pause()
  readonly #ended: Promise<void>
  #isStopped = false

  constructor(options: DrainOptions) {
    const { client, sql, pollInterval = DEFAULT_POLL, batch = DEFAULT_BATCH, schema } = options
    if (typeof client?.send !== 'function') throw new TypeError('drainOutbox has no client. Pass a StepwellClient.')
    checkClient(sql, 'drainOutbox')
    if (!Number.isInteger(batch) || batch < 1 || batch > LIMITS.eventsPerCall) {
      throw new TypeError(`The batch of drainOutbox is ${batch}; use a whole number from 1 to ${LIMITS.eventsPerCall}.`)
    }
    // What it takes besides is checked by the client: whatever lies in the table.
    this.#client = client as { send(events: readonly object[]): Promise<unknown> }
    this.#sql = sql
    this.#table = `${quoteSchema(schema)}.outbox`
    this.#batch = batch
    this.#pollMs = Math.max(1, parseDuration(pollInterval))
    this.#ended = this.#run()
  }

  nudge(): void {
    this.#pause.end()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#pause.close()
    await this.#ended
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    let idleMs = FIRST_PAUSE_MS
    let troubleMs = FIRST_TROUBLE_PAUSE_MS
    while (!this.#isStopped) {
      try {
        const count = await this.#drainBatch()
        troubleMs = FIRST_TROUBLE_PAUSE_MS
        if (count > 0) {
          idleMs = FIRST_PAUSE_MS
          continue
        }
        const wasNudged = await this.#pause.forMs(Math.min(idleMs, this.#pollMs))
        idleMs = wasNudged ? FIRST_PAUSE_MS : Math.min(idleMs * 2, this.#pollMs)
      } catch (error) {
        // Once for each time of trouble.
        if (troubleMs === FIRST_TROUBLE_PAUSE_MS) {
          console.warn('[stepwell] The outbox cannot be drained; trying again until it can.', error)
        }
        await this.#pause.forMsAtLeast(troubleMs)
        troubleMs = Math.min(troubleMs * 2, LAST_TROUBLE_PAUSE_MS)
      }
    }
  }

  /** @returns how many rows it has settled */
  async #drainBatch(): Promise<number> {
    const refused: Refusal[] = []
    const count = await transact(this.#sql, async (_tx, query) => {
      refused.length = 0
      await query(`select set_config('idle_in_transaction_session_timeout', $1::text, true)`, [String(ROWS_HELD_MS)])
      const rows = await this.#take(query)
      if (rows.length === 0) return 0
      refused.push(...(await this.#send(rows)))
      const refusedRows = new Set(refused.map(({ row }) => row))
      await this.#delete(
        query,
        rows.filter(row => !refusedRows.has(row)),
      )
      for (const refusal of refused) await this.#mark(query, refusal)
      return rows.length
    })
    for (const { row, error } of refused) {
      console.error('[stepwell] An event in the outbox was refused and stays there.', {
        place: row.place,
        id: row.id,
        name: row.name,
        code: error.code,
        message: error.message,
      })
    }
    return count
  }

  /** By place, so that what one transaction sends, and what another sends after it, keeps its order. */
  async #take(query: Query): Promise<OutboxRow[]> {
    const rows = await query(
      `select
        o.place::text, o.id, o.name, o.data,
        to_char(o.ts at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      from ${this.#table} o
      where o.error is null
      order by o.place
      limit $1::int
      for update skip locked`,
      [String(this.#batch)],
    ).catch((error: unknown) => {
      throw explainMissing(error, this.#table)
    })
    return rows.map(([place, id, name, data = null, ts]) => ({
      place: place ?? '',
      id: id ?? '',
      name: name ?? '',
      data,
      ts: ts ?? '',
    }))
  }

  /** Sends in order. What is refused is halved until the events that it is refused for stand alone. */
  async #send(rows: readonly OutboxRow[]): Promise<Refusal[]> {
    try {
      await this.#client.send(rows.map(toEvent))
      return []
    } catch (error) {
      if (!(error instanceof StepwellError) || !REFUSALS.has(error.code)) throw error
      const [row] = rows
      if (rows.length === 1 && row !== undefined) return [{ row, error }]
      const middle = rows.length >> 1
      return [...(await this.#send(rows.slice(0, middle))), ...(await this.#send(rows.slice(middle)))]
    }
  }

  async #delete(query: Query, rows: readonly OutboxRow[]): Promise<void> {
    const places = `{${rows.map(row => row.place).join(',')}}`
    await query(`delete from ${this.#table} where place = any($1::bigint[])`, [places])
  }

  async #mark(query: Query, { row, error }: Refusal): Promise<void> {
    await query(
      `update ${this.#table}
      set error = $1::text, refused_at = now()
      where place = $2::bigint`,
      [`${error.code}: ${error.message}`, row.place],
    )
  }
}

/** @throws StepwellError `value_not_json` */
function toEvent({ id, name, data, ts }: OutboxRow): object {
  try {
    return { id, name, ts, ...(data !== null && { data: JSON.parse(data) as unknown }) }
  } catch (cause) {
    throw new StepwellError('value_not_json', `The data of event "${name}" is no JSON.`, { cause })
  }
}
