/*
 * Registers an app: where it is and which functions it has. The truth is what the URL answers to `describe`, signed; what
 * the sender believes to serve is only compared, so that a wrong URL is found here and not at the first run.
 */
import { isDeepStrictEqual } from 'node:util'
import type { FunctionDescription, SyncAnswer, SyncRequest } from '@stepwell/protocol'
import type { CallApp } from '../call/call-app.ts'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { WorkspaceId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { saveApp } from '../store/workspaces.ts'
import type { Catalogs } from './catalogs.ts'

export interface SyncAppDeps {
  sql: Sql
  catalogs: Catalogs
  callApp: CallApp
  /** Runs that waited for the app may try again. */
  wakeTimers: (ws: WorkspaceId) => void
}

const DESCRIBE_TIMEOUT_MS = 10_000

/**
 * Asks the app what it serves and stores that, and lets runs that wait for the app try again. Refuses when the app cannot
 * be reached or serves other functions. With `onlyChanges` an app that serves what is known already changes nothing.
 */
export async function syncApp(
  deps: SyncAppDeps,
  catalog: Catalog,
  request: SyncRequest,
  { onlyChanges = false }: { onlyChanges?: boolean } = {},
): Promise<SyncAnswer> {
  const startedAt = performance.now()
  const outcome = await deps.callApp({
    catalog: { name: catalog.name, keys: catalog.keys, url: request.url },
    kind: 'describe',
    body: JSON.stringify({ kind: 'describe', workspace: catalog.name }),
    lastSignAtMs: () => startedAt,
    timeoutMs: DESCRIBE_TIMEOUT_MS,
    isOver: () => false,
  })
  if (outcome.kind === 'no_answer') {
    throw new EngineError(
      outcome.code,
      422,
      `${outcome.message} The engine calls the app back at the URL that was synced; nothing was stored.`,
    )
  }
  const { functions } = outcome.description
  const missing = (request.functions ?? []).filter(id => !functions.some(served => served.id === id))
  if (missing.length > 0) {
    const serves = functions.map(served => served.id).join(', ') || 'none'
    throw new EngineError(
      'app_functions_differ',
      422,
      `App at ${request.url} does not serve ${missing.join(', ')}; it serves ${serves}. Pass the same functions to serve() and sync(), or check the URL.`,
    )
  }
  const before = await deps.catalogs.reload(catalog.ws)
  const answer: SyncAnswer = {
    workspace: catalog.name,
    url: request.url,
    functions: functions.map(one => ({ id: one.id, triggers: one.triggers, change: changeOf(before, one) })),
    removed: [...before.functions.keys()].filter(id => !functions.some(served => served.id === id)),
  }
  const isNews = before.url !== answer.url || answer.removed.length > 0 || answer.functions.some(isChanged)
  if (onlyChanges && !isNews) return answer
  await saveApp(deps.sql, catalog.ws, { url: request.url, functions })
  await deps.catalogs.reload(catalog.ws)
  deps.wakeTimers(catalog.ws)
  return answer
}

function isChanged({ change }: SyncAnswer['functions'][number]): boolean {
  return change !== 'unchanged'
}

function changeOf(before: Catalog, served: FunctionDescription): 'added' | 'changed' | 'unchanged' {
  const known = before.functions.get(served.id)
  if (known === undefined) return 'added'
  return isDeepStrictEqual(known, served) ? 'unchanged' : 'changed'
}
