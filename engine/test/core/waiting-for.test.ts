import { expect, test } from 'vitest'
import { type OpenWait, waitingFor } from '../../src/core/waiting-for.ts'

const AT = '2026-03-03T12:00:00.000Z'

function aWait(given: Partial<OpenWait>): OpenWait {
  return { kind: 'sleep', key: 'nap', dueAt: AT, event: null, ...given }
}

test.each<[string, OpenWait, string]>([
  ['a sleep', aWait({}), `Sleeping in "nap" until ${AT}.`],
  [
    'an event',
    aWait({ kind: 'event', key: 'ok', event: 'approved', dueAt: null }),
    'Waiting in "ok" for the event "approved".',
  ],
  [
    'an event with a time-out',
    aWait({ kind: 'event', key: 'ok', event: 'approved' }),
    `Waiting in "ok" for the event "approved" until ${AT}.`,
  ],
  [
    'a back-off',
    aWait({ kind: 'retry', key: 'charge', event: 'Error: no (attempt 1 of 4)' }),
    `Step "charge" failed: Error: no (attempt 1 of 4); its next attempt is due at ${AT}.`,
  ],
])('%s is one sentence', (_name, wait, sentence) => {
  expect(waitingFor([wait], null)).toBe(sentence)
})

test('nothing is nothing', () => {
  expect(waitingFor([], null)).toBeNull()
})

test('many waits are named up to three and counted beyond', () => {
  const waits = Array.from({ length: 7 }, (_, n) => aWait({ key: `nap${n}` }))

  expect(waitingFor(waits, null)).toContain('And 4 more.')
})

test('an app that does not answer comes first, with how often and until when', () => {
  const trouble = {
    code: 'app_unreachable' as const,
    message: 'App at http://x cannot be reached (ECONNREFUSED).',
    attempts: 2,
    since: AT,
  }

  const words = waitingFor([aWait({ kind: 'resend', key: '' }), aWait({})], trouble)

  expect(words).toBe(
    `App at http://x cannot be reached (ECONNREFUSED). Tried 2 times since ${AT}. Next try at ${AT}. Sleeping in "nap" until ${AT}.`,
  )
})
