/** The ops that end a turn or wait, as a turn writes them. */
import type { Ask } from './ask.ts'
import type { HandlerEnd } from './handler-end.ts'
import { toReturnText } from './json.ts'
import { cancelledOpText, continueOpText, failOpText, finishOpText } from './op-text.ts'
import type { WrittenOp } from './outbox.ts'
import { type Encoder, RESULT } from './payloads.ts'
import type { Slot } from './slot.ts'
import { toWireError, withUndoFailures } from './wire-error.ts'

/** The op of a handler that has ended. */
export function endOpText(end: HandlerEnd, functionId: string, encoder: Encoder | null): string {
  if ('cancelled' in end) return cancelledOpText()
  if ('continueWith' in end) return continueOpText(end.continueWith, end.unread())
  if ('error' in end) return failOpText(withUndoFailures(toWireError(end.error), end.undoFailures))
  try {
    const encode = encoder === null ? undefined : (text: string) => encoder.encodeText(text, RESULT)
    return finishOpText(toReturnText(end.value, `The return value of function "${functionId}"`, encode))
  } catch (refusal) {
    return failOpText(toWireError(refusal))
  }
}

/** Whether every branch of a handler waits for something open, once these ops are recorded. */
export function mayWaitWith(ops: readonly WrittenOp[], pending: Iterable<Slot>): boolean {
  const unrecorded = [...pending].filter(slot => !slot.isOpen)
  return (
    unrecorded.length === ops.length &&
    ops.every(op => !op.settlesAtOnce) &&
    unrecorded.every(slot => slot.ask !== null && WAITING_KINDS.has(slot.ask.wanted.kind))
  )
}

/** What a handler can be left waiting for as soon as it is recorded. */
const WAITING_KINDS: ReadonlySet<Ask['wanted']['kind']> = new Set(['sleep', 'wait', 'receive', 'invoke'])

/** A forgotten `await`: the handler has returned, so that these bodies never run. */
export function warnOfUnstarted(functionId: string, slots: readonly Slot[]): void {
  const keys = slots.flatMap(slot => (slot.ask?.wanted.kind === 'step' ? [JSON.stringify(slot.key)] : []))
  if (keys.length === 0) return
  console.warn(
    `[stepwell] Function "${functionId}" returned without waiting for what it had asked for; its body did not run: ` +
      `${keys.join(', ')}. Await the step.`,
  )
}
