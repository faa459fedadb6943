import type { JournalEntryView } from '@stepwell/sdk'
import type { Tone } from './narrator.ts'

export interface Sentence {
  text: string
  tone: Tone
}

const WORD_CHARS = 8
const STEP_CHARS = 18
const RESULT_CHARS = 70

/** One entry of a journal for people; null for those that tell nothing new. */
export function describeEntry(entry: JournalEntryView): Sentence | null {
  switch (entry.type) {
    case 'run_started':
    case 'step_due':
      return null
    case 'step_completed':
      return { text: line('done', entry.key, `${took(entry)}  ${shorten(entry.data)}`), tone: 'plain' }
    case 'step_retrying': {
      const { error, attempt, dueAt } = entry.data
      const seconds = Math.max(0, (Date.parse(dueAt) - Date.parse(entry.at)) / 1000).toFixed(1)
      const text = `${took(entry)}  attempt ${attempt}: ${error.message} Again in ${seconds} s.`
      return { text: line('failed', entry.key, text), tone: 'busy' }
    }
    case 'step_failed':
      return { text: line('failed', entry.key, `${took(entry)}  ${entry.data.error.message} For good.`), tone: 'bad' }
    case 'sleep_started':
      return { text: line('sleeps', entry.key, `until ${clock(entry.data.until)}`), tone: 'quiet' }
    case 'sleep_completed':
      return { text: line('wakes', entry.key, `at ${clock(entry.at)}`), tone: 'plain' }
    case 'wait_opened': {
      const { event, expiresAt } = entry.data
      const end = expiresAt === undefined ? '' : ` until ${clock(expiresAt)}`
      return { text: line('waits', entry.key, `for ${event}${end}`), tone: 'quiet' }
    }
    case 'wait_matched':
      return { text: line('gets', entry.key, entry.data.name), tone: 'plain' }
    case 'wait_expired':
      return { text: line('gives up', entry.key, 'nothing came in time'), tone: 'busy' }
    case 'published':
      return { text: line('tells', '', `on ${entry.data.channel}`), tone: 'quiet' }
    case 'signal_awaited':
      return { text: line('waits', entry.key, `for the signal "${entry.data.signal}"`), tone: 'quiet' }
    case 'signal_received':
      return { text: line('gets', entry.key, `the signal "${entry.data.name}"`), tone: 'plain' }
    case 'signal_expired':
      return { text: line('gives up', entry.key, 'no signal came in time'), tone: 'busy' }
    case 'child_started':
      return { text: line('starts', entry.key, `${entry.data.function}, and waits`), tone: 'quiet' }
    case 'child_detached':
      return { text: line('starts', entry.key, entry.data.function), tone: 'plain' }
    case 'child_completed':
      return { text: line('gets', entry.key, shorten(entry.data)), tone: 'plain' }
    case 'child_failed':
      return { text: line('failed', entry.key, entry.data.error.message), tone: 'bad' }
    case 'child_expired':
      return { text: line('gives up', entry.key, 'the child did not end in time'), tone: 'busy' }
    case 'cancel_requested':
      return { text: line('ends', '', entry.data.message), tone: 'busy' }
    case 'events_sent':
      return { text: line('sends', entry.key, `${entry.data.ids.length} events`), tone: 'plain' }
  }
}

function line(word: string, step: string, rest: string): string {
  return `${word.padEnd(WORD_CHARS)} ${step.padEnd(STEP_CHARS)} ${rest}`
}

function took({ durationMs }: JournalEntryView): string {
  return `${(durationMs ?? 0).toFixed(1)} ms`.padStart(8)
}

function clock(instant: string): string {
  return new Date(instant).toTimeString().slice(0, 8)
}

/** Results of the checks carry their own sentence. */
function shorten(data: unknown): string {
  const hasText = typeof data === 'object' && data !== null && 'text' in data && typeof data.text === 'string'
  const text = hasText ? String(data.text) : (JSON.stringify(data) ?? '')
  return text.length <= RESULT_CHARS ? text : `${text.slice(0, RESULT_CHARS - 1)}…`
}
