import type { WorkerId, WorkspaceId } from 'stepwell/src/core/ids.ts'
import { type Advance, advance } from 'stepwell/src/store/advance.ts'
import type { Sql } from 'stepwell/src/store/db.ts'
import { type IngestEvent, ingest } from 'stepwell/src/store/ingest.ts'
import { claim } from 'stepwell/src/store/queue.ts'
import { record } from 'stepwell/src/store/record.ts'
import { anEnd, aRecording, aStartingEvent, aStepTaken, type Leased, newToken, newUuid } from './builders.ts'
import type { Case } from './measure.ts'
import type { Meter } from './meter.ts'

/** A workspace that nobody else works in. */
export interface Place {
  sql: Sql
  ws: WorkspaceId
  worker: WorkerId
  meter: Meter
}

const WORKSPACE_VERSION = '1'
/** So that a run's journal does not grow beyond what runs have. */
const STEPS_PER_RUN_MAX = 1_000

/** The statements of the straight path, each over one run and over many. One connection, so nothing waits for locks. */
export function storeCases(place: Place): Case[] {
  return [
    ...[1, 100, 1_000].map(count => ingestCase(place, count)),
    ...[1, 100].map(count => claimCase(place, count)),
    ...[1, 100, 500].map(count => keepCase(place, { door: 'record', count })),
    ...[1, 100, 500].map(count => keepCase(place, { door: 'advance', count })),
    ...[1, 100].map(count => settleCase(place, count)),
  ]
}

/** Makes the workspace of the cases, and a worker. */
export async function makePlace(sql: Sql, meter: Meter): Promise<Place> {
  const [row] = await sql<{ ws: WorkspaceId }[]>`
    insert into stepwell.workspaces (ws, name, version) values (1, 'bench/micro', ${WORKSPACE_VERSION}) returning ws`
  if (row === undefined) throw new Error('The workspace was not made.')
  return { sql, ws: row.ws, worker: newUuid() as WorkerId, meter }
}

function ingestCase(place: Place, count: number): Case {
  let events: IngestEvent[] = []
  return {
    name: `ingest, ${named(count, 'event')} that start${count === 1 ? 's' : ''} a run`,
    items: count,
    meter: place.meter,
    prepare: async () => {
      events = Array.from({ length: count }, aStartingEvent)
    },
    run: () => accept(place, events),
    tidy: () => clearQueue(place),
  }
}

function claimCase(place: Place, count: number): Case {
  let leased: Leased[] = []
  return {
    name: `claim, ${named(count, 'run')}`,
    items: count,
    meter: place.meter,
    prepare: () => accept(place, Array.from({ length: count }, aStartingEvent)),
    run: async () => {
      leased = await lease(place, count)
    },
    tidy: () => finish(place, leased),
  }
}

/** A step of each run is recorded, and its turn goes on. */
function keepCase(place: Place, { door, count }: { door: 'record' | 'advance'; count: number }): Case {
  let leased: Leased[] = []
  let stepsBefore = 0
  return {
    name: `${door}, ${named(count, 'report')}, turn goes on`,
    items: count,
    meter: place.meter,
    prepare: async () => {
      stepsBefore += 1
      if (leased.length > 0 && stepsBefore < STEPS_PER_RUN_MAX) return
      await finish(place, leased)
      leased = await startAndLease(place, count)
      stepsBefore = 0
    },
    run: () => {
      if (door === 'record') return recordSteps(place, leased, stepsBefore)
      return write(
        place,
        leased.map(run => aStepTaken(run, stepsBefore)),
      )
    },
  }
}

function settleCase(place: Place, count: number): Case {
  let leased: Leased[] = []
  return {
    name: `advance, ${named(count, 'run')} ended`,
    items: count,
    meter: place.meter,
    prepare: async () => {
      leased = await startAndLease(place, count)
    },
    run: () => finish(place, leased),
  }
}

async function accept(place: Place, events: IngestEvent[]): Promise<void> {
  const result = await ingest(place.sql, place.ws, WORKSPACE_VERSION, events)
  if (result.stale) throw new Error('The workspace has another version.')
}

async function lease(place: Place, limit: number): Promise<Leased[]> {
  const token = newToken()
  const claimed = await claim(place.sql, place.ws, limit, place.worker, token)
  if (claimed.length !== limit) throw new Error(`${claimed.length} runs were claimed and not ${limit}.`)
  return claimed.map(run => ({ ...run, token }))
}

async function startAndLease(place: Place, count: number): Promise<Leased[]> {
  await clearQueue(place)
  await accept(place, Array.from({ length: count }, aStartingEvent))
  return lease(place, count)
}

async function recordSteps({ sql, ws }: Place, leased: Leased[], stepsBefore: number): Promise<void> {
  const items = leased.map(run => aRecording(run, stepsBefore))
  const results = await record(sql, ws, items)
  if (results.some(result => result.status !== 'ok')) throw new Error('A lease is not valid any more.')
}

async function write(place: Place, items: Advance[]): Promise<void> {
  const results = await advance(place.sql, place.ws, items)
  if (results.some(result => result.status === 'stale')) throw new Error('A lease is not valid any more.')
}

async function finish(place: Place, leased: Leased[]): Promise<void> {
  if (leased.length === 0) return
  await write(
    place,
    leased.map(run => anEnd(run, 0)),
  )
}

/** Takes away what earlier operations left, without measuring it. */
async function clearQueue({ sql, ws }: Place): Promise<void> {
  await sql`delete from stepwell.queue where ws = ${ws}`
  await sql`delete from stepwell.runs where ws = ${ws}`
}

function named(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
}
