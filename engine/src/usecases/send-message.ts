/*
 * Messages to runs. Those that arrive while a commit is under way share the next one; each is answered after the commit
 * that holds it: by then a wait of the run has it, or it lies in the run's buffer.
 */
import { encodeId, LIMITS, type SignalAnswer } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { messageUuid, signalHash } from '../core/match.ts'
import { isDatabaseAway, type Sql } from '../store/db.ts'
import { type Delivery, deliverMessages, type Message } from '../store/messages.ts'
import { createBuffers, createGroupCommit } from './group-commit.ts'

export interface SendMessageDeps {
  sql: Sql
  newUuid: () => string
  /** The database's clock, Unix milliseconds. */
  nowMs: () => number
  /** Runs of the workspace may have become runnable. */
  wake: (ws: WorkspaceId) => void
}

export interface NewMessage {
  /** What waits for it asks for this name. */
  name: string
  data?: unknown
  /** The sender's own id. */
  id?: string
}

export type SendMessage = (ws: WorkspaceId, runId: RunId, message: NewMessage) => Promise<SignalAnswer>

const BATCH_MAX = 500
const BATCH_BYTES_MAX = 4 * 1024 * 1024

/** `(ws, run, message) -> id`, resolved after the commit. The message is valid by the schema of the edge. */
export function createSendMessage(deps: SendMessageDeps): SendMessage {
  const bufferOf = createBuffers((ws: WorkspaceId) =>
    createGroupCommit<Message, Delivery>({
      maxItems: BATCH_MAX,
      maxWeight: BATCH_BYTES_MAX,
      weigh: message => message.data.length,
      flush: messages => deliverMessages(deps.sql, ws, messages, LIMITS.signalsPerRun),
      isHopeless: isDatabaseAway,
    }),
  )

  return async function sendMessage(ws, runId, { name, data = {}, id: ownId }) {
    const id = ownId ?? encodeId('sig', deps.newUuid())
    const ts = new Date(deps.nowMs()).toISOString()
    const delivery = await bufferOf(ws).add({
      runId,
      hash: signalHash(name),
      id: messageUuid(id),
      data: JSON.stringify({ id, name, data, ts }),
    })
    if (delivery !== 'ok') throw refusal(delivery, encodeId('run', runId))
    deps.wake(ws)
    return { id }
  }
}

function refusal(delivery: Exclude<Delivery, 'ok'>, run: string): EngineError {
  if (delivery === 'ended') {
    const message = `Run ${run} has ended: nobody will receive the signal. Look at the run.`
    return new EngineError('run_ended', 409, message)
  }
  const message = `Run ${run} has ${LIMITS.signalsPerRun} signals that it has not received. Let it receive some, or send fewer.`
  return new EngineError('too_many_signals', 429, message)
}
