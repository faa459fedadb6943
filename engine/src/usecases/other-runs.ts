/* The runs that a decision about one run starts: children, and what follows an end. */
import type { Event } from '@stepwell/protocol'
import { newestVersion } from '../core/catalog.ts'
import type { Change, SettleChange } from '../core/change.ts'
import type { Happening } from '../core/happening.ts'
import { splitFunction } from '../core/invocable.ts'
import { tagsOf, watchesOf } from '../core/watches.ts'
import type { Follow, Start } from '../store/advance.ts'
import type { Catalogs } from './catalogs.ts'
import type { HeldRun } from './held-runs.ts'

/** Looks up what a report invokes and nobody knows here yet: it may have been registered a moment ago, or be another app's. */
export async function findInvoked(catalogs: Catalogs, run: HeldRun, happening: Happening): Promise<void> {
  if (happening.kind !== 'report') return
  for (const op of happening.report.ops) {
    if (op.op !== 'invoke' || run.functions.has(op.function)) continue
    const { app } = splitFunction(op.function)
    if (app === null) {
      run.catalog = await catalogs.reload(run.ws)
      run.functions = run.functions.withOwn(run.catalog)
    } else {
      const other = await catalogs.byName(run.functions.workspaceOf(app))
      if (other !== null) run.functions.add(app, await catalogs.reload(other.ws))
    }
    run.snapshot.functions = run.functions
  }
}

/** The children that a decision starts, by their ids. */
export function startsOf(run: HeldRun, changes: readonly Change[]): Map<string, Start> {
  const starts = new Map<string, Start>()
  for (const change of changes) {
    if (change.kind !== 'start_run') continue
    const invoked = run.functions.find(change.function)
    // decide has asked for it.
    if (invoked === null) throw new Error(`Function ${change.function} is not known.`)
    const { ws, description } = invoked
    const event = JSON.parse(change.event) as Event
    const { id, version = 1 } = description
    starts.set(change.runId, {
      ws,
      function: id,
      version,
      watches: watchesOf(description, event),
      tags: tagsOf(description, event),
    })
  }
  return starts
}

/** The function that its own function names for such an end; null for none. */
export function followOf(run: HeldRun, settle: SettleChange | undefined, newUuid: () => string): Follow | null {
  if (settle?.step !== 'done' || settle.state === 'completed') return null
  const description = run.catalog.functions.get(run.function)
  const next = settle.state === 'failed' ? description?.onFailure : description?.onCancel
  if (next === undefined) return null
  const names = JSON.stringify({ run: run.wireId, function: run.function }).slice(0, -1)
  return {
    id: newUuid(),
    function: next,
    version: newestVersion(run.catalog, next),
    head: `{"id":"${run.wireId}:${settle.state}","name":"stepwell.run.${settle.state}","data":${names},"error":${settle.error},"event":`,
    tail: `},"ts":"${new Date(run.snapshot.nowMs).toISOString()}"}`,
  }
}
