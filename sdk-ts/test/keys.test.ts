import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { serve } from '../src/index.ts'
import { KEY } from './engine-double.ts'
import { aFunction, anApp } from './harness.ts'
import { aRequest, aTurn, DESCRIBE, OTHER_KEY, problemOf } from './requests.ts'

describe('the key', () => {
  let home = ''
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'stepwell-'))
    vi.stubEnv('STEPWELL_HOME', home)
    vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
    vi.stubEnv('NODE_ENV', 'development')
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    await rm(home, { recursive: true })
  })

  function writeDevFile(signingKey: string): Promise<void> {
    return writeFile(join(home, 'dev.json'), JSON.stringify({ url: 'http://127.0.0.1:3030', pid: 1, signingKey }))
  }

  test('is looked for until there is one, so that app and engine start in any order', async () => {
    const endpoint = serve([aFunction(() => 1)])

    const before = await endpoint(aRequest(DESCRIBE))
    await writeDevFile(KEY)
    const after = await endpoint(aRequest(DESCRIBE))

    expect(await problemOf(before)).toMatchObject({
      status: 503,
      code: 'unavailable',
      detail: expect.stringContaining('STEPWELL_SIGNING_KEY'),
    })
    expect(after.status).toBe(200)
  })

  test('of the dev file is read again when it has changed', async () => {
    const endpoint = serve([aFunction(() => 1)])
    await writeDevFile(KEY)
    await endpoint(aRequest(DESCRIBE))
    await writeDevFile(OTHER_KEY)

    const response = await endpoint(aRequest(DESCRIBE, { key: OTHER_KEY }))

    expect(response.status).toBe(200)
  })

  test('of the dev file is not used in production', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    await writeDevFile(KEY)

    const response = await serve([aFunction(() => 1)])(aRequest(DESCRIBE))

    expect(response.status).toBe(503)
  })

  test('of the environment comes before that of the dev file, and may be several', async () => {
    await writeDevFile(OTHER_KEY)
    vi.stubEnv('STEPWELL_SIGNING_KEY', ` ${KEY},\n${`whsec_${Buffer.alloc(32, 1).toString('base64')}`} `)
    const endpoint = serve([aFunction(() => 1)])

    expect((await endpoint(aRequest(DESCRIBE))).status).toBe(200)
    expect((await endpoint(aRequest(DESCRIBE, { key: OTHER_KEY }))).status).toBe(401)
  })

  test('of the environment that is malformed is told, and not shown', async () => {
    vi.stubEnv('STEPWELL_SIGNING_KEY', 'my-secret')

    const text = await (await serve([aFunction(() => 1)])(aRequest(DESCRIBE))).text()

    expect(text).toContain('STEPWELL_SIGNING_KEY is malformed')
    expect(text).not.toContain('my-secret')
  })

  test('that the engine has and the app has not makes a turn fail clearly', async () => {
    const response = await anApp(() => 1)(aRequest(JSON.stringify(aTurn()), { key: OTHER_KEY }))

    expect(response.status).toBe(401)
  })
})
