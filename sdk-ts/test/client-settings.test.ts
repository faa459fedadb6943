import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { StepwellClient } from '../src/index.ts'
import { KEY } from './engine-double.ts'
import { aFunction } from './harness.ts'
import { rest } from './rest-double.ts'

describe('a client without options', () => {
  test('finds the local engine in the dev file', async () => {
    const home = await mkdtemp(join(tmpdir(), 'stepwell-'))
    vi.stubEnv('STEPWELL_HOME', home)
    vi.stubEnv('STEPWELL_URL', undefined)
    vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
    rest.answers = [{ status: 200, body: { id: 'run_1' } }]
    const client = new StepwellClient()
    const before = await client.getRun('run_1').catch((error: unknown) => error)
    await writeFile(join(home, 'dev.json'), JSON.stringify({ url: rest.url, pid: 1, signingKey: KEY }))

    const run = await client.getRun('run_1')
    await rm(home, { recursive: true })

    expect(before).toMatchObject({ code: 'signature_missing', message: expect.stringContaining('stepwell dev') })
    expect(run).toEqual({ id: 'run_1' })
    expect(rest.received[0]?.headers['stepwell-workspace']).toBe('default/dev')
  })

  test('does not guess in production', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.stubEnv('STEPWELL_URL', undefined)

    await expect(new StepwellClient({ signingKey: KEY }).getRun('r')).rejects.toThrow(/STEPWELL_URL/)
  })

  test.each([{ url: 'localhost:3030' }, { signingKey: 'x' }])('refuses malformed options at once: %j', options => {
    expect(() => new StepwellClient(options)).toThrow(TypeError)
  })
})

test('an app that starts before the first `stepwell dev` waits for its key', async () => {
  const home = await mkdtemp(join(tmpdir(), 'stepwell-home-'))
  vi.stubEnv('STEPWELL_HOME', home)
  vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
  vi.stubEnv('NODE_ENV', 'development')
  rest.answers = [
    { status: 200, body: { workspace: 'default/dev', url: 'http://localhost:1', functions: [], removed: [] } },
  ]
  const client = new StepwellClient({ appUrl: 'http://localhost:1' })

  const synced = client.sync([aFunction(() => null)])
  await new Promise(resolve => setTimeout(resolve, 50))
  await writeFile(join(home, 'dev.json'), JSON.stringify({ url: rest.url, pid: 1, signingKey: KEY }))

  expect((await synced).workspace).toBe('default/dev')
  await rm(home, { recursive: true })
})
