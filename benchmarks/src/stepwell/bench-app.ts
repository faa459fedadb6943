/* Stepwell as an app under measurement, on nothing but its SDK. */
import { createServer } from 'node:http'
import { createFunction, type Step, StepwellClient, serve } from '@stepwell/sdk'
import { serveBenchApp } from '../workloads/bench-app.ts'
import type { BenchSystem } from '../workloads/bench-system.ts'
import {
  type BenchStep,
  type Notes,
  type WorkflowInput,
  type WorkflowName,
  workflowsWith,
} from '../workloads/workflows.ts'

const EVENTS_PER_CALL = 1_000
/** The runs whose handlers ended last are waited for; then one look at the list tells that no other is open. */
const LAST_RUNS = 20
const OPEN_STATES = ['running', 'queued', 'waiting']
const RECHECK_MS = 5
const READERS = 20

serveBenchApp(async notes => {
  const runIds = new Map<number, string>()
  const functions = functionsWith(notes, runIds)
  const { PORT, STEPWELL_URL = '' } = process.env
  await new Promise<void>(resolve => createServer(serve(functions)).listen(Number(PORT), '127.0.0.1', resolve))
  const client = new StepwellClient()
  await client.sync(functions)
  const system: BenchSystem = {
    facts: {
      versions: { stepwell: 'this working copy', '@stepwell/sdk': 'this working copy' },
      guarantee:
        'Each step is recorded, on disk, before the next one starts; an accepted event is on disk. Steps execute at least once.',
      settings: ['`stepwell dev` with its embedded Postgres; all settings are the defaults'],
    },
    async run(workflow, input) {
      const [run] = await client.sendAndWait({ name: nameOf(workflow), data: { ...input } }, { timeout: '5m' })
      if (run?.state !== 'completed') throw new Error(`${run?.id} is ${run?.state}.`)
      return run.output
    },
    async runMany(workflow, inputs) {
      runIds.clear()
      const ended = notes.whenEnded(inputs.length)
      const events = inputs.map(input => ({ name: nameOf(workflow), data: { ...input } }))
      const calls = []
      for (let at = 0; at < events.length; at += EVENTS_PER_CALL) calls.push(events.slice(at, at + EVENTS_PER_CALL))
      await Promise.all(calls.map(call => client.send(call)))
      await ended
      const last = [...runIds.values()].slice(-LAST_RUNS)
      await Promise.all(last.map(id => client.waitForRun(id)))
      for (const state of OPEN_STATES)
        while (await hasRuns(STEPWELL_URL, state)) await new Promise(resolve => setTimeout(resolve, RECHECK_MS))
    },
    async readDueTimes() {
      const dueTimes = new Map<number, number>()
      const left = [...runIds]
      const readSome = async () => {
        for (let next = left.pop(); next !== undefined; next = left.pop())
          dueTimes.set(next[0], await readDueTime(client, next[1]))
      }
      await Promise.all(Array.from({ length: READERS }, readSome))
      return dueTimes
    },
  }
  return system
})

async function readDueTime(client: StepwellClient, runId: string): Promise<number> {
  for (const entry of await client.getJournal(runId))
    if (entry.type === 'sleep_started') return Date.parse(entry.data.until)
  return Number.NaN
}

/** @param runIds gets the runs in the order in which they end */
function functionsWith(notes: Notes, runIds: Map<number, string>) {
  const workflows = workflowsWith(notes)
  return (Object.keys(workflows) as WorkflowName[]).map(workflow =>
    createFunction({
      id: workflow,
      trigger: { event: nameOf(workflow) },
      handler: async ({ event, step, run }) => {
        // Only this file sends these events.
        const input = event.data as unknown as WorkflowInput
        const result = await workflows[workflow](toBenchStep(step), input)
        runIds.set(input.number, run.id)
        return result
      },
    }),
  )
}

function toBenchStep(step: Step): BenchStep {
  return {
    // The results are numbers, which JSON gives back as they were.
    run: (name, body) => step.run(name, body) as Promise<never>,
    sleep: (name, ms) => step.sleep(name, ms),
    all: steps => Promise.all(steps),
  }
}

function nameOf(workflow: WorkflowName): string {
  return `bench.${workflow}`
}

async function hasRuns(url: string, state: string): Promise<boolean> {
  const response = await fetch(`${url}/v1/runs?limit=1&state=${state}`)
  return ((await response.json()) as { runs: unknown[] }).runs.length > 0
}
