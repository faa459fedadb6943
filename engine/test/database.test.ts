import postgres from 'postgres'
import { expect, test } from 'vitest'
import { createTestDatabase } from './database.ts'

test('two test databases have the schema and nothing of each other', async () => {
  const [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()])
  const sqlOne = postgres({ ...one.connection, max: 1 })
  const sqlOther = postgres({ ...other.connection, max: 1 })

  await sqlOne`create table only_in_one (id int)`
  const [migrated] = await sqlOther`select to_regclass('stepwell.migrations') is not null as yes`
  const [strange] = await sqlOther`select to_regclass('only_in_one') is not null as yes`

  expect(migrated?.yes).toBe(true)
  expect(strange?.yes).toBe(false)
  await Promise.all([sqlOne.end(), sqlOther.end()])
  await Promise.all([one.drop(), other.drop()])
})

test('dropping a database with open connections fails and names how many', async () => {
  const database = await createTestDatabase()
  const sql = postgres({ ...database.connection, max: 2 })
  await Promise.all([sql`select pg_sleep(0.1)`, sql`select pg_sleep(0.1)`])

  const dropped = database.drop()

  await expect(dropped).rejects.toThrow(/^2 connections to test_[0-9a-f]+ were still open/)
  await sql.end({ timeout: 1 })
})

test('plans are generic when the run asks for it', async () => {
  const database = await createTestDatabase()
  const sql = postgres({ ...database.connection, max: 1 })

  const [row] = await sql`show plan_cache_mode`

  const expected = process.env.STEPWELL_TEST_GENERIC_PLANS === '1' ? 'force_generic_plan' : 'auto'
  expect(row?.plan_cache_mode).toBe(expected)
  await sql.end()
  await database.drop()
})
