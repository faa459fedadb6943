import { afterAll, beforeAll, expect, test } from 'vitest'
import { isDatabaseAway, open, type Sql, transaction } from '../../src/store/db.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'

let database: TestDatabase
let sql: Sql

beforeAll(async () => {
  database = await createTestDatabase()
  sql = open(database.connection, 1)
  await sql`create table notes (text text)`
})

afterAll(async () => {
  await sql.end({ timeout: 1 })
  await database.drop()
})

async function notes(): Promise<string[]> {
  return (await sql<{ text: string }[]>`select text from notes order by text`).map(row => row.text)
}

test('a transaction writes all of it', async () => {
  const result = await transaction(database.connection, async tx => {
    await tx`insert into notes values ('one')`
    await tx`insert into notes values ('two')`
    return 'done'
  })

  expect(result).toBe('done')
  expect(await notes()).toEqual(['one', 'two'])
})

test('a transaction that throws writes nothing', async () => {
  const before = await notes()

  const failing = transaction(database.connection, async tx => {
    await tx`insert into notes values ('three')`
    throw new Error('no')
  })

  await expect(failing).rejects.toThrow('no')
  expect(await notes()).toEqual(before)
})

test('a transaction that loses its connection within a statement fails and writes nothing', async () => {
  const before = await notes()

  const failing = transaction(database.connection, async tx => {
    await tx`insert into notes values ('four')`
    return tx`select pg_terminate_backend(pg_backend_pid())`
  })

  const error = await failing.catch((reason: unknown) => reason)
  expect(isDatabaseAway(error)).toBe(true)
  expect(await notes()).toEqual(before)
})

test('a transaction that loses its connection between two statements does not go on without it', async () => {
  const before = await notes()

  const failing = transaction(database.connection, async tx => {
    const [row] = await tx<{ pid: number }[]>`insert into notes values ('five') returning pg_backend_pid() as pid`
    await sql`select pg_terminate_backend(${row?.pid ?? 0})`
    await isGone(row?.pid ?? 0)
    await tx`insert into notes values ('six')`
  })

  const error = await failing.catch((reason: unknown) => reason)
  expect(isDatabaseAway(error)).toBe(true)
  expect(await notes()).toEqual(before)
})

async function isGone(pid: number): Promise<void> {
  for (;;) {
    const [row] = await sql`select from pg_stat_activity where pid = ${pid}`
    if (row === undefined) return
  }
}
