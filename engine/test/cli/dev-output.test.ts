import { Writable } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'
import type { SyncAnswer } from '@stepwell/protocol'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { createDevOutput, type DevOutput, type SettledTurn } from '../../src/cli/dev-output.ts'
import { createTerminal } from '../../src/cli/terminal.ts'

let text: string
let output: DevOutput

function terminalFor(env: Record<string, string>, isTTY: boolean) {
  text = ''
  const stdout = Object.assign(
    new Writable({
      write(chunk, _encoding, done) {
        text += String(chunk)
        done()
      },
    }),
    { isTTY },
  )
  return createTerminal({ env, stdout, stderr: stdout })
}

const lines = () => text.split('\n').filter(line => line !== '')

beforeEach(() => {
  vi.useFakeTimers()
  output = createDevOutput(terminalFor({}, false))
  return () => vi.useRealTimers()
})

const done = (given: Partial<SettledTurn> = {}): SettledTurn => ({
  function: 'hello',
  runId: 'run_1',
  ms: 143.4,
  settle: { kind: 'settle', step: 'done', state: 'completed', output: null, error: null },
  ...given,
})

const failed = (message: string, code?: string): SettledTurn =>
  done({
    settle: {
      kind: 'settle',
      step: 'done',
      state: 'failed',
      output: null,
      error: JSON.stringify({ name: 'TypeError', message, code }),
    },
  })

const inTrouble = (code: 'app_unreachable' | 'app_status' | 'turn_refused', name = 'hello', more = ''): SettledTurn =>
  done({
    function: name,
    settle: {
      kind: 'settle',
      step: 'trouble',
      trouble: { code, message: `App says ${code}.${more}`, attempts: 1, since: '2026-01-31T12:00:00.000Z' },
      resendMs: 1,
    },
  })

const answer = (functions: SyncAnswer['functions'], removed: string[] = []): SyncAnswer => ({
  workspace: 'default/dev',
  url: 'http://localhost:3000/api',
  functions,
  removed,
})

describe('a run that ends', () => {
  test('is one line: function, run, state and time', () => {
    output.settled(done())
    output.settled(failed('x is not a function'))
    vi.runAllTimers()

    expect(lines()).toEqual([
      '✓ hello run_1 completed 143 ms',
      '✗ hello run_1 failed after 143 ms: TypeError: x is not a function',
    ])
  })

  test('has its time in seconds when it took some', () => {
    output.settled(done({ ms: 33_149 }))
    output.settled({ ...failed('fetch failed'), ms: 6_512 })
    vi.runAllTimers()

    expect(lines()).toEqual([
      '✓ hello run_1 completed 33.1 s',
      '✗ hello run_1 failed after 6.5 s: TypeError: fetch failed',
    ])
  })

  test('is shown with the whole of a sentence of ours, and the beginning of another', () => {
    const long = `${'x'.repeat(300)} what to do`
    output.settled(failed(long, 'step_output_too_large'))
    output.settled(failed(long, 'ECONNREFUSED'))
    vi.runAllTimers()

    expect(lines()[0]).toMatch(/ what to do$/)
    expect(lines()[1]).toMatch(/x…$/)
  })

  test('cannot steer the terminal with its error, or fill it', () => {
    output.settled(failed(`\u001b[2J\u001b]0;title\u0007line one\nline two ${'x'.repeat(1_000)}`))
    vi.runAllTimers()

    expect(lines()).toHaveLength(1)
    expect(text.trimEnd()).not.toMatch(/\p{Cc}/u)
    expect(lines()[0]?.length).toBeLessThan(250)
  })

  test('is counted when a thousand end at once', () => {
    for (let count = 0; count < 1_000; count += 1) output.settled(done())
    output.settled(failed('no'))
    vi.runAllTimers()

    expect(lines()).toHaveLength(11)
    expect(lines()[10]).toBe('… and 991 more runs ended, 1 of them failed')
  })

  test('is told later while a burst goes on', () => {
    for (let count = 0; count < 100; count += 1) output.settled(done())
    vi.advanceTimersByTime(60)
    const first = lines().length
    output.settled(done())
    vi.advanceTimersByTime(60)

    expect(first).toBe(11)
    expect(lines()).toHaveLength(11)
    vi.advanceTimersByTime(1_000)
    expect(lines()).toHaveLength(12)
  })

  test('is not told when only its turn has ended', () => {
    output.settled(done({ settle: { kind: 'settle', step: 'waiting' } }))
    vi.runAllTimers()

    expect(text).toBe('')
  })
})

