/*
 * The only place that calls apps. One signed POST; whatever comes back, or does not, becomes a value: an app that fails is
 * an outcome that we expect, and never an exception.
 */
import { HEADERS, LIMITS, newMessageId } from '@stepwell/protocol'
import { type AppCall, headersFor } from './app-call.ts'
import { Exchanger } from './exchange.ts'
import { type AppOutcome, explainOutcome, refusal } from './read-answer.ts'
import { TurnBatches } from './turn-batches.ts'

export type CallApp = <Kind extends AppCall['kind']>(
  call: AppCall & { kind: Kind },
) => Promise<Exclude<AppOutcome, { kind: Kind extends 'turn' ? 'description' : 'report' }>>

/** For describes: they wait for no turn. */
const DESCRIBES_AT_ONCE = 4
/** A caller with its own connections, one for each turn at once, so that none waits for another; `close` waits for none. */
export function createCallApp(options: { turnsAtOnce: number }): { callApp: CallApp; close: () => Promise<void> } {
  const turns = new Exchanger(options.turnsAtOnce)
  const describes = new Exchanger(DESCRIBES_AT_ONCE)
  const batches = new TurnBatches(turns, call =>
    sendAlone(turns, call, accepts => batches.note(call.catalog.url ?? '', accepts)),
  )
  // The kind of the answer follows from the kind of the call: it is parsed by it.
  return {
    callApp: (call => (call.kind === 'turn' ? batches.send(call) : sendAlone(describes, call, () => {}))) as CallApp,
    close: async () => {
      await Promise.all([turns.close(), describes.close()])
    },
  }
}

async function sendAlone(
  exchanger: Exchanger,
  call: AppCall,
  noteAccepts: (acceptsBatches: boolean) => void,
): Promise<AppOutcome> {
  const url = call.catalog.url ?? ''
  if (!URL.canParse(url))
    return { ...refusal('app_unreachable', `App at ${url} cannot be reached (Invalid URL).`), firstByteAtMs: null }
  const id = newMessageId()
  const outcome = await exchanger.send({
    url: new URL(url),
    body: call.body,
    bodyBytesMax: LIMITS.bodyBytes,
    headers: headersFor(call.catalog, id, call.body),
    reasonToAbort() {
      if (call.isOver()) return 'over'
      return performance.now() - call.lastSignAtMs() > call.timeoutMs ? 'timeout' : null
    },
  })
  if (outcome.kind === 'answer' && outcome.status === 200) noteAccepts(outcome.headers[HEADERS.accepts] === 'turns')
  return { ...explainOutcome(call, id, outcome), firstByteAtMs: outcome.firstByteAtMs }
}
