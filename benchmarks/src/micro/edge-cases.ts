import { randomBytes } from 'node:crypto'
import { newMessageId, signHeaders, verify } from '@stepwell/protocol'
import { aReport, aStepOp } from './builders.ts'
import type { Case } from './measure.ts'
import type { HeldTurn, ReportRoute } from './report-route.ts'

/** So that a run's journal does not grow beyond what runs have. */
const STEPS_PER_RUN_MAX = 1_000
const SECRETS = [`whsec_${randomBytes(32).toString('base64')}`]

/** What every message pays: its signature, both sides of it; and a report's whole way, over HTTP and into the database. */
export function edgeCases(route: ReportRoute): Case[] {
  return [...[300, 30_000].map(signatureCase), ...[1, 100].map(count => roundTripCase(route, count))]
}

function signatureCase(sizeBytes: number): Case {
  const payload = 'x'.repeat(sizeBytes)
  return {
    name: `sign and verify, ${sizeBytes.toLocaleString('en')} bytes`,
    items: 1,
    run: () => {
      const nowMs = Date.now()
      const sent = signHeaders({ id: newMessageId(), nowMs, payload, secrets: SECRETS })
      const headers = {
        id: sent['webhook-id'],
        timestamp: sent['webhook-timestamp'],
        signature: sent['webhook-signature'],
      }
      if (!verify({ headers, payload, secrets: SECRETS, nowMs }).ok) throw new Error('The signature was refused.')
    },
  }
}

/** One POST at a time, with a report of one step for each of `count` turns that are under way. */
function roundTripCase(route: ReportRoute, count: number): Case {
  let turns: HeldTurn[] = []
  let n = 0
  return {
    name: `POST /v1/reports, ${count} report${count === 1 ? '' : 's'} of 1 step`,
    items: count,
    prepare: async () => {
      n += 1
      if (turns.length > 0 && n <= STEPS_PER_RUN_MAX) return
      for (const turn of turns) turn.end()
      turns = await route.hold(count)
      n = 1
    },
    run: () =>
      route.post(turns.map(({ run, epoch, turn }) => aReport({ run, epoch, turn, n, ops: [aStepOp(`step-${n}`)] }))),
  }
}
