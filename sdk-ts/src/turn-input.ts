/** What a turn is executed with, and how it ends. */
import type { Turn } from '@stepwell/protocol'
import type { DurableFunction } from './function.ts'
import type { Hooks } from './middleware.ts'
import type { Patience } from './patience.ts'
import type { TurnPayloads } from './payloads.ts'
import type { ReportAnswer } from './reporter.ts'
import type { Scopes } from './scopes.ts'
import type { BodyPlaces } from './step-body.ts'

/** What a turn is executed with. */
export interface TurnInput {
  turn: Turn
  definition: DurableFunction
  /** Delivers the text of a report while the turn runs. Never rejects. */
  deliver: (text: string) => Promise<ReportAnswer>
  places: BodyPlaces
  scopes: Scopes
  patience: Patience
  /** With middleware: around bodies, and for what leaves the app. What came in is decoded by now. */
  wrapBody?: Hooks['step']
  payloads?: TurnPayloads | null
}

/** How a turn ended: with its last report, or with nothing to say because another process has the run. */
export type TurnEnd = { kind: 'report'; text: string } | { kind: 'stale'; message: string }
