import { LIMITS } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import { sentView } from '../../src/http/views.ts'
import { problemOf, useHttp } from './harness.ts'

const http = useHttp('start')

describe('events are accepted', () => {
  test.each([
    ['one event', { name: 'a.one', data: { n: 1 } }, 1],
    ['an array', [{ name: 'a.one' }, { name: 'a.two' }], 2],
    ['events in an object', { events: [{ name: 'a.one' }, { name: 'a.two' }, { name: 'a.three' }] }, 3],
    ['none', { events: [] }, 0],
  ])('as %s', async (_form, body, count) => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events', body)

    expect(response.status).toBe(202)
    const sent = sentView.parse(await response.json())
    expect(sent.events).toHaveLength(count)
    expect((await http.stored()).events).toBe((before.events ?? 0) + count)
  })

  test('and answered with the runs that each has started, in the order of the request', async () => {
    await http.serve({ welcome: 'user.created', audit: 'user.created', bye: 'user.deleted' })

    const response = await http.signed('POST', '/v1/events', [
      { name: 'user.created', data: { id: 1 } },
      { name: 'nobody.cares' },
      { name: 'user.deleted', id: 'my-own-id' },
    ])

    const { events } = sentView.parse(await response.json())
    expect(events.map(event => event.runs.length)).toEqual([2, 0, 1])
    expect(events[2]?.id).toBe('my-own-id')
    const again = await http.signed('POST', '/v1/events', { name: 'user.deleted', id: 'my-own-id' })
    expect(await again.json()).toEqual({ events: [events[2]] })
  })

  test('under any content type', async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }

    const response = await http.signed('POST', '/v1/events', { name: 'a.one' }, { headers })

    expect(response.status).toBe(202)
  })
})

describe('nothing is stored when', () => {
  const long = 'x'.repeat(LIMITS.eventNameChars + 1)

  test.each([
    ['there is no body', '', 'body_invalid', ''],
    ['the body is no JSON', '{"name": ', 'body_invalid', ''],
    ['the body is not UTF-8', Buffer.from('{"name":"\xff"}', 'latin1'), 'body_invalid', ''],
    ['the body is a number', '7', 'body_invalid', ''],
    ['the body is null', 'null', 'body_invalid', ''],
    ['an event has no name', '{"data":1}', 'body_invalid', 'name'],
    ['an event has a member that there is not', '[{"name":"a"},{"name":"b","dta":1}]', 'body_invalid', '[1].dta'],
    [
      'a member is a form of __proto__',
      '{"events":[{"name":"a","__proto__":1}]}',
      'body_invalid',
      'events[0].__proto__',
    ],
    ['a name is empty', '[{"name":"a"},{"name":""}]', 'body_invalid', '[1].name'],
    ['a name is too long', `{"events":[{"name":"a"},{"name":"${long}"}]}`, 'body_invalid', 'events[1].name'],
    ['a name has a NUL in it', '{"name":"a\\u0000"}', 'body_invalid', 'name'],
    ['a name has half a surrogate pair in it', '{"name":"a\\ud800"}', 'body_invalid', 'name'],
    ['an id is no text', '{"name":"a","id":7}', 'body_invalid', 'id'],
    ['a time has no zone', '{"name":"a","ts":"2026-01-31T12:00:00"}', 'body_invalid', 'ts'],
    ['events are no list', '{"events":{"name":"a"}}', 'body_invalid', 'events'],
    ['the body nests too deep', `{"name":"a","data":${'['.repeat(5_000)}${']'.repeat(5_000)}}`, 'body_invalid', ''],
  ])('%s', async (_what, raw, code, path) => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events', undefined, { raw })

    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.code).toBe(code)
    expect(problem.errors?.[0]?.path).toBe(path)
    expect(await http.stored()).toEqual(before)
  })

  test.each([
    ['{"data":1}', '"name" is missing: an event needs a name, such as "user.created". See'],
    ['{"name":"a","dta":1}', '"dta" is no member of an event: did you mean "data"? See'],
    ['{"name":"a","payload":1}', '"payload" is no member of an event: did you mean "data"? See'],
    ['{"name":"a","version":1}', '"version" is no member of an event: it has name, data, id, ts. See'],
  ])('an event is %s, which is told so', async (raw, said) => {
    const response = await http.signed('POST', '/v1/events', undefined, { raw })

    const problem = await problemOf(response)
    expect(problem.detail).toContain(said)
  })

  test('every event has strange members, of which the first ten are told', async () => {
    const members = Object.fromEntries(Array.from({ length: 50 }, (_, at) => [`m${at}${'x'.repeat(1_000)}`, 1]))

    const response = await http.signed('POST', '/v1/events', [
      { name: 'a', ...members },
      { name: 'b', ...members },
    ])

    const problem = await problemOf(response)
    expect(problem.errors).toHaveLength(10)
    expect(JSON.stringify(problem).length).toBeLessThan(2_500)
  })

  test('there are too many events', async () => {
    const before = await http.stored()
    const events = Array.from({ length: LIMITS.eventsPerCall + 1 }, () => ({ name: 'a' }))

    const response = await http.signed('POST', '/v1/events', { events })

    expect(response.status).toBe(400)
    expect(await problemOf(response)).toMatchObject({ code: 'too_many_events', limit: LIMITS.eventsPerCall })
    expect(await http.stored()).toEqual(before)
  })

  test('one event is too large, and the others are not', async () => {
    const before = await http.stored()
    const events = [{ name: 'small' }, { name: 'large', data: 'x'.repeat(LIMITS.eventBytes) }]

    const response = await http.signed('POST', '/v1/events', events)

    expect(response.status).toBe(413)
    const problem = await problemOf(response)
    expect(problem.code).toBe('event_too_large')
    expect(problem.detail).toContain('Event 2 ("large")')
    expect(await http.stored()).toEqual(before)
  })

  test('the body is larger than the limit', async () => {
    const before = await http.stored()
    const raw = JSON.stringify({ name: 'a', data: 'x'.repeat(LIMITS.bodyBytes) })

    const response = await http.signed('POST', '/v1/events', undefined, { raw })

    expect(response.status).toBe(413)
    expect((await problemOf(response)).code).toBe('body_too_large')
    expect(await http.stored()).toEqual(before)
  })

  test('there is a query', async () => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events?dryRun=true', { name: 'a' })

    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.code).toBe('query_invalid')
    expect(problem.errors).toEqual([{ path: 'dryRun', message: 'is no parameter of this route' }])
    expect(await http.stored()).toEqual(before)
  })
})

test('an event of exactly the largest size is accepted', async () => {
  const data = 'x'.repeat(LIMITS.eventBytes - 2)

  const response = await http.signed('POST', '/v1/events', { name: 'large', data })

  expect(response.status).toBe(202)
})

test('a body nests as deep as it may', async () => {
  const data = `${'['.repeat(LIMITS.jsonDepth - 1)}${']'.repeat(LIMITS.jsonDepth - 1)}`

  const response = await http.signed('POST', '/v1/events', undefined, { raw: `{"name":"a","data":${data}}` })

  expect(response.status).toBe(202)
})
