/* DBOS: a library in the app's process, on Postgres. https://docs.dbos.dev/typescript */
import { DBOS } from '@dbos-inc/dbos-sdk'
import { serveBenchApp } from '../../src/workloads/bench-app.ts'
import { type BenchStep, type WorkflowInput, workflowsWith } from '../../src/workloads/workflows.ts'
import { versionsOf } from './versions.ts'

const STEP: BenchStep = {
  run: (name, body) => DBOS.runStep(async () => body(), { name }),
  sleep: (_name, ms) => DBOS.sleep(ms),
  all: steps => Promise.all(steps),
}

serveBenchApp(async notes => {
  const { host, port, user, password, database } = JSON.parse(process.env.BENCH_POSTGRES ?? '{}')
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`
  DBOS.setConfig({
    name: 'bench',
    systemDatabaseUrl: `postgresql://${login}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`,
    logLevel: 'warn',
  })
  const defined = workflowsWith(notes)
  const workflows = {
    steps: DBOS.registerWorkflow((input: WorkflowInput) => defined.steps(STEP, input), { name: 'steps' }),
    parallel: DBOS.registerWorkflow((input: WorkflowInput) => defined.parallel(STEP, input), { name: 'parallel' }),
    timer: DBOS.registerWorkflow((input: WorkflowInput) => defined.timer(STEP, input), { name: 'timer' }),
  }
  await DBOS.launch()
  return {
    facts: {
      versions: versionsOf('@dbos-inc/dbos-sdk'),
      guarantee:
        'A started workflow and each step’s result are committed in Postgres before it goes on. Steps execute at least once.',
      settings: [
        'Postgres as Stepwell’s (same binaries, same settings, unix socket)',
        'workflows start in the process that starts them, which is the fastest way; no queue',
        'log level warn instead of info: nothing printed per run',
      ],
    },
    run: async (workflow, input) => (await DBOS.startWorkflow(workflows[workflow])(input)).getResult(),
    async runMany(workflow, inputs) {
      const start = DBOS.startWorkflow(workflows[workflow])
      // A handle of the process that runs the workflow: its result comes from memory.
      await Promise.all(inputs.map(async input => (await start(input)).getResult()))
    },
  }
})
