/** Requests to an endpoint, as an engine signs them. */
import { newMessageId, signHeaders } from '@stepwell/protocol'
import { KEY, WORKSPACE } from './engine-double.ts'

export const OTHER_KEY = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
export const DESCRIBE = JSON.stringify({ kind: 'describe', workspace: WORKSPACE })
export const AT = '2026-01-01T00:00:00.000Z'

export function aTurn(change: object = {}): object {
  return {
    kind: 'turn',
    workspace: WORKSPACE,
    function: 'fn',
    run: { id: 'run_1', generation: 1 },
    turn: 1,
    epoch: 'e1',
    budgetMs: 1_000,
    reportUrl: 'http://127.0.0.1:9/reports',
    journal: [{ seq: 1, turn: 1, at: AT, type: 'run_started', data: { id: 'e', name: 'n', data: {}, ts: AT } }],
    ...change,
  }
}

export function aRequest(
  body: string | Uint8Array,
  options: { key?: string; headers?: Record<string, string>; method?: string } = {},
) {
  const signed = signHeaders({ id: newMessageId(), nowMs: Date.now(), payload: body, secrets: [options.key ?? KEY] })
  const headers = { 'stepwell-version': '1', 'stepwell-workspace': WORKSPACE, ...signed, ...options.headers }
  return new Request('http://app/api/stepwell', { method: options.method ?? 'POST', headers, body })
}

export async function problemOf(response: Response): Promise<Record<string, unknown>> {
  return { status: response.status, ...((await response.json()) as object) }
}
