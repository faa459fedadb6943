import { fingerprint, HEADERS, newMessageId, PROTOCOL_VERSION, payloadOf, signHeaders } from '@stepwell/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { ensureWorkspace, setOnlyKey } from '../../src/store/workspaces.ts'
import { aKey, problemOf, type SignedCall, useHttp } from './harness.ts'

const EVENT = { name: 'a.one', data: { n: 1 } }

describe('an engine that is started for others', () => {
  const http = useHttp('start')

  test.each<[string, string, SignedCall]>([
    ['another key', 'signature_invalid', { keys: [aKey()] }],
    ['a tampered body', 'signature_invalid', { raw: '{"name":"a.two"}', headers: tampered('v1,AAAA') }],
    ['a signature of another scheme only', 'signature_invalid', { headers: tampered('v1a,AAAA') }],
    ['a malformed id', 'signature_invalid', { headers: { [HEADERS.id]: 'a b' } }],
    ['a malformed timestamp', 'signature_invalid', { headers: { [HEADERS.timestamp]: 'now' } }],
    ['an old timestamp', 'timestamp_out_of_tolerance', { aheadSeconds: -302 }],
    ['a timestamp in the future', 'timestamp_out_of_tolerance', { aheadSeconds: 302 }],
    ['an empty signature', 'signature_missing', { headers: tampered('') }],
    ['an unknown workspace', 'workspace_unknown', { workspace: 'shop/acc' }],
    ['an empty workspace', 'workspace_unknown', { workspace: '' }],
  ])('refuses %s', async (_what, code, call) => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events', EVENT, call)

    expect(response.status).toBe(401)
    const text = await response.clone().text()
    expect((await problemOf(response)).code).toBe(code)
    expect(text).not.toContain('whsec_')
    expect(text).not.toContain(http.key.slice('whsec_'.length))
    expect(await http.stored()).toEqual(before)
  })

  test('says which workspace it may be when it does not know the one that was named', async () => {
    const response = await http.signed('POST', '/v1/events', EVENT, { workspace: 'default/dev' })

    expect((await problemOf(response)).detail).toBe(
      'There is no workspace "default/dev" on this engine. Set STEPWELL_WORKSPACE in the app to the engine\'s: "stepwell start" makes default/prod unless told otherwise.',
    )
  })

  test('refuses a body that was changed after it was signed, also by one byte of whitespace', async () => {
    const before = await http.stored()
    const id = newMessageId()
    const good = await http.signed('POST', '/v1/events', EVENT, { id })
    expect(good.status).toBe(202)

    const response = await http.call('POST', '/v1/events', undefined, {
      raw: `${JSON.stringify(EVENT)} `,
      headers: headersOf(EVENT),
    })

    expect(response.status).toBe(401)
    expect((await problemOf(response)).code).toBe('signature_invalid')
    expect((await http.stored()).events).toBe((before.events ?? 0) + 1)
  })

  test.each([HEADERS.id, HEADERS.timestamp, HEADERS.signature])('refuses a message without %s', async name => {
    const before = await http.stored()
    const headers = headersOf(EVENT)
    delete headers[name]

    const response = await http.call('POST', '/v1/events', EVENT, { headers })

    expect(response.status).toBe(401)
    const problem = await problemOf(response)
    expect(problem.code).toBe('signature_missing')
    expect(problem.detail).toContain(name)
    expect(await http.stored()).toEqual(before)
  })

  test('shows the fingerprints of its keys, and no key, to a sender with another one', async () => {
    const response = await http.signed('POST', '/v1/events', EVENT, { keys: [aKey()] })

    const problem = await problemOf(response)
    expect(problem.fingerprints).toEqual([fingerprint(http.key)])
    expect(problem.detail).toContain(fingerprint(http.key))
  })

  test('takes a message once', async () => {
    const id = newMessageId()
    const first = await http.signed('POST', '/v1/events', EVENT, { id })
    const before = await http.stored()

    const second = await http.signed('POST', '/v1/events', EVENT, { id })

    expect(first.status).toBe(202)
    expect(second.status).toBe(401)
    expect((await problemOf(second)).code).toBe('request_replayed')
    expect(await http.stored()).toEqual(before)
  })

  test('does not remember the id of a message with a wrong signature', async () => {
    const id = newMessageId()
    await http.signed('POST', '/v1/events', EVENT, { id, keys: [aKey()] })

    const response = await http.signed('POST', '/v1/events', EVENT, { id })

    expect(response.status).toBe(202)
  })

  test('lets two workspaces use the same ids', async () => {
    const otherKey = aKey()
    await ensureWorkspace(http.sql, 'other/prod', otherKey)
    const id = newMessageId()
    await http.signed('POST', '/v1/events', EVENT, { id })

    const response = await http.signed('POST', '/v1/events', EVENT, { id, keys: [otherKey], workspace: 'other/prod' })

    expect(response.status).toBe(202)
  })

  test("refuses another workspace's key", async () => {
    const otherKey = aKey()
    await ensureWorkspace(http.sql, 'third/prod', otherKey)

    const response = await http.signed('POST', '/v1/events', EVENT, { keys: [otherKey] })

    expect(response.status).toBe(401)
    expect((await problemOf(response)).code).toBe('signature_invalid')
  })

  test.each([
    ['GET', '/v1/runs'],
    ['GET', '/v1/runs/run_01m7wfht8ge82r73aq1n8pj7ng'],
    ['GET', '/v1/openapi.json'],
    ['GET', '/v1/unknown'],
    ['POST', '/v1/events'],
    ['POST', '/v1/reports'],
    ['POST', '/v1/sync'],
  ])('refuses an unsigned %s %s, from this machine too', async (method, path) => {
    const response = await http.call(method, path, method === 'POST' ? {} : undefined)

    expect(response.status).toBe(401)
    expect((await problemOf(response)).code).toBe('signature_missing')
  })

  test.each(['/livez', '/readyz'])('answers %s to everybody', async path => {
    const response = await http.call('GET', path, undefined, { peer: '192.0.2.7' })

    expect(response.status).toBe(200)
  })

  test('verifies a GET by its method, path and query', async () => {
    const good = await http.signed('GET', '/v1/runs?limit=1')
    const headers = headersOf(undefined, 'GET', '/v1/runs?limit=1')

    const otherQuery = await http.call('GET', '/v1/runs?limit=2', undefined, { headers })

    expect(good.status).toBe(200)
    expect(otherQuery.status).toBe(401)
    expect((await problemOf(otherQuery)).code).toBe('signature_invalid')
  })

  test.each([
    ['an unknown version', { [HEADERS.version]: '2' }, 'Version "2" is not known here'],
    ['no version', { [HEADERS.version]: '' }, 'Version "" is not known here'],
  ])('answers 415 to %s, with the versions it knows', async (_what, headers, said) => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events', EVENT, { headers })

    expect(response.status).toBe(415)
    const problem = await problemOf(response)
    expect(problem).toMatchObject({ code: 'version_unknown', versions: ['1'] })
    expect(problem.detail).toContain(said)
    expect(await http.stored()).toEqual(before)
  })

  test('answers 415 to a signed request without the version header', async () => {
    const headers = headersOf(EVENT)
    delete headers[HEADERS.version]

    const response = await http.call('POST', '/v1/events', EVENT, { headers })

    expect(response.status).toBe(415)
    expect((await problemOf(response)).code).toBe('version_unknown')
  })

  describe('while a key rotates', () => {
    const newKey = aKey()

    afterEach(async () => {
      const catalog = await http.engine.catalogs.byName(http.workspace)
      if (catalog === null) throw new Error('no workspace')
      await setOnlyKey(http.sql, catalog.ws, http.key)
      await http.engine.catalogs.reload(catalog.ws)
    })

    test('takes both keys, shows both, and signs with both', async () => {
      const ws = await ensureWorkspace(http.sql, http.workspace, newKey)
      await http.engine.catalogs.reload(ws)

      // `signed` verifies each answer under the keys that the request was signed with.
      const old = await http.signed('POST', '/v1/events', EVENT)
      const fresh = await http.signed('POST', '/v1/events', EVENT, { keys: [newKey] })
      const stranger = await http.signed('POST', '/v1/events', EVENT, { keys: [aKey()] })

      expect([old.status, fresh.status, stranger.status]).toEqual([202, 202, 401])
      const { fingerprints, detail } = await problemOf(stranger)
      expect(new Set(fingerprints as string[])).toEqual(new Set([fingerprint(newKey), fingerprint(http.key)]))
      expect(detail).toContain(fingerprint(newKey))
      expect(detail).toContain(fingerprint(http.key))
    })

    test('refuses the old one when it is gone', async () => {
      const response = await http.signed('POST', '/v1/events', EVENT, { keys: [newKey] })

      expect(response.status).toBe(401)
    })
  })

  /** Headers of a message that would be accepted. */
  function headersOf(json: unknown, method = 'POST', path = '/v1/events'): Record<string, string> {
    const payload = payloadOf(method, path, json === undefined ? undefined : JSON.stringify(json))
    return {
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: http.workspace,
      ...signHeaders({ id: newMessageId(), nowMs: Date.now(), payload, secrets: [http.key] }),
    }
  }
})

