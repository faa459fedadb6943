import type { Json } from './json.ts'
import type { RunView } from './run.ts'

/** What a sender posts: `POST /v1/events` takes one, an array, or `{ "events": [...] }`. */
export interface NewEvent {
  /** 1 to 256 characters, no control characters. Example: `user.created`. */
  name: string
  /** The payload; `{}` when absent. At most `LIMITS.eventBytes` of JSON text. */
  data?: Json
  /** The sender's own id. A second event with the same id within 24 hours is the same event: it starts nothing again. */
  id?: string
  /** When it happened at the sender, ISO 8601. The time of receipt when absent. */
  ts?: string
}

/** An immutable received fact, as handlers and journals see it. */
export interface Event {
  /** The sender's id, or `evt_` and 26 characters when it gave none. */
  id: string
  name: string
  data: Json
  /** ISO 8601 with milliseconds, UTC. */
  ts: string
}

/** The body of the `202` that answers `POST /v1/events`, sent after the commit. In the order of the request. */
export interface SendEventsAnswer {
  /** `ended`, for a request that waits: the runs as they were when they had ended, or when the time was up. */
  events: { id: string; runs: string[]; ended?: RunView[] }[]
}
