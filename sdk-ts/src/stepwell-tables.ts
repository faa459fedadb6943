/** Our tables in the app's database: how they come to be, and how what is old in them goes. */
import { type Duration, formatDuration, LIMITS, parseDuration } from '@stepwell/protocol'
import { CLIENT_WANTED, isSqlClient, type SqlClient, transact } from './sql-client.ts'
import { explainMissing, quoteSchema, resultsTable } from './step-tx.ts'

/** Where our tables are: the schema `stepwell`, unless another is named. */
export interface TablesOptions {
  schema?: string
}

/** Changes with the statements below; `ensureStepwellTables` runs them where the database has another. */
const VERSION = 'stepwell tables, version 1'

/** Two processes that start together. */
const LOCK = '7817301002'

/** So many rows are deleted in one transaction. */
const FORGET_BATCH = 1_000

/** A result is needed until the engine has the report, which is a matter of milliseconds except when something is down. */
const FORGET_AFTER_MS = 3_600_000

/** The statements that create what `step.tx` and the outbox need, for a migration of yours. Running them again does no harm. */
export function stepwellTablesSql(options: TablesOptions = {}): string {
  return `${statements(quoteSchema(options.schema)).join(';\n\n')};\n`
}

/**
 * Creates what `step.tx` and the outbox need, where it is not there yet; in a database that has it, changes nothing and
 * needs no rights. Call it when the app starts. Postgres 13 or later.
 */
export async function ensureStepwellTables(client: SqlClient, options: TablesOptions = {}): Promise<void> {
  const schema = quoteSchema(options.schema)
  checkClient(client, 'ensureStepwellTables')
  await transact(client, async (_tx, query) => {
    await query('select pg_advisory_xact_lock($1::bigint)::text', [LOCK])
    const [row] = await query(`select obj_description(to_regclass($1::text), 'pg_class')`, [`${schema}.outbox`])
    if (row?.[0] === VERSION) return
    for (const statement of statements(schema)) await query(statement)
  })
}

/**
 * Deletes the results of `step.tx` that are older than `olderThan` (`"30d"`). A result is of no use once the engine has
 * recorded it; until then it is what keeps the effect from happening again. So take longer than a run of yours may stand
 * still because something is down.
 * @returns how many were deleted
 * @throws TypeError when `olderThan` is less than an hour
 */
export async function forgetStepResults(
  client: SqlClient,
  options: TablesOptions & { olderThan: Duration },
): Promise<number> {
  const table = resultsTable(options.schema)
  checkClient(client, 'forgetStepResults')
  const olderThanMs = parseDuration(options.olderThan)
  if (olderThanMs < FORGET_AFTER_MS) {
    throw new TypeError(
      `forgetStepResults was asked to delete what is older than ${formatDuration(olderThanMs)}, which runs may still need. ` +
        'Numbers are milliseconds; write days as "30d". The least is "1h".',
    )
  }
  for (let total = 0; ; ) {
    const rows = await transact(client, (_tx, query) =>
      query(
        `delete from ${table}
        where ctid = any(array(
          select ctid
          from ${table}
          where recorded_at < now() - make_interval(secs => $1::float8 / 1000)
          order by recorded_at
          limit ${FORGET_BATCH}
          for update skip locked
        ))
        returning run`,
        [String(olderThanMs)],
      ),
    ).catch((error: unknown) => {
      throw explainMissing(error, table)
    })
    total += rows.length
    if (rows.length < FORGET_BATCH) return total
  }
}

/** @throws TypeError */
export function checkClient(client: unknown, where: string): void {
  if (!isSqlClient(client)) throw new TypeError(`${where} has no database. ${CLIENT_WANTED}`)
}

/**
 * Results and data are text: jsonb refuses NUL characters, and would give numbers and member names back otherwise than they
 * came. The comment comes last: where it is, everything is.
 */
function statements(schema: string): string[] {
  return [
    `create schema if not exists ${schema}`,
    `create table if not exists ${schema}.step_results (
  run text not null,
  generation int not null,
  step text not null,
  result text,
  recorded_at timestamptz not null default now(),
  primary key (run, generation, step)
)`,
    `create index if not exists step_results_recorded_at on ${schema}.step_results (recorded_at)`,
    `create table if not exists ${schema}.outbox (
  place bigint generated always as identity primary key,
  id text not null check (char_length(id) between 1 and ${LIMITS.eventIdChars}),
  name text not null check (char_length(name) between 1 and ${LIMITS.eventNameChars}),
  data text check (octet_length(data) <= ${LIMITS.bodyBytes}),
  ts timestamptz not null,
  error text,
  refused_at timestamptz
)`,
    `create index if not exists outbox_open on ${schema}.outbox (place) where error is null`,
    `create or replace function ${schema}.send(
  name text,
  data text default null,
  id text default null,
  ts timestamptz default null
) returns text language sql volatile as $$
  insert into ${schema}.outbox (id, name, data, ts)
  values (coalesce($3, gen_random_uuid()::text), $1, $2::json::text, coalesce($4, now()))
  returning outbox.id
$$`,
    `create or replace function ${schema}.send(
  name text,
  data jsonb,
  id text default null,
  ts timestamptz default null
) returns text language sql volatile as $$
  select ${schema}.send($1, $2::text, $3, $4)
$$`,
    `comment on table ${schema}.outbox is '${VERSION}'`,
  ]
}
