/*
 * What `stepwell dev` tells the person in front of it: that it is ready, what app it found, one line per finished run, and
 * when runs begin and cease to wait for the app. Nothing is said twice, and a burst of runs becomes a few lines.
 */
import { ERROR_CODES, type ErrorCode, type SyncAnswer, type Trigger, type WireError } from '@stepwell/protocol'
import type { SettleChange } from '../core/change.ts'
import type { Trouble } from '../core/happening.ts'
import type { Colors, Terminal } from './terminal.ts'

/** Runs that end within this time are told together. */
const FLUSH_MS = 50
const LINES_PER_FLUSH = 10
/** In a burst the next lines come this much later. */
const BURST_FLUSH_MS = 1_000
/** Of a text by somebody else. */
const MESSAGE_CHARS = 160
/** Of a sentence of ours, which ends with what to do. */
const SENTENCE_CHARS = 2_000
const SECONDS_FROM_MS = 1_000

/** Troubles with the app as a whole. Others are about one function. */
const ABOUT_THE_APP: readonly ErrorCode[] = [
  'app_unknown',
  'app_unreachable',
  'app_closed',
  'app_redirected',
  'app_status',
  'app_body_invalid',
  'app_signature_invalid',
]

/** A turn that has ended. */
export interface SettledTurn {
  function: string
  runId: string
  /** Since the run began. */
  ms: number
  settle: SettleChange
}

interface Ready {
  url: string
  startMs: number
  dataDir: string
  how: 'created' | 'started' | 'adopted'
  /** Where the app is being looked for; null when it has to come by itself. */
  appUrl: string | null
}

export interface DevOutput {
  ready(facts: Ready): void
  /** An app has registered, or answers again. */
  synced(answer: SyncAnswer): void
  /** What answers where the app should be is not one of ours. */
  strange(message: string): void
  settled(turn: SettledTurn): void
  note(line: string): void
  flush(): void
}

/** Lines for the terminal. `onAppAway` is told each time that a run found nobody where the app should be. */
export function createDevOutput(terminal: Terminal, onAppAway: () => void = () => {}): DevOutput {
  const { say, colors } = terminal
  const runs = createRunLines(terminal)
  let lastSynced = ''
  /** What is known not to work, by what it is about. */
  const troubles = new Map<string, ErrorCode>()

  /** Keeps the order: runs that ended before come first. */
  function tell(mark: string, line: string): void {
    runs.flush()
    say(`${mark} ${line}`)
  }

  function tellTrouble(name: string, { code, message }: Trouble): void {
    const about = ABOUT_THE_APP.includes(code) ? 'app' : name
    if (code === 'app_unreachable') onAppAway()
    if (troubles.get(about) === code) return
    troubles.set(about, code)
    const after = code.startsWith('app_') ? ' Runs go on by themselves when that is over.' : ''
    tell(colors.yellow('…'), `${name} waits: ${plain(message, SENTENCE_CHARS)}${after}`)
  }

  return {
    ready(facts) {
      for (const line of bannerOf(facts, colors)) say(line)
    },
    synced(answer) {
      const known = JSON.stringify([answer.url, answer.functions.map(({ id, triggers }) => [id, triggers])])
      if (known === lastSynced) return
      const isFirst = lastSynced === ''
      lastSynced = known
      const url = colors.cyan(plain(answer.url))
      tell(
        colors.green('✓'),
        isFirst ? `app found at ${url}: ${listOf(answer)}` : `app at ${url}: ${changesOf(answer)}`,
      )
    },
    strange(message) {
      tell(colors.yellow('…'), `not your app yet: ${plain(message, SENTENCE_CHARS)}`)
    },
    settled(turn) {
      if (turn.settle.step === 'trouble') return tellTrouble(turn.function, turn.settle.trouble)
      const wasAppInTrouble = troubles.delete('app')
      const wasInTrouble = troubles.delete(turn.function)
      if (wasAppInTrouble) tell(colors.green('✓'), 'the app answers again')
      else if (wasInTrouble) tell(colors.green('✓'), `${turn.function} goes on`)
      if (turn.settle.step === 'done') runs.add({ ...turn, settle: turn.settle })
    },
    note(line) {
      runs.flush()
      say(line)
    },
    flush: runs.flush,
  }
}

