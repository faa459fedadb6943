/*
 * The programs of docs/postgres.md, as they stand there: with `stepwell dev` beside them and an empty database, they run.
 */
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { findFreePort, type RunningProcess, startProcess, waitForOk } from '../support/processes.ts'
import { waitUntil } from '../support/wait-until.ts'

const IMPORTS_DRIVER = "import postgres from 'postgres'\n"

let database: TestDatabase
let folder: string
let engine: RunningProcess
let programs: string[]
beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'stepwell-docs-'))
  await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  const text = await readFile(new URL('../../../docs/postgres.md', import.meta.url), 'utf8')
  programs = [...text.matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, code]) => code ?? '')
    .filter(code => code.includes(IMPORTS_DRIVER))
  const port = await findFreePort()
  engine = startProcess('src/main.ts', ['dev', '--port', String(port)], { STEPWELL_HOME: folder })
  await waitForOk(`http://127.0.0.1:${port}/readyz`, engine)
})
afterAll(async () => {
  engine?.signal('SIGTERM')
  await engine?.exited
  await database?.drop()
  await rm(folder, { recursive: true, force: true })
})

/** postgres.js reads no URL of a unix socket, and port 3000 may be taken where tests run. */
async function start(program: string | undefined): Promise<RunningProcess> {
  const port = await findFreePort()
  const file = join(folder, `app-${port}.ts`)
  const code = (program ?? '')
    .replaceAll('3000', String(port))
    .replace("postgres(process.env.DATABASE_URL ?? '')", `postgres(${JSON.stringify(database.connection)})`)
  await writeFile(file, code)
  return startProcess(file, [], { STEPWELL_HOME: folder })
}

test('docs/postgres.md has three programs', () => {
  expect(programs).toHaveLength(3)
})

test('the program that makes the tables ends well', async () => {
  const app = await start(programs[0])

  expect(await app.exited, app.output()).toBe(0)
})

test.each([
  ['from a run into the database', 1, 'order 1: charge 1'],
  ['from the database into a run', 2, 'packing order 1'],
])('the program that goes %s runs to its end', async (_what, at, line) => {
  const app = await start(programs[at])

  await waitUntil('it says so', () => app.output().includes(line), { explain: () => app.output() })

  await app.kill()
})
