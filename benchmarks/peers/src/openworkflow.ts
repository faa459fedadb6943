/* OpenWorkflow: a worker that polls Postgres, in the app's process. https://openworkflow.dev/docs */
import { OpenWorkflow } from 'openworkflow'
import { BackendPostgres } from 'openworkflow/postgres'
import { serveBenchApp } from '../../src/workloads/bench-app.ts'
import { type WorkflowInput, type WorkflowName, workflowsWith } from '../../src/workloads/workflows.ts'
import { versionsOf } from './versions.ts'

const CONCURRENCY = 100
const RECHECK_MS = 5
const STEPS_MAX = 1_000

serveBenchApp(async notes => {
  const { host, port, user, password, database } = JSON.parse(process.env.BENCH_POSTGRES ?? '{}')
  // postgres.js has no URL for a unix socket; it reads these where the URL says nothing.
  Object.assign(process.env, { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password })
  const backend = await BackendPostgres.connect(`postgres:///${database}`)
  const client = new OpenWorkflow({ backend })
  const defined = workflowsWith(notes)
  const define = (name: WorkflowName) =>
    client.defineWorkflow({ name }, ({ input, step }) =>
      defined[name](
        {
          run: (stepName, body) => step.run({ name: stepName }, body),
          sleep: (stepName, ms) => step.sleep(stepName, `${ms}ms`),
          all: steps => Promise.all(steps),
        },
        input as WorkflowInput,
      ),
    )
  const workflows = { steps: define('steps'), parallel: define('parallel'), timer: define('timer') }
  await client.newWorker({ concurrency: CONCURRENCY }).start()
  return {
    facts: {
      versions: versionsOf('openworkflow'),
      guarantee:
        'A started run and each step’s result are committed in Postgres before it goes on. Steps execute at least once.',
      settings: [
        'Postgres as Stepwell’s (same binaries, same settings, unix socket)',
        `worker concurrency ${CONCURRENCY}: its production guide starts at 10 and raises it for work that waits for I/O; 100 was the fastest of 10, 25, 50 and 100`,
        'the polls cannot be set: the worker’s backs off from 0.1 s to 1 s when idle, a handle looks for its result every second',
      ],
      stepsMax: STEPS_MAX,
    },
    run: async (workflow, input) => (await workflows[workflow].run(input)).result(),
    async runMany(workflow, inputs) {
      const ended = notes.whenEnded(inputs.length)
      await Promise.all(inputs.map(input => workflows[workflow].run(input)))
      await ended
      // Its handles would look once a second each: that would be most of what is measured.
      for (;;) {
        const { pending, running } = await backend.countWorkflowRuns()
        if (pending + running === 0) return
        await new Promise(resolve => setTimeout(resolve, RECHECK_MS))
      }
    },
  }
})
