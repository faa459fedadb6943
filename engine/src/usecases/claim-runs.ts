/*
 * Takes runs from the queue: one statement leases them, moves what has arrived into their journals, and reads them.
 */

import { randomBytes } from 'node:crypto'
import { encodeId } from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'
import type { Trouble } from '../core/happening.ts'
import type { Token, WorkerId, WorkspaceId } from '../core/ids.ts'
import { Invocable } from '../core/invocable.ts'
import { applyEntry, newSnapshot } from '../core/snapshot.ts'
import type { Sql } from '../store/db.ts'
import { type Claimed, type ClaimedEntry, claim } from '../store/queue.ts'
import type { Catalogs } from './catalogs.ts'
import type { HeldRun, HeldRuns, JournalText } from './held-runs.ts'
import type { LowWater } from './low-water.ts'

export interface ClaimRunsDeps {
  sql: Sql
  catalogs: Catalogs
  held: HeldRuns
  worker: WorkerId
  marks: LowWater
  /** The database's clock, Unix milliseconds. */
  nowMs: () => number
}

/** A run that was just leased, and its journal for the app. */
export interface Leased {
  run: HeldRun
  journal: JournalText
}

/** Leases up to `limit` runs of one workspace. */
export async function claimRuns(deps: ClaimRunsDeps, ws: WorkspaceId, limit: number): Promise<Leased[]> {
  const token = newToken()
  const claimed = await deps.marks.read(ws, async fromMs => {
    const askedAtMs = deps.nowMs()
    const rows = await claim(deps.sql, ws, limit, deps.worker, token, fromMs)
    // Fewer than asked for: all that was runnable has been taken.
    const leftFromMs = rows.length === limit ? (rows[0]?.readyAtMs ?? askedAtMs) : askedAtMs
    return { result: rows, leftFromMs }
  })
  const first = claimed[0]
  if (first === undefined) return []
  const catalog = await deps.catalogs.atLeast(ws, first.version)
  return claimed.map(row => hold(deps.held, catalog, row, token))
}

/** From now on this process holds the run. */
export function hold(held: HeldRuns, catalog: Catalog, row: Claimed, token: Token): Leased {
  const run = heldRun(catalog, row, token)
  held.add(run)
  return { run, journal: journalText(row.journal) }
}

/** 63 random bits: never met again, also not after a claim was lost in a crash of the database. */
export function newToken(): Token {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString() as Token
}

function heldRun(catalog: Catalog, row: Claimed, token: Token): HeldRun {
  const { runId, generation, turn, nowMs, wantsUndo } = row
  const functions = new Invocable(catalog)
  const trouble = row.trouble === null ? null : (JSON.parse(row.trouble) as Trouble)
  const snapshot = newSnapshot({ runId, generation, turn, nowMs, trouble, wantsUndo, functions })
  for (const entry of row.journal) applyEntry(snapshot, entry)
  const nowMonotonicMs = performance.now()
  return {
    catalog,
    functions,
    ws: catalog.ws,
    runId: row.runId,
    wireId: encodeId('run', row.runId),
    function: row.function,
    version: row.functionVersion,
    token,
    turn: row.turn,
    snapshot,
    parent: row.parent,
    said: { status: row.status, tags: row.tags },
    nextSeq: (row.journal.at(-1)?.seq ?? 0) + 1,
    startedAtMs: row.createdAtMs,
    readyAtMs: row.readyAtMs,
    claimedAtMonotonicMs: nowMonotonicMs,
    lastSignAtMonotonicMs: nowMonotonicMs,
    sentMs: null,
    firstByteMs: null,
    replayMs: null,
    last: null,
    isEnding: false,
    isOver: false,
  }
}

/** Entries as JSON text. Payloads are put in as they are stored: what only passes through is not parsed. */
function journalText(entries: ClaimedEntry[]): JournalText {
  return `[${entries.map(entryText).join(',')}]`
}

function entryText(entry: ClaimedEntry): string {
  const head = `{"seq":${entry.seq},"turn":${entry.turn},"at":"${entry.at}","type":"${entry.type}"`
  const key = entry.key === null ? '' : `,"key":${JSON.stringify(entry.key)}`
  const saw = entry.saw === null ? '' : `,"saw":${entry.saw}`
  const data = entry.data === null ? '' : `,"data":${entry.data}`
  return `${head}${key}${saw}${data}}`
}
