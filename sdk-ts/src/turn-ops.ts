/** The ops that end a turn or wait, as a turn writes them. */
import type { WireError } from '@stepwell/protocol'
import type { Ask } from './ask.ts'
import { toReturnText } from './json.ts'
import { askOpText, cancelledOpText, continueOpText, failOpText, finishOpText } from './op-text.ts'
import type { WrittenOp } from './outbox.ts'
import { type Encoder, RESULT } from './payloads.ts'
import type { HandlerEnd, UndoFailure } from './turn-handler.ts'
import { toWireError } from './wire-error.ts'

/** The op of a handler that has ended. */
export function endOpText(end: HandlerEnd, functionId: string, encoder: Encoder | null): string {
  if ('cancelled' in end) return cancelledOpText()
  if ('continueWith' in end) return continueOpText(end.continueWith)
  if ('error' in end) return failOpText(withUndoFailures(toWireError(end.error), end.undoFailures))
  try {
    const encode = encoder === null ? undefined : (text: string) => encoder.encodeText(text, RESULT)
    return finishOpText(toReturnText(end.value, `The return value of function "${functionId}"`, encode))
  } catch (refusal) {
    return failOpText(toWireError(refusal))
  }
}

/** Whoever reads why a run failed also reads what could not be taken back. */
function withUndoFailures(error: WireError, failures: UndoFailure[]): WireError {
  if (failures.length === 0) return error
  const told = failures.map(({ key, error: why }) => `"${key}" (${toWireError(why).message})`).join(', ')
  return { ...error, message: `${error.message} [could not be undone: ${told}]` }
}

/** The op of a sleep, a wait or a send. A sleep does not get longer while its op waits to be sent. */
export function askOp(key: string, ask: Ask): WrittenOp {
  const write = () => askOpText(key, ask)
  const { kind } = ask.wanted
  const isDetached = ask.wanted.kind === 'invoke' && ask.wanted.isDetached
  return { text: write(), settlesAtOnce: kind === 'send' || isDetached, ...(kind === 'sleep' && { rewrite: write }) }
}