describe('an app that does not answer', () => {
  test('is told once, and once when it answers again', () => {
    output.settled(inTrouble('app_unreachable', 'hello'))
    output.settled(inTrouble('app_unreachable', 'other'))
    output.settled(inTrouble('app_unreachable', 'hello'))
    output.settled(done())
    output.settled(done())
    vi.runAllTimers()

    expect(lines()).toEqual([
      '… hello waits: App says app_unreachable. Runs go on by themselves when that is over.',
      '✓ the app answers again',
      '✓ hello run_1 completed 143 ms',
      '✓ hello run_1 completed 143 ms',
    ])
  })

  test('is told to the end, where it says what to do', () => {
    output.settled(inTrouble('app_status', 'hello', ` ${'x'.repeat(300)} Check the URL.`))

    expect(lines()[0]).toContain('Check the URL. Runs go on')
  })

  test('is told again for another reason', () => {
    output.settled(inTrouble('app_unreachable'))
    output.settled(inTrouble('app_status'))

    expect(lines()).toHaveLength(2)
  })

  test('is not meant when it refuses turns of one function', () => {
    output.settled(inTrouble('turn_refused', 'hello'))
    output.settled(done({ function: 'other' }))
    output.settled(done())
    vi.runAllTimers()

    expect(lines()).toEqual([
      '… hello waits: App says turn_refused.',
      '✓ other run_1 completed 143 ms',
      '✓ hello goes on',
      '✓ hello run_1 completed 143 ms',
    ])
  })
})

describe('an app that registers', () => {
  const hello: SyncAnswer['functions'][number] = {
    id: 'hello',
    triggers: [{ event: 'app/hello' }],
    change: 'added',
  }

  test('is shown with its functions, once', () => {
    output.synced(answer([hello, { ...hello, id: 'late', triggers: [] }]))
    output.synced(
      answer([
        { ...hello, change: 'unchanged' },
        { ...hello, id: 'late', triggers: [], change: 'unchanged' },
      ]),
    )

    expect(lines()).toEqual([
      '✓ app found at http://localhost:3000/api: 2 functions: hello (app/hello), late (no trigger)',
    ])
  })

  test('is shown with its changes after that', () => {
    output.synced(answer([hello, { ...hello, id: 'old' }]))
    output.synced(
      answer(
        [
          { ...hello, change: 'unchanged' },
          { ...hello, id: 'new' },
        ],
        ['old'],
      ),
    )

    expect(lines()[1]).toBe('✓ app at http://localhost:3000/api: + new (app/hello), - old')
  })
})

test('the banner says where, how long it took, and what to do next', () => {
  output.ready({ url: 'http://localhost:3030', startMs: 1_149, dataDir: '/d', how: 'created', appUrl: null })

  expect(lines()).toEqual([
    '  Stepwell is ready at http://localhost:3030 (1.1 s)',
    '  Postgres  embedded, new in /d',
    '  App       looking for your app… start it, and it registers by itself',
    '            (or name its endpoint: stepwell dev -u http://localhost:3000/api/stepwell)',
  ])
})

describe('colour', () => {
  const show = () => {
    output.settled(done())
    output.flush()
    return text
  }

  test.each([
    ['a terminal', {}, true, true],
    ['a pipe', {}, false, false],
    ['a terminal with NO_COLOR', { NO_COLOR: 'yes' }, true, false],
    ['a terminal with an empty NO_COLOR', { NO_COLOR: '' }, true, true],
    ['a pipe with FORCE_COLOR', { FORCE_COLOR: '1' }, false, true],
    ['a dumb terminal', { TERM: 'dumb' }, true, false],
  ])('on %s (%j)', (_what, env, isTTY, isColored) => {
    output = createDevOutput(terminalFor(env as Record<string, string>, isTTY))

    const shown = show()

    expect(shown !== stripVTControlCharacters(shown)).toBe(isColored)
    expect(stripVTControlCharacters(shown)).toBe('✓ hello run_1 completed 143 ms\n')
  })
})
