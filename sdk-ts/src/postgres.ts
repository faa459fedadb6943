/** `@stepwell/sdk/postgres`: what apps with a Postgres of their own use besides `step.tx`. */
export { type DrainOptions, drainOutbox, type OutboxDrain } from './drain-outbox.ts'
export type { SqlClient, TransactionAdapter, TxOf, TxQuery } from './sql-client.ts'
export { ensureStepwellTables, forgetStepResults, stepwellTablesSql, type TablesOptions } from './stepwell-tables.ts'
