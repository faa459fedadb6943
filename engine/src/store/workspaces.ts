import type { FunctionDescription } from '@stepwell/protocol'
import { type Catalog, cancelShapes, startedBy } from '../core/catalog.ts'
import type { WorkspaceId } from '../core/ids.ts'
import { plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** Finds a workspace's number by name; null when there is none. */
export async function findWorkspace(sql: Sql, name: string): Promise<WorkspaceId | null> {
  const [row] = await sql<{ ws: WorkspaceId }[]>`select ws from stepwell.workspaces where name = ${name}`
  return row?.ws ?? null
}

/** Creates the workspace when it is missing, and makes `key` one of its keys. */
export async function ensureWorkspace(sql: Sql, name: string, key: string): Promise<WorkspaceId> {
  await sql`
    insert into stepwell.workspaces (ws, name)
    select coalesce(max(ws), 0) + 1, ${name} from stepwell.workspaces
    on conflict do nothing`
  const ws = await findWorkspace(sql, name)
  // Two engines that create two workspaces at once want the same number: one of them finds nothing and asks again.
  if (ws === null) return ensureWorkspace(sql, name, key)
  await sql`
    with added as (
      insert into stepwell.workspace_keys (ws, secret) values (${ws}, ${key}) on conflict do nothing returning ws
    )
    update stepwell.workspaces set version = version + 1 where ws in (select ws from added)`
  return ws
}

/** Replaces the keys of a workspace by one: the dev engine's, which is new with each data folder or given by hand. */
export async function setOnlyKey(sql: Sql, ws: WorkspaceId, key: string): Promise<void> {
  await sql`
    with removed as (
      delete from stepwell.workspace_keys where ws = ${ws} and secret <> ${key} returning ws
    )
    update stepwell.workspaces set version = version + 1 where ws in (select ws from removed)`
}

/** Everything about a workspace that the hot paths need. */
export async function readCatalog(sql: Sql, ws: WorkspaceId): Promise<Catalog | null> {
  const [row] = await sql<
    { name: string; version: string; url: string | null; keys: string; functions: string; shapes: string }[]
  >`
    select w.name, w.version, w.url,
      (select coalesce(json_agg(k.secret order by k.created_at desc), '[]')::text
        from stepwell.workspace_keys k where k.ws = w.ws) as keys,
      (select coalesce(json_agg(json_build_object('id', f.id, 'triggers', f.triggers::json, 'options', f.options::json) order by f.id), '[]')::text
        from stepwell.functions f where f.ws = w.ws) as functions,
      (select coalesce(json_agg(json_build_array(s.event, s.paths::json) order by s.event, s.paths), '[]')::text
        from stepwell.match_shapes s where s.ws = w.ws) as shapes
    from stepwell.workspaces w
    where w.ws = ${ws}`
  if (row === undefined) return null
  const rows = JSON.parse(row.functions) as (Pick<FunctionDescription, 'id' | 'triggers'> & { options: object })[]
  const functions: FunctionDescription[] = rows.map(({ options, ...rest }) => ({ ...rest, ...options }))
  const shapes = new Map<string, string[][]>()
  for (const [event, paths] of JSON.parse(row.shapes) as [string, string[]][])
    shapes.set(event, [...(shapes.get(event) ?? []), paths])
  return {
    ws,
    name: row.name,
    version: row.version,
    url: row.url,
    keys: JSON.parse(row.keys) as string[],
    functions: new Map(functions.map(one => [one.id, one])),
    startedBy: startedBy(functions),
    shapes,
    cancelShapes: cancelShapes(functions),
  }
}

/** Replaces a workspace's url and functions, and lets runs that wait for the app try again at once. */
export async function saveApp(
  sql: Sql,
  ws: WorkspaceId,
  app: { url: string; functions: FunctionDescription[] },
): Promise<void> {
  await sql`
    select stepwell.save_app(
      ${ws}, ${app.url}, ${textArray(app.functions.map(f => f.id))},
      ${textArray(app.functions.map(f => JSON.stringify(f.triggers)))},
      ${textArray(app.functions.map(({ id: _, triggers: __, ...options }) => JSON.stringify(options)))})`
}

/** Makes a shape known: from the commit on, every accepted event of that name gets its key under it. */
export async function addShape(sql: Sql, ws: WorkspaceId, event: string, paths: string[]): Promise<void> {
  await sql`select stepwell.add_shape(${ws}, ${event}, ${JSON.stringify(paths)})`
}

/** Since when events have their key under the shape; null when nobody has looked back yet. Unix milliseconds. */
export async function shapeCompleteSince(
  sql: Sql,
  ws: WorkspaceId,
  event: string,
  paths: string[],
): Promise<number | null> {
  const [row] = await sql<{ ms: number | null }[]>`
    select (extract(epoch from complete_since) * 1000)::float8 as ms
    from stepwell.match_shapes where ws = ${ws} and event = ${event} and paths = ${JSON.stringify(paths)}`
  return row?.ms ?? null
}

/**
 * A page of the events of one name that were received from `sinceMs` on, in order. Instants travel as text: the driver makes
 * a Date of what is a timestamptz, and that has no microseconds.
 */
export async function readEventsSince(
  sql: Sql,
  page: {
    ws: WorkspaceId
    event: string
    sinceMs: number
    after: { receivedAt: string; id: string } | null
    limit: number
  },
): Promise<{ id: string; receivedAt: string; wireId: string; name: string; ts: string; data: string }[]> {
  return sql`
    select id, received_at::text as received_at, wire_id, name, ts, data
    from stepwell.events
    where ws = ${page.ws} and name = ${page.event}
      and received_at >= to_timestamp(${page.sinceMs}::float8 / 1000) - interval '1 millisecond'
      ${page.after === null ? sql`` : sql`and (received_at, id) > (${page.after.receivedAt}::text::timestamptz, ${page.after.id}::uuid)`}
    order by received_at, id
    limit ${page.limit}`
}

/** Adds keys of events that were accepted before their shape was known. */
export async function addEventKeys(
  sql: Sql,
  ws: WorkspaceId,
  keys: { hash: string; receivedAt: string; eventId: string }[],
): Promise<void> {
  await sql`
    insert into stepwell.event_keys (ws, hash, received_at, event_id)
    select ${ws}::int, hash, received_at, event_id
    from unnest(
      ${plainArray(keys.map(key => key.hash))}::uuid[],
      ${textArray(keys.map(key => key.receivedAt))}::timestamptz[],
      ${plainArray(keys.map(key => key.eventId))}::uuid[]) as k(hash, received_at, event_id)
    on conflict do nothing`
}

/** Records that events received from `sinceMs` on have their key under the shape. */
export async function setShapeCompleteSince(
  sql: Sql,
  shape: { ws: WorkspaceId; event: string; paths: string[]; sinceMs: number },
): Promise<void> {
  await sql`
    update stepwell.match_shapes
    set complete_since = least(complete_since, to_timestamp(${shape.sinceMs}::float8 / 1000))
    where ws = ${shape.ws} and event = ${shape.event} and paths = ${JSON.stringify(shape.paths)}`
}

/** All workspaces. */
export async function listWorkspaces(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`select ws from stepwell.workspaces order by ws`
  return rows.map(row => row.ws)
}
