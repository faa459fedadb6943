import type { Trigger } from '@stepwell/protocol'
import type { WorkspaceId } from './ids.ts'

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
  functions: { id: string; triggers: Trigger[] }[]
  /** Event name -> ids of the functions that it starts. */
  startedBy: Map<string, string[]>
  /** Event name -> sets of paths by which waits match it. */
  shapes: Map<string, string[][]>
}

/** Event name -> the functions that it starts; each once, however many of its triggers name the event. */
export function startedBy(functions: Catalog['functions']): Catalog['startedBy'] {
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