type EndedRun = SettledTurn & { settle: Extract<SettleChange, { step: 'done' }> }

/** One line per run that has ended; of a burst only some, and a count. */
function createRunLines({ say, colors }: Terminal): { add(run: EndedRun): void; flush(): void } {
  let ended: EndedRun[] = []
  let timer: NodeJS.Timeout | undefined
  let isBurst = false

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    const runs = ended
    ended = []
    for (const run of runs.slice(0, LINES_PER_FLUSH)) say(lineOf(run, colors))
    const rest = runs.slice(LINES_PER_FLUSH)
    isBurst = rest.length > 0
    if (!isBurst) return
    const ofState = (state: EndedRun['settle']['state']) => rest.filter(run => run.settle.state === state).length
    const others = (['failed', 'cancelled'] as const).filter(state => ofState(state) > 0)
    const became = others.map(state => `${ofState(state)} of them ${state}`).join(', ') || 'all completed'
    say(colors.dim(`… and ${rest.length} more runs ended, ${became}`))
  }

  return {
    add(run) {
      ended.push(run)
      timer ??= setTimeout(flush, isBurst ? BURST_FLUSH_MS : FLUSH_MS)
    },
    flush,
  }
}

function lineOf({ function: name, runId, ms, settle }: EndedRun, colors: Colors): string {
  const time = ms < SECONDS_FROM_MS ? `${Math.round(ms)} ms` : seconds(ms)
  const run = `${name} ${colors.dim(runId)}`
  if (settle.state === 'completed') return `${colors.green('✓')} ${run} completed ${colors.dim(time)}`
  if (settle.state === 'cancelled')
    return `${colors.yellow('⊘')} ${run} ${colors.yellow('cancelled')} after ${time}${messageOf(settle.error)}`
  return `${colors.red('✗')} ${run} ${colors.red('failed')} after ${time}${messageOf(settle.error)}`
}

function bannerOf({ url, startMs, dataDir, how, appUrl }: Ready, colors: Colors): string[] {
  const app =
    appUrl === null
      ? [
          '  App       looking for your app… start it, and it registers by itself',
          colors.dim('            (or name its endpoint: stepwell dev -u http://localhost:3000/api/stepwell)'),
        ]
      : [`  App       looking for your app at ${plain(appUrl)}…`]
  return [
    '',
    `  ${colors.bold(colors.green('Stepwell'))} is ready at ${colors.cyan(url)} ${colors.dim(`(${seconds(startMs)})`)}`,
    '',
    `  Postgres  embedded, ${how === 'created' ? 'new in' : 'data kept in'} ${dataDir}`,
    ...app,
    '',
  ]
}

function listOf({ functions }: SyncAnswer): string {
  if (functions.length === 0) return 'it serves no functions yet'
  const list = functions.map(({ id, triggers }) => `${id} (${triggersOf(triggers)})`).join(', ')
  return `${functions.length} ${functions.length === 1 ? 'function' : 'functions'}: ${list}`
}

function changesOf(answer: SyncAnswer): string {
  const changes = [
    ...answer.functions
      .filter(({ change }) => change !== 'unchanged')
      .map(({ id, triggers, change }) => `${change === 'added' ? '+' : '~'} ${id} (${triggersOf(triggers)})`),
    ...answer.removed.map(id => `- ${id}`),
  ]
  return changes.length === 0 ? listOf(answer) : changes.join(', ')
}

function triggersOf(triggers: Trigger[]): string {
  return triggers.length === 0 ? 'no trigger' : triggers.map(trigger => plain(trigger.event)).join(', ')
}

/** `: TypeError: x is not a function`, of a wire error as JSON text. */
function messageOf(error: string | null): string {
  if (error === null) return ''
  const { name, message, code } = JSON.parse(error) as WireError
  const isOurs = (ERROR_CODES as readonly (string | undefined)[]).includes(code)
  return `: ${plain(`${name}: ${message}`, isOurs ? SENTENCE_CHARS : MESSAGE_CHARS)}`
}

/** One line, of no great length, that cannot steer a terminal. */
function plain(text: string, maxChars = MESSAGE_CHARS): string {
  const line = text.replace(/\p{Cc}+/gu, ' ').trim()
  return line.length > maxChars ? `${line.slice(0, maxChars)}…` : line
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
