/*
 * The README's code, as it stands there: with `stepwell dev` beside it, in an empty folder, it runs.
 */
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RunList } from '@stepwell/protocol'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findFreePort, type RunningProcess, startProcess, waitForOk } from '../support/processes.ts'
import { waitUntil } from '../support/wait-until.ts'

let folder: string
let engine: RunningProcess
let app: RunningProcess | null = null
let engineUrl: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stepwell-readme-'))
  const port = await findFreePort()
  engineUrl = `http://127.0.0.1:${port}`
  engine = startProcess('src/main.ts', ['dev', '--port', String(port)], { STEPWELL_HOME: folder })
  await waitForOk(`${engineUrl}/readyz`, engine)
})
afterAll(async () => {
  await app?.kill()
  engine.signal('SIGTERM')
  await engine.exited
  await rm(folder, { recursive: true, force: true })
})

async function readCode(): Promise<string> {
  const readme = await readFile(new URL('../../../README.md', import.meta.url), 'utf8')
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
  if (code === undefined) throw new Error('The README has no code.')
  // Port 3000 may be taken where tests run.
  return code.replaceAll('3000', String(await findFreePort()))
}

test('the code on the first screen of the README runs to its end', async () => {
  await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'))
  const file = join(folder, 'app.ts')
  await writeFile(file, await readCode())

  app = startProcess(file, [], { STEPWELL_HOME: folder })
  let list: RunList = { runs: [], next: null }
  await waitUntil(
    'its run is completed',
    async () => {
      const response = await fetch(`${engineUrl}/v1/runs?state=completed`)
      list = (await response.json()) as RunList
      return list.runs.length === 1
    },
    { explain: () => `${app?.output()} ${engine.output()}` },
  )

  expect(list.runs).toMatchObject([{ function: 'onboarding', output: { approved: true } }])
  expect(app.output()).toContain('mail to ada@example.com')
})
