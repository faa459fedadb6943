/*
 * What single statements cost beside many other rows, while no engine runs: the claim, and an event that wakes one run.
 */
import { encodeId } from '@stepwell/protocol'
import type { WorkerId } from 'stepwell/src/core/ids.ts'
import { eventHash } from 'stepwell/src/core/match.ts'
import { advance } from 'stepwell/src/store/advance.ts'
import { open, type Sql } from 'stepwell/src/store/db.ts'
import { ingest } from 'stepwell/src/store/ingest.ts'
import { claim } from 'stepwell/src/store/queue.ts'
import { readCatalog } from 'stepwell/src/store/workspaces.ts'
import { LowWater } from 'stepwell/src/usecases/low-water.ts'
import { anEnd, aStartingEvent, newToken, newUuid } from '../micro/builders.ts'
import type { Database } from './database.ts'
import { AWAITED_EVENT } from './seed.ts'

/** Milliseconds, the median. */
export interface ClaimTimes {
  ofOne: number
  ofHundred: number
}

const CLAIMS = 200
const CLAIMS_UNMEASURED = 20
/** How many runs a probe claims in all. */
export const RUNS_CLAIMED = (CLAIMS + CLAIMS_UNMEASURED) * (1 + 100)
const WAKES = 200
const WAKES_UNMEASURED = 20

/** Claims of 1 and of 100, of runs of its own: as many as are claimed, so that none stays for the engines that follow. */
export async function probeClaims(database: Database): Promise<ClaimTimes> {
  await withConnection(database, async sql => {
    for (let n = 0; n < CLAIMS + CLAIMS_UNMEASURED; n += 1)
      await accept(database, sql, Array.from({ length: 1 + 100 }, aStartingEvent))
  })
  return probeClaimsOfQueued(database)
}

/** The same of runs that are queued: the oldest. Each is ended at once. */
export async function probeClaimsOfQueued(database: Database): Promise<ClaimTimes> {
  return withConnection(database, async sql => {
    // What earlier measurements have deleted is not what is asked about here.
    await sql`vacuum stepwell.queue`
    return { ofOne: await timeClaims(database, sql, 1), ofHundred: await timeClaims(database, sql, 100) }
  })
}

/** Events that wake one run each, of all that wait. `waiting` is how many there are. */
export async function probeWakes(database: Database, waiting: number): Promise<number> {
  return withConnection(database, async sql => {
    const times: number[] = []
    for (let n = 0; n < WAKES + WAKES_UNMEASURED; n += 1) {
      // Spread over all of them, so that no page is warm by chance.
      const target = Math.floor(((n + 0.5) / (WAKES + WAKES_UNMEASURED)) * waiting)
      const event = anAwaitedEvent(target)
      const startedAt = performance.now()
      await accept(database, sql, [event])
      times.push(performance.now() - startedAt)
    }
    const woken = await endAll(database, sql)
    if (woken !== times.length) throw new Error(`${times.length} events have woken ${woken} runs.`)
    return median(times.slice(WAKES_UNMEASURED))
  })
}

/** Claims and ends whatever is queued; returns how much that was. */
async function endAll(database: Database, sql: Sql): Promise<number> {
  const marks = new LowWater()
  for (let ended = 0; ; ) {
    const { count } = await claimAndEnd(database, { sql, marks, limit: 100 })
    if (count === 0) return ended
    ended += count
  }
}

async function timeClaims(database: Database, sql: Sql, limit: number): Promise<number> {
  const times: number[] = []
  const marks = new LowWater()
  for (let n = 0; n < CLAIMS + CLAIMS_UNMEASURED; n += 1) {
    const { ms, count } = await claimAndEnd(database, { sql, marks, limit })
    if (count !== limit) throw new Error(`${count} runs were claimed and not ${limit}.`)
    times.push(ms)
  }
  return median(times.slice(CLAIMS_UNMEASURED))
}

/** As the engine claims: from its mark, and from the head of the queue now and then. */
async function claimAndEnd(
  { ws }: Database,
  given: { sql: Sql; marks: LowWater; limit: number },
): Promise<{ ms: number; count: number }> {
  const { sql, marks, limit } = given
  const token = newToken()
  const startedAt = performance.now()
  const claimed = await marks.read(ws, async fromMs => {
    const runs = await claim(sql, ws, limit, newUuid() as WorkerId, token, fromMs)
    return { result: runs, leftFromMs: runs[0]?.readyAtMs ?? 0 }
  })
  const ms = performance.now() - startedAt
  const ends = claimed.map(run => anEnd({ ...run, token }, 0))
  if (ends.length > 0) await advance(sql, ws, ends)
  return { ms, count: claimed.length }
}

async function accept({ ws }: Database, sql: Sql, events: Parameters<typeof ingest>[3]): Promise<void> {
  const catalog = await readCatalog(sql, ws)
  const result = await ingest(sql, ws, catalog?.version ?? '', events)
  if (result.stale) throw new Error('The workspace has another version.')
}

function anAwaitedEvent(target: number): Parameters<typeof ingest>[3][number] {
  const id = newUuid()
  const whole = { id: encodeId('evt', id), name: AWAITED_EVENT, data: { id: target }, ts: new Date().toISOString() }
  const hash = eventHash(whole, ['id'])
  const data = JSON.stringify(whole.data)
  return { ...whole, id, wireId: whole.id, isOwnId: false, data, hashes: hash === null ? [] : [hash], runs: [] }
}

async function withConnection<T>({ connection }: Database, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = open(connection, 1)
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
