/** What the demo reads of a dev engine: unsigned requests from this machine are let in. */
import type { JournalEntryView, RunView } from '@stepwell/sdk'

const TIMEOUT_MS = 2_000
const PAGE = 200

/** The newest runs, as they are now. */
export async function listRuns(engineUrl: string): Promise<RunView[]> {
  const { runs } = await get<{ runs: RunView[] }>(`${engineUrl}/v1/runs?limit=${PAGE}`)
  return runs
}

export function readRun(engineUrl: string, runId: string): Promise<RunView> {
  return get(`${engineUrl}/v1/runs/${runId}`)
}

/** What reached a run after an entry; 0 for all of it. */
export async function readJournal(engineUrl: string, runId: string, after: number): Promise<JournalEntryView[]> {
  const url = `${engineUrl}/v1/runs/${runId}/journal?limit=${PAGE}&after=${after}`
  const { entries } = await get<{ entries: JournalEntryView[] }>(url)
  return entries
}

export function isFinal({ state }: RunView): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled'
}

async function get<Answer>(url: string): Promise<Answer> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`)
  // The routes are documented by the types that are asked for.
  return (await answer.json()) as Answer
}
