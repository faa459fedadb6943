/** A turn of an endpoint with middleware: what comes in is decoded before anything looks at it, and `turn` stands around it. */
import type { Entry, Json, Turn } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import type { Hooks, TurnInfo } from './middleware.ts'
import { Outbox } from './outbox.ts'
import { type Payloads, STATUS, TurnPayloads } from './payloads.ts'
import type { ReportAnswer } from './reporter.ts'
import { executeTurn } from './turn.ts'
import type { TurnEnd, TurnInput } from './turn-input.ts'
import { toWireError } from './wire-error.ts'

/** As `executeTurn`, through middleware. */
export async function executeThrough(hooks: Hooks, input: TurnInput): Promise<TurnEnd> {
  const { turn } = input
  const infoOfTurn: TurnInfo = {
    function: turn.function,
    run: turn.run,
    turn: turn.turn,
    isReplay: turn.journal.length > 1,
  }
  if (hooks.turn === null) return executeDecoded(hooks, input)
  let executing: Promise<TurnEnd> | null = null
  try {
    await hooks.turn(infoOfTurn, async () => {
      executing = executeDecoded(hooks, input)
      await executing
    })
  } catch (error) {
    if (executing === null) return refused(turn, error)
    console.error(`[stepwell] A middleware failed after a turn of run ${turn.run.id}; what the turn did counts.`, error)
  }
  return executing ?? refused(turn, new StepwellError('middleware_failed', 'The turn was not executed.'))
}

async function executeDecoded({ step, payloads }: Hooks, input: TurnInput): Promise<TurnEnd> {
  if (payloads === null) return executeTurn({ ...input, wrapBody: step })
  let turn: Turn
  try {
    turn = decodeTurn(payloads, input.turn)
  } catch (error) {
    return refused(input.turn, error)
  }
  const deliver = async (text: string) => decodeAnswer(payloads, await input.deliver(text))
  const ofTurn = new TurnPayloads(payloads, input.turn.status)
  return executeTurn({ ...input, turn, deliver, wrapBody: step, payloads: ofTurn })
}

function decodeTurn(payloads: Payloads, turn: Turn): Turn {
  const journal = turn.journal.map(entry => payloads.decodeEntry(entry))
  // Null is no status, and nothing that was encoded.
  const { status = null }: { status?: Json } = turn
  return status === null ? { ...turn, journal } : { ...turn, journal, status: payloads.decode(status, STATUS) }
}

/** What cannot be read ends the reports of this turn; the next one is refused, and says why. */
function decodeAnswer(payloads: Payloads, answer: ReportAnswer): ReportAnswer {
  if (answer.kind !== 'acknowledged') return answer
  try {
    const entries: Entry[] = answer.entries.map(entry => payloads.decodeEntry(entry))
    return { ...answer, entries }
  } catch (error) {
    return { kind: 'undelivered', message: error instanceof Error ? error.message : String(error) }
  }
}

function refused(turn: Turn, error: unknown): TurnEnd {
  return { kind: 'report', text: new Outbox(turn).write('refused', [], toWireError(error)) }
}
