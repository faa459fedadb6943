/** How a handler ended. */
export type HandlerEnd =
  | { value: unknown }
  /** `undoFailures`: the steps that could not be undone, and why. */
  | { error: unknown; undoFailures: UndoFailure[] }
  | { cancelled: true }
  /** JSON text, undefined for nothing; and the keys of messages that nobody has had by the time they are asked for. */
  | { continueWith: string | undefined; unread: () => string[] }

/** An undo that failed for good. */
export interface UndoFailure {
  key: string
  error: unknown
}