describe('a dev engine', () => {
  const http = useHttp('dev')

  test.each([
    ['127.0.0.1', undefined],
    ['::1', undefined],
    ['::ffff:127.0.0.1', undefined],
    ['127.0.0.1', 'default/dev'],
  ])('takes an unsigned event from %s for workspace %s', async (peer, workspace) => {
    const headers: Record<string, string> = workspace === undefined ? {} : { [HEADERS.workspace]: workspace }

    const response = await http.call('POST', '/v1/events', EVENT, { peer, headers })

    expect(response.status).toBe(202)
    expect(response.headers.get(HEADERS.signature)).toBeNull()
  })

  test.each([
    ['from another machine', '192.0.2.7', {}],
    ['from an address that only looks like ours', '10.127.0.1', {}],
    ['over a connection without an address', null, {}],
    ['for another workspace', '127.0.0.1', { [HEADERS.workspace]: 'shop/prod' }],
  ])('refuses an unsigned event %s', async (_what, peer, headers) => {
    const before = await http.stored()

    const response = await http.call('POST', '/v1/events', EVENT, { peer, headers })

    expect(response.status).toBe(401)
    expect((await problemOf(response)).code).toBe('signature_missing')
    expect(await http.stored()).toEqual(before)
  })

  test('refuses unsigned reports, from this machine too', async () => {
    const response = await http.call('POST', '/v1/reports', { kind: 'reports', workspace: 'default/dev', reports: [] })

    expect(response.status).toBe(401)
    const problem = await problemOf(response)
    expect(problem.code).toBe('signature_missing')
    expect(problem.detail).toContain('Reports are signed')
  })

  test('verifies a signature that is there', async () => {
    const good = await http.signed('POST', '/v1/events', EVENT)
    const bad = await http.signed('POST', '/v1/events', EVENT, { keys: [aKey()] })

    expect([good.status, bad.status]).toEqual([202, 401])
  })

  test('refuses an unknown version on unsigned requests too', async () => {
    const response = await http.call('POST', '/v1/events', EVENT, { headers: { [HEADERS.version]: '7' } })

    expect(response.status).toBe(415)
  })
})

function tampered(signature: string): Record<string, string> {
  return { [HEADERS.signature]: signature }
}
