import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { type Connection, open, type Sql } from '../../src/store/db.ts'
import { migrate } from '../../src/store/migrate.ts'
import { ensurePartitions } from '../../src/store/partitions.ts'
import { refreshStatistics } from '../../src/store/statistics.ts'

let admin: Sql
const databases: string[] = []

beforeAll(() => {
  admin = open(inject('testServer').connection as Connection, 1)
})

afterAll(async () => {
  for (const name of databases) await admin`drop database ${admin(name)} with (force)`
  await admin.end({ timeout: 1 })
})

/** An empty database, without the schema. */
async function anEmptyDatabase(): Promise<Connection> {
  const name = `test_migrate_${randomBytes(6).toString('hex')}`
  databases.push(name)
  await admin`create database ${admin(name)}`
  return { ...inject('testServer').connection, database: name }
}

async function within<T>(connection: Connection, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = open(connection, 1)
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

test('engines that start together on an empty database migrate it once', async () => {
  const connection = await anEmptyDatabase()

  const applied = await Promise.all(Array.from({ length: 4 }, () => migrate(connection)))

  expect(applied.filter(names => names.length > 0)).toHaveLength(1)
  expect(applied.flat()[0]).toBe('0001_tables.sql')
})

test('a file that was changed after it was applied stops the start', async () => {
  const connection = await anEmptyDatabase()
  await migrate(connection)
  await within(connection, sql => sql`update stepwell.migrations set checksum = 'x' where name = '0001_tables.sql'`)

  await expect(migrate(connection)).rejects.toThrow(/Migration 0001_tables\.sql was applied with other content/)
})

test('a database of a newer version stops the start', async () => {
  const connection = await anEmptyDatabase()
  await migrate(connection)
  await within(connection, sql => sql`insert into stepwell.migrations (name, checksum) values ('9999_later.sql', 'x')`)

  await expect(migrate(connection)).rejects.toThrow(/9999_later\.sql, which this version of Stepwell does not know/)
})

test('partitions are weeks of UTC without a gap, whatever the time zone of the session', async () => {
  const connection = await anEmptyDatabase()
  await migrate(connection)

  const rows = await within(connection, async sql => {
    // an hour is lost in March and won in October: 60 weeks hold both
    await sql`set timezone = 'America/New_York'`
    for (;;) {
      const [row] = await sql<{ isCreated: boolean }[]>`select stepwell.ensure_partition(60) as is_created`
      if (row?.isCreated !== true) break
    }
    await sql`set timezone = 'UTC'`
    return sql<{ parent: string; bounds: string }[]>`
      select parent.relname as parent, pg_get_expr(child.relpartbound, child.oid) as bounds
      from pg_inherits
      join pg_class child on child.oid = inhrelid
      join pg_class parent on parent.oid = inhparent
      where parent.relnamespace = 'stepwell'::regnamespace and parent.relkind = 'p' and child.relname not like '%default'
      order by parent.relname, child.relname`
  })

  for (const parent of ['events', 'event_keys', 'journal', 'published', 'runs_done', 'turns']) {
    const bounds = rows
      .filter(row => row.parent === parent)
      .map(row => [...row.bounds.matchAll(/'([^']+)'/g)].map(match => match[1] ?? ''))
    expect(bounds).toHaveLength(61)
    for (const [n, [from]] of bounds.entries()) {
      if (n > 0) expect(from).toBe(bounds[n - 1]?.[1])
      if (parent !== 'journal' && parent !== 'published') expect(from).toMatch(/ 00:00:00\+00$/)
    }
  }
})

test('partitions that are there are not made again', async () => {
  const connection = await anEmptyDatabase()
  await migrate(connection)

  const [before, after] = await within(connection, async sql => {
    const count = () => sql<{ n: number }[]>`select count(*)::int as n from pg_inherits`
    const before = await count()
    await ensurePartitions(sql)
    return [before[0]?.n, (await count())[0]?.n]
  })

  expect(after).toBe(before)
})

test('statistics follow a table that has outgrown them, once', async () => {
  const connection = await anEmptyDatabase()
  await migrate(connection)

  const analysed = await within(connection, async sql => {
    await sql`alter table stepwell.event_ids set (autovacuum_enabled = off)`
    await sql`insert into stepwell.event_ids select 1, n::text, '{}', now() from generate_series(1, 900) n`
    await sql`select pg_stat_force_next_flush()`
    const small = await refreshStatistics(sql)
    await sql`insert into stepwell.event_ids select 2, n::text, '{}', now() from generate_series(1, 900) n`
    await sql`select pg_stat_force_next_flush()`
    return [small, await refreshStatistics(sql), await refreshStatistics(sql)]
  })

  expect(analysed).toEqual([null, 'event_ids', null])
})
