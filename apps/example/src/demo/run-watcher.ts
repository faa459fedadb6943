/**
 * Follows runs through the engine's API and tells each entry of their journals as it appears. While the engine is away it
 * waits: the journal is kept, so nothing is missed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { JournalEntryView, RunView } from '@stepwell/sdk'
import { isFinal, listRuns, readJournal, readRun } from './engine-api.ts'
import { describeEntry, type Sentence } from './journal-sentence.ts'

/** A run that is followed, and what is known of it. */
export interface FollowedRun {
  id: string
  /** What it is called in the output: `PR #2`. */
  label: string
  /** How it has to end. */
  endsAs: RunView['state']
  view: RunView | null
  journal: JournalEntryView[]
}

export interface RunWatcher {
  /** Follows a run from its first entry, and the children that it starts. A run that is followed already keeps its name. */
  follow(runId: string, label: string, options?: { endsAs?: RunView['state'] }): FollowedRun
  runs(): readonly FollowedRun[]
  /** Resolves when the condition holds. @throws Error with `what` when it does not within the time */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void>
  /** Resolves when the run has ended. @throws Error when neither its state nor its output is of that outcome */
  untilOutcome(run: FollowedRun, outcome: string): Promise<void>
  stop(): Promise<void>
}

const POLL_MS = 40
const UNTIL_MS = 30_000

export function watchRuns(options: { engineUrl: string; tell: (who: string, sentence: Sentence) => void }): RunWatcher {
  const { engineUrl, tell } = options
  const followed = new Map<string, FollowedRun>()
  let isStopped = false

  async function look(): Promise<void> {
    const open = [...followed.values()].filter(run => run.view === null || !isFinal(run.view))
    if (open.length === 0) return
    const views = new Map((await listRuns(engineUrl)).map(view => [view.id, view]))
    for (const run of open) {
      // First the view, then the journal: a run that is final in the view has all of its journal.
      const view = views.get(run.id) ?? (await readRun(engineUrl, run.id))
      const entries = await readJournal(engineUrl, run.id, run.journal.at(-1)?.seq ?? 0)
      run.journal.push(...entries)
      run.view = view
      for (const entry of entries) {
        const sentence = describeEntry(entry)
        if (sentence !== null) tell(run.label, sentence)
        if (entry.type === 'child_started') follow(entry.data.run, nameOfChild(run.label), run)
      }
      if (isFinal(view)) tell(run.label, describeEnd(view))
    }
  }

  const loop = (async () => {
    while (!isStopped) {
      // The engine is being killed and restarted: it will answer again.
      await look().catch(() => {})
      await sleep(POLL_MS)
    }
  })()

  function follow(
    id: string,
    label: string,
    { endsAs = 'completed' }: { endsAs?: RunView['state'] } = {},
  ): FollowedRun {
    const known = followed.get(id)
    if (known !== undefined) return known
    const run: FollowedRun = { id, label, endsAs, view: null, journal: [] }
    followed.set(id, run)
    return run
  }

  async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + UNTIL_MS
    while (!(await condition())) {
      if (isStopped) return
      if (performance.now() > deadlineMs) throw new Error(`${what} did not happen within ${UNTIL_MS / 1000} s.`)
      await sleep(POLL_MS / 2)
    }
  }

  return {
    follow,
    runs: () => [...followed.values()],
    until,
    async untilOutcome(run, outcome) {
      await until(`The end of ${run.label}`, () => run.view !== null && isFinal(run.view))
      const text = JSON.stringify([run.view?.state, run.view?.output])
      if (!isStopped && !text.includes(`"${outcome}"`)) {
        throw new Error(`${run.label} was to end as ${outcome}, and ended with ${text}.`)
      }
    },
    async stop() {
      isStopped = true
      await loop
    },
  }
}

/** Orders have parcels, and nothing else here has children. */
function nameOfChild(label: string): string {
  return label.replace('order', 'parcel')
}

function describeEnd({ state, output, error }: RunView): Sentence {
  if (state !== 'completed') return { text: `run ${state}: ${error?.message ?? 'no reason given'}`, tone: 'bad' }
  return { text: `run completed: ${JSON.stringify(output)}`, tone: 'good' }
}
