/*
 * Applies migrations/NNNN_what.sql in order, each in a transaction, under an advisory lock, so that engines may start
 * together. Forward only. An applied file that has changed, or one that this engine does not know, stops the start.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Connection, open, type Sql, transaction } from './db.ts'
import { ensurePartitions } from './partitions.ts'

const FOLDER = fileURLToPath(new URL('../../../migrations/', import.meta.url))
const NAME = /^\d{4}_[a-z0-9_]+\.sql$/
const LOCK = 7_817_301_001

interface Migration {
  name: string
  text: string
  checksum: string
}

/** Brings the database to this engine's schema. Returns the names of the files that were applied now. */
export async function migrate(connection: Connection): Promise<string[]> {
  const applied = await transaction(connection, applyMissing)
  const sql = open(connection, 1)
  try {
    await ensurePartitions(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
  return applied
}

async function applyMissing(tx: Sql): Promise<string[]> {
  await tx`select pg_advisory_xact_lock(${LOCK})`
  await tx`create schema if not exists stepwell`
  await tx`
    create table if not exists stepwell.migrations (
      name text primary key,
      checksum text not null,
      applied_at timestamptz not null default now()
    )`
  const rows = await tx<{ name: string; checksum: string }[]>`select name, checksum from stepwell.migrations`
  const applied = new Map(rows.map(row => [row.name, row.checksum]))
  const files = readMigrations()
  refuseSurprises(applied, files)
  const missing = files.filter(file => !applied.has(file.name))
  for (const file of missing) {
    await tx.unsafe(file.text).simple()
    await tx`insert into stepwell.migrations (name, checksum) values (${file.name}, ${file.checksum})`
  }
  return missing.map(file => file.name)
}

function readMigrations(): Migration[] {
  const names = readdirSync(FOLDER)
    .filter(name => NAME.test(name))
    .sort()
  return names.map(name => {
    const text = readFileSync(`${FOLDER}${name}`, 'utf8')
    return { name, text, checksum: createHash('sha256').update(text).digest('hex') }
  })
}

function refuseSurprises(applied: Map<string, string>, files: Migration[]): void {
  for (const [name, checksum] of applied) {
    const file = files.find(candidate => candidate.name === name)
    if (file === undefined)
      throw new Error(
        `The database has migration ${name}, which this version of Stepwell does not know. Start a newer version.`,
      )
    if (file.checksum !== checksum)
      throw new Error(
        `Migration ${name} was applied with other content than this version has. Start the version that applied it, or begin with a fresh database.`,
      )
  }
}
