import { encodeId } from '@stepwell/protocol'
import { beforeAll, describe, expect, test } from 'vitest'
import { journalView, runListView, runView, sentView } from '../../src/http/views.ts'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { problemOf, useHttp } from './harness.ts'

const http = useHttp('dev')
/** Five of `work` and two of `rest`, oldest first. */
let runs: string[]

beforeAll(async () => {
  await http.serve({ work: 'work.asked', rest: 'rest.asked' })
  const names = ['work', 'work', 'rest', 'work', 'work', 'rest', 'work']
  runs = []
  for (const name of names) {
    const response = await http.call('POST', '/v1/events', { name: `${name}.asked` })
    runs.push(...sentView.parse(await response.json()).events.flatMap(event => event.runs))
  }
})

const get = (path: string) => http.call('GET', path)

async function list(query: string) {
  const response = await get(`/v1/runs${query}`)
  expect(response.status).toBe(200)
  return runListView.parse(await response.json())
}

describe('the list of runs', () => {
  test('is newest first', async () => {
    const page = await list('')

    expect(page.runs.map(run => run.id)).toEqual([...runs].reverse())
    expect(page.next).toBeNull()
  })

  test('comes in pages that meet without a gap, and ends', async () => {
    const seen: string[] = []
    let cursor: string | null = null
    let pages = 0
    do {
      const query: string = cursor === null ? '?limit=3' : `?limit=3&cursor=${cursor}`
      const page = await list(query)
      seen.push(...page.runs.map(run => run.id))
      cursor = page.next
      pages += 1
    } while (cursor !== null)

    expect(seen).toEqual([...runs].reverse())
    expect(pages).toBe(3)
  })

  test('has no further page when the last one is full', async () => {
    const page = await list('?limit=7')

    expect(page.runs).toHaveLength(7)
    expect(page.next).toBeNull()
  })

  test('can be of one function', async () => {
    const page = await list('?function=rest')

    expect(page.runs.map(run => run.function)).toEqual(['rest', 'rest'])
  })

  test('can be of one state', async () => {
    const [queued, done] = [await list('?state=queued'), await list('?state=completed')]

    expect(queued.runs).toHaveLength(7)
    expect(done.runs).toEqual([])
  })

  test.each([
    ['limit=0', 'limit'],
    ['limit=201', 'limit'],
    ['limit=1.5', 'limit'],
    ['limit=', 'limit'],
    ['limit=1e2', 'limit'],
    ['limit=99999999999999999999', 'limit'],
    ['state=done', 'state'],
    ['function=a%00b', 'function'],
    ['cursor=x', 'cursor'],
    [`cursor=${encodeURIComponent("' or 1=1 --")}`, 'cursor'],
    ['stat=queued', 'stat'],
    ['__proto__=1', '__proto__'],
    ['limit=1&limit=2', 'limit'],
  ])('refuses %s and says where', async (query, path) => {
    const response = await get(`/v1/runs?${query}`)

    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.code).toBe('query_invalid')
    expect(problem.errors?.[0]?.path).toBe(path)
  })
})

describe('a run', () => {
  test('is shown by its id, in any case', async () => {
    const [id = ''] = runs

    const response = await get(`/v1/runs/${id.toUpperCase()}`)

    expect(response.status).toBe(200)
    const run = runView.parse(await response.json())
    expect(run).toMatchObject({ id, function: 'work', state: 'queued', attempts: 0, finishedAt: null })
  })

  test('shows its journal', async () => {
    const [id = ''] = runs

    const response = await get(`/v1/runs/${id}/journal`)

    expect(response.status).toBe(200)
    const journal = journalView.parse(await response.json())
    expect(journal).toMatchObject({ run: id, generation: 1, next: null })
    expect(journal.entries).toMatchObject([{ seq: 1, type: 'run_started', data: { name: 'work.asked' } }])
  })

  test('shows its journal in pages', async () => {
    const [id = ''] = runs

    const response = await get(`/v1/runs/${id}/journal?after=1&limit=1`)

    expect(journalView.parse(await response.json())).toMatchObject({ entries: [], next: null })
  })

  test.each(['after=-1', 'after=x', 'limit=0', 'limit=1001', 'from=1'])('refuses a journal with %s', async query => {
    const response = await get(`/v1/runs/${runs[0]}/journal?${query}`)

    expect(response.status).toBe(400)
    expect((await problemOf(response)).errors?.[0]?.path).toBe(query.split('=')[0])
  })

  test.each(['', '/journal'])('that is not there is 404 (%s)', async suffix => {
    const unknown = [
      encodeId('run', '01980000-0000-7000-8000-000000000000'),
      'run_x',
      'x',
      '%00',
      '%ff',
      'evt_01m7wfht8ge',
    ]

    for (const id of unknown) {
      const response = await get(`/v1/runs/${id}${suffix}`)
      expect(response.status).toBe(404)
      expect((await problemOf(response)).code).toBe('run_not_found')
    }
  })

  test('of another workspace is not there', async () => {
    await ensureWorkspace(http.sql, 'other/dev', http.key)

    const response = await http.signed('GET', `/v1/runs/${runs[0]}`, undefined, { workspace: 'other/dev' })
    const listed = await http.signed('GET', '/v1/runs', undefined, { workspace: 'other/dev' })

    expect(response.status).toBe(404)
    expect(await listed.json()).toEqual({ runs: [], next: null })
  })
})
