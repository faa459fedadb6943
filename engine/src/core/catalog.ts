import type { FunctionDescription } from '@stepwell/protocol'
import type { WorkspaceId } from './ids.ts'
import { pathsOf } from './watches.ts'

/** Everything about a workspace that the hot paths need, as of one version. Immutable; replaced whole. */
export interface Catalog {
  ws: WorkspaceId
  /** `app/environment`. */
  name: string
  version: string
  /** Where the app's endpoint is; null until an app has registered. */
  url: string | null
  /** Newest first: the first signs, all verify. */
  keys: string[]
  functions: Map<string, FunctionDescription>
  /** Event name -> ids of the functions that it starts. */
  startedBy: Map<string, string[]>
  /** Event name -> sets of paths by which waits match it. */
  shapes: Map<string, string[][]>
  /** Event name -> sets of paths by which it cancels runs. */
  cancelShapes: Map<string, string[][]>
}

/** Event name -> the functions that it starts; each once, however many of its triggers name the event. */
export function startedBy(functions: readonly FunctionDescription[]): Catalog['startedBy'] {
  const byEvent = new Map<string, string[]>()
  for (const { id, triggers } of functions) {
    for (const event of new Set(triggers.map(trigger => trigger.event))) {
      const ids = byEvent.get(event)
      if (ids === undefined) byEvent.set(event, [id])
      else ids.push(id)
    }
  }
  return byEvent
}

/** Event name -> the sets of paths of all rules by which it cancels runs, each once. */
export function cancelShapes(functions: readonly FunctionDescription[]): Catalog['cancelShapes'] {
  const byEvent = new Map<string, Map<string, string[]>>()
  for (const { cancelOn = [] } of functions) {
    for (const rule of cancelOn) {
      const paths = pathsOf(rule)
      const shapes = byEvent.get(rule.event) ?? new Map<string, string[]>()
      byEvent.set(rule.event, shapes.set(JSON.stringify(paths), paths))
    }
  }
  return new Map([...byEvent].map(([event, shapes]) => [event, [...shapes.values()]]))
}

/** The version that new runs of a function get. */
export function newestVersion(catalog: Catalog, functionId: string): number {
  return catalog.functions.get(functionId)?.version ?? 1
}
