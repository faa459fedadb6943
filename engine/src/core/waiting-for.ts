import type { Trouble } from './happening.ts'

/** One open wait of a run, as the store reads it. */
export interface OpenWait {
  kind: 'sleep' | 'event' | 'retry' | 'resend' | 'signal' | 'child' | 'cancel' | 'deadline'
  key: string
  /** ISO 8601. */
  dueAt: string | null
  /** The name of an event or a signal, which child, or what has failed. */
  event: string | null
}

/** How many open waits are named before the rest is counted. */
const NAMED_MAX = 3

/** What a run waits for, in words; null when it waits for nothing. */
export function waitingFor(waits: OpenWait[], trouble: Trouble | null): string | null {
  const named = waits.filter(isAwaited)
  const sentences = named.slice(0, NAMED_MAX).map(sentenceOf)
  if (named.length > NAMED_MAX) sentences.push(`And ${named.length - NAMED_MAX} more.`)
  const resend = waits.find(wait => wait.kind === 'resend')
  if (trouble !== null) {
    const next = resend === undefined ? 'Trying again now.' : `Next try at ${resend.dueAt}.`
    const tries = trouble.attempts === 1 ? 'Tried once' : `Tried ${trouble.attempts} times`
    sentences.unshift(`${trouble.message} ${tries} since ${trouble.since}. ${next}`)
  }
  return sentences.length === 0 ? null : sentences.join(' ')
}

/** What would end the run, or send its turn again, is not what it waits for. */
function isAwaited({ kind }: OpenWait): boolean {
  return kind !== 'resend' && kind !== 'cancel' && kind !== 'deadline'
}

function sentenceOf(wait: OpenWait): string {
  const until = wait.dueAt === null ? '' : ` until ${wait.dueAt}`
  switch (wait.kind) {
    case 'sleep':
      return `Sleeping in "${wait.key}" until ${wait.dueAt}.`
    case 'event':
      return `Waiting in "${wait.key}" for the event "${wait.event}"${until}.`
    case 'signal':
      return `Waiting in "${wait.key}" for the signal "${wait.event}"${until}.`
    case 'child':
      return `Waiting in "${wait.key}" for the child ${wait.event}${until}.`
    default:
      return `Step "${wait.key}" failed${wait.event === null ? '' : `: ${wait.event}`}; its next attempt is due at ${wait.dueAt}.`
  }
}
