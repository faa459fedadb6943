import { HEADERS, PROTOCOL_VERSION, signHeaders } from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'

export interface AppCall {
  catalog: Pick<Catalog, 'name' | 'keys'> & { url: string | null }
  kind: 'turn' | 'describe'
  /** JSON text */
  body: string
  /** Our monotonic clock at the app's last sign of life besides the response; the time-out counts from there. */
  lastSignAtMs: () => number
  timeoutMs: number
  /** The answer does not matter any more. */
  isOver: () => boolean
  /** For turns, `run epoch`: what tells them apart in an answer to several. */
  turn?: string
}

/** Of a signed request to an app. */
export function headersFor(catalog: AppCall['catalog'], id: string, body: string): Record<string, string> {
  return {
    'content-type': 'application/json',
    [HEADERS.version]: PROTOCOL_VERSION,
    [HEADERS.workspace]: catalog.name,
    ...signHeaders({ id, nowMs: Date.now(), payload: body, secrets: catalog.keys }),
  }
}
