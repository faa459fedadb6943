/** Checks the body of a turn before anything acts on it. */
import type { Turn } from '@stepwell/protocol'
import { findBadEntry, isRecord } from './read-entries.ts'

/** What is wrong with a body, and where. */
export interface BodyProblem {
  path: string
  message: string
}

/** Why a body is no turn, or null when it is one. Never throws. */
export function findTurnProblem(body: Record<string, unknown>): BodyProblem | null {
  for (const name of ['workspace', 'function', 'epoch', 'reportUrl']) {
    if (typeof body[name] !== 'string' || body[name] === '') return { path: name, message: 'must be a text' }
  }
  const { run, turn, budgetMs, reportUrl, journal } = body
  if (!isRecord(run) || typeof run.id !== 'string' || run.id === '')
    return { path: 'run.id', message: 'must be a text' }
  if (!isCount(run.generation)) return { path: 'run.generation', message: 'must be a whole number from 1' }
  if (!isCount(turn)) return { path: 'turn', message: 'must be a whole number from 1' }
  if (typeof budgetMs !== 'number' || !(budgetMs >= 0)) return { path: 'budgetMs', message: 'must be a number from 0' }
  if (!isHttpUrl(reportUrl)) return { path: 'reportUrl', message: 'must be an http or https URL' }
  return findBadEntry(journal, 'journal') ?? findGap((body as unknown as Turn).journal)
}

/** Entries are dense from 1, and the first one says how the run started. */
function findGap(journal: Turn['journal']): BodyProblem | null {
  if (journal[0]?.type !== 'run_started') return { path: 'journal[0]', message: 'must be run_started' }
  const at = journal.findIndex((entry, index) => entry.seq !== index + 1 || (index > 0 && entry.type === 'run_started'))
  return at === -1 ? null : { path: `journal[${at}]`, message: `must be the entry with seq ${at + 1}` }
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1
}

function isHttpUrl(value: unknown): boolean {
  return typeof value === 'string' && /^https?:\/\//.test(value) && URL.canParse(value)
}
