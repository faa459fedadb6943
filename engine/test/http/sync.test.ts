import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { syncView } from '../../src/http/views.ts'
import { aKey, problemOf, useHttp } from './harness.ts'
import { startTurnApp, type TurnApp } from './turn-app.ts'

const http = useHttp('start')
let app: TurnApp

beforeAll(async () => {
  app = await startTurnApp({ key: http.key, functions: { work: 'work.asked', rest: 'rest.asked' } })
})

afterAll(() => app.close())

describe('a sync', () => {
  test('stores what the app itself says it serves, and says what changed', async () => {
    const first = await http.signed('POST', '/v1/sync', { url: app.url, functions: ['work'] })
    const second = await http.signed('POST', '/v1/sync', { url: app.url })

    expect([first.status, second.status]).toEqual([200, 200])
    const answer = syncView.parse(await first.json())
    expect(answer).toMatchObject({ workspace: http.workspace, url: app.url, removed: [] })
    expect(answer.functions.map(({ id, change }) => [id, change])).toEqual([
      ['work', 'added'],
      ['rest', 'added'],
    ])
    const again = syncView.parse(await second.json())
    expect(again.functions.map(({ change }) => change)).toEqual(['unchanged', 'unchanged'])
    expect((await http.stored()).functions).toBe(2)
  })

  test.each([
    ['a URL without a scheme', { url: 'localhost:3000' }, 'url'],
    ['a URL of another scheme', { url: 'file:///etc/passwd' }, 'url'],
    ['no URL', {}, 'url'],
    ['a function id with a space', { url: 'http://127.0.0.1:1', functions: ['a b'] }, 'functions[0]'],
  ])('with %s is refused', async (_what, body, path) => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/sync', body)

    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.code).toBe('body_invalid')
    expect(problem.errors?.[0]?.path).toBe(path)
    expect(await http.stored()).toEqual(before)
  })

  test('of an app that cannot be reached stores nothing', async () => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/sync', { url: 'http://127.0.0.1:1/api' })

    expect(response.status).toBe(422)
    expect((await problemOf(response)).code).toBe('app_unreachable')
    expect(await http.stored()).toEqual(before)
  })

  test('of an app that does not serve what the sender believes stores nothing', async () => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/sync', { url: app.url, functions: ['work', 'play'] })

    expect(response.status).toBe(422)
    const problem = await problemOf(response)
    expect(problem.code).toBe('app_functions_differ')
    expect(problem.detail).toContain('play')
    expect(await http.stored()).toEqual(before)
  })

  test('of an app with another key stores nothing', async () => {
    const stranger = await startTurnApp({ key: aKey(), functions: { work: 'work.asked' } })
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/sync', { url: stranger.url })

    expect(response.status).toBe(422)
    expect((await problemOf(response)).code).toBe('app_signature_invalid')
    expect(await http.stored()).toEqual(before)
    await stranger.close()
  })
})
