/**
 * `step.tx`: the effect of a step and its result in one transaction of the app's database. It lives beside `step.run`, and
 * not in `@stepwell/sdk/postgres`, because `step` is made here; it needs no driver, so apps without Postgres carry only this.
 *
 * The first statement inserts the row (run, generation, step). Its primary key is the fence: a second attempt waits there
 * until the first has committed, and then reads the first one's result; or until it has rolled back, and then is the first.
 * The last statement writes the result into that row. So either both are there, effect and result, or neither.
 */
import type { StepWanted } from './ask.ts'
import { StepwellError } from './errors.ts'
import { type RetryRules, toRetryRules } from './retries.ts'
import { CLIENT_WANTED, isSqlClient, type Query, type SqlClient, sqlStateOf, transact } from './sql-client.ts'
import type { TxOptions } from './step.ts'
import { type BodyExecution, RecordedText, type StepContext } from './step-body.ts'

/** What the caller declares of the transaction is checked where `step.tx` is called. */
type TxBody = (tx: never, context: StepContext) => unknown

/** `step.tx`, as a step whose body is the transaction. */
export function readTx(
  id: string,
  call: { client: unknown; body: unknown; options: TxOptions | undefined; retries: RetryRules },
): StepWanted {
  const { client, body, options = {} } = call
  if (!isSqlClient(client)) throw new TypeError(`Step "${id}" has no database. ${CLIENT_WANTED}`)
  if (typeof body !== 'function') {
    throw new TypeError(`Step "${id}" has no body. Pass a function: step.tx("${id}", sql, tx => …).`)
  }
  const { retries, undo, schema } = options
  if (undo !== undefined && typeof undo !== 'function') {
    throw new TypeError(`The undo of step "${id}" is no function. Pass one: { undo: (output, tx) => … }.`)
  }
  const table = resultsTable(schema)
  const run = (execution: BodyExecution, work: TxBody) => runOnce(execution, { client, table, body: work })
  return {
    kind: 'step',
    body: execution => run(execution, body as TxBody),
    retries: retries === undefined ? call.retries : toRetryRules(retries, `step "${id}"`),
    undo:
      undo === undefined
        ? undefined
        : (output, execution) => run(execution, (tx, context) => undo(output, tx as never, context)),
  }
}

/** The schema of our tables, quoted. @throws TypeError when the name is malformed */
export function quoteSchema(schema = 'stepwell'): string {
  if (/^[A-Za-z_][A-Za-z0-9_$]{0,62}$/.test(schema)) return `"${schema}"`
  throw new TypeError(`The schema ${JSON.stringify(schema)} is not valid: use letters, digits and "_".`)
}

/** Where results are, for SQL. */
export function resultsTable(schema: string | undefined): string {
  return `${quoteSchema(schema)}.step_results`
}

/** What an error of a statement on our tables means, when it is that they are not there. */
export function explainMissing(error: unknown, table: string): unknown {
  if (!MISSING.has(sqlStateOf(error) ?? '')) return error
  return new StepwellError(
    'tx_tables_missing',
    `The table ${table} is not in the database of the app, or the app may not use its schema. Create it once, before the app ` +
      'starts: await ensureStepwellTables(client), or what stepwellTablesSql() gives as a migration; both are in ' +
      '"@stepwell/sdk/postgres".',
    { cause: error },
  )
}

/** Undefined table, schema that does not exist. */
const MISSING = new Set(['42P01', '3F000'])
const TRANSACTION_ABORTED = '25P02'

async function runOnce(
  execution: BodyExecution,
  { client, table, body }: { client: SqlClient; table: string; body: TxBody },
): Promise<RecordedText> {
  const fence = [execution.run.id, String(execution.run.generation), execution.key]
  let thrown: { error: unknown } | null = null

  async function callBody(tx: unknown): Promise<string | undefined> {
    try {
      const value = await body(tx as never, execution)
      if (execution.isAbandoned) throw new Error('The run goes no further: its transaction is rolled back.')
      return execution.outputTextOf(value)
    } catch (error) {
      thrown = { error }
      throw error
    }
  }

  const committing = transact(client, async (tx, query) => {
    thrown = null
    if (!(await insertFence(query, table, fence))) return readResult(query, table, fence)
    const text = await callBody(tx)
    await writeResult(query, table, [text ?? null, ...fence])
    return new RecordedText(text)
  })
  // Clients may wrap what was thrown inside, or swallow it; NonRetriableError and the like must be seen as they are.
  const ended = await committing.then(
    value => ({ value }),
    (error: unknown) => ({ error }),
  )
  const own = thrown as { error: unknown } | null
  if (own !== null && sqlStateOf(own.error) !== TRANSACTION_ABORTED) throw own.error
  if ('error' in ended) throw ended.error
  return ended.value
}

/** @returns whether this attempt is the first: false when another has committed */
async function insertFence(query: Query, table: string, fence: string[]): Promise<boolean> {
  try {
    const rows = await query(
      `insert into ${table} (run, generation, step)
      values ($1::text, $2::int, $3::text)
      on conflict (run, generation, step) do nothing
      returning run`,
      fence,
    )
    return rows.length === 1
  } catch (error) {
    throw explainMissing(error, table)
  }
}

async function readResult(query: Query, table: string, fence: string[]): Promise<RecordedText> {
  const [row] = await query(
    `select result
    from ${table}
    where run = $1::text
      and generation = $2::int
      and step = $3::text`,
    fence,
  )
  // A snapshot older than the other's commit (repeatable read), or a result that was just forgotten.
  if (row === undefined)
    throw new Error('Another attempt of this step has just committed. The next one reads its result.')
  return new RecordedText(row[0] ?? undefined)
}

/** Also when there is no result: a transaction in which a statement has failed unseen must not end as done. */
async function writeResult(query: Query, table: string, values: (string | null)[]): Promise<void> {
  const rows = await query(
    `update ${table}
    set result = $1::text
    where run = $2::text
      and generation = $3::int
      and step = $4::text
    returning run`,
    values,
  )
  if (rows.length !== 1) {
    throw new Error('The body has ended the transaction by itself. Leave `commit` and `rollback` to step.tx.')
  }
}
