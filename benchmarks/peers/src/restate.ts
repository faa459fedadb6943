/* Restate: a server with a log of its own, which calls the app over HTTP/2. https://docs.restate.dev */
import { type Context, RestatePromise, serve, service } from '@restatedev/restate-sdk'
import { connect } from '@restatedev/restate-sdk-clients'
import { startProgram, waitUntilUp } from '../../src/processes/child.ts'
import { freePort } from '../../src/processes/free-port.ts'
import { serveBenchApp } from '../../src/workloads/bench-app.ts'
import { type BenchStep, type WorkflowInput, workflowsWith } from '../../src/workloads/workflows.ts'
import { restateBinary } from './restate-binary.ts'
import { versionsOf } from './versions.ts'

const READY_MS = 60_000

serveBenchApp(async notes => {
  addPromiseWithResolvers()
  const server = await startServer()
  const workflows = workflowsWith(notes)
  const bench = service({
    name: 'bench',
    handlers: {
      steps: (context: Context, input: WorkflowInput) => workflows.steps(toBenchStep(context), input),
      parallel: (context: Context, input: WorkflowInput) => workflows.parallel(toBenchStep(context), input),
      timer: (context: Context, input: WorkflowInput) => workflows.timer(toBenchStep(context), input),
    },
  })
  const port = await serve({ services: [bench], port: await freePort() })
  await register(server.adminUrl, `http://127.0.0.1:${port}`)
  const client = connect({ url: server.ingressUrl }).serviceClient<typeof bench>({ name: 'bench' })
  return {
    facts: {
      versions: versionsOf('@restatedev/restate-server', '@restatedev/restate-sdk', '@restatedev/restate-sdk-clients'),
      guarantee:
        'An accepted call and each step’s result are in its log, synced to disk, before they are acknowledged. Steps execute at least once.',
      settings: [
        'one node, the default profile (24 partitions, replicated log with one replica, write-ahead log synced)',
        'log filter warn, telemetry off',
        'on Node before 22, Promise.withResolvers is added, which its SDK calls',
        'a call of the ingress gives the result: start and wait are one request',
      ],
      serverPid: server.pid,
    },
    run: async (workflow, input) => client[workflow](input),
    async runMany(workflow, inputs) {
      await Promise.all(inputs.map(input => client[workflow](input)))
    },
  }
})

/** Node has it from version 22 on, and the SDK needs it. The same in a few words costs the same. */
function addPromiseWithResolvers(): void {
  if ('withResolvers' in Promise) return
  const withResolvers = () => {
    let resolve: ((value: unknown) => void) | undefined
    let reject: ((reason: unknown) => void) | undefined
    const promise = new Promise((onValue, onReason) => {
      resolve = onValue
      reject = onReason
    })
    return { promise, resolve, reject }
  }
  Object.assign(Promise, { withResolvers })
}

function toBenchStep(context: Context): BenchStep {
  return {
    run: (name, body) => context.run(name, body),
    sleep: (_name, ms) => context.sleep(ms),
    // `run` above gives them as they come from the SDK, whose own combinator its documentation asks for.
    all: steps => RestatePromise.all(steps as RestatePromise<number>[]),
  }
}

async function startServer() {
  const { BENCH_FOLDER: folder = '.' } = process.env
  const [adminPort, ingressPort, nodePort] = [await freePort(), await freePort(), await freePort()]
  const program = startProgram({
    file: restateBinary(),
    args: ['--base-dir', folder, '--no-logo'],
    cwd: folder,
    env: {
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${adminPort}`,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingressPort}`,
      RESTATE_BIND_ADDRESS: `127.0.0.1:${nodePort}`,
      RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${nodePort}`,
      RESTATE_LISTEN_MODE: 'tcp',
      RESTATE_LOG_FILTER: 'warn',
      RESTATE_DISABLE_TELEMETRY: 'true',
    },
  })
  const adminUrl = `http://127.0.0.1:${adminPort}`
  const ingressUrl = `http://127.0.0.1:${ingressPort}`
  const check = async () => (await fetch(`${adminUrl}/health`)).ok && (await fetch(`${ingressUrl}/restate/health`)).ok
  await waitUntilUp(program, { what: 'Restate', limitMs: READY_MS, check })
  return { pid: program.pid, adminUrl, ingressUrl }
}

async function register(adminUrl: string, uri: string): Promise<void> {
  const response = await fetch(`${adminUrl}/deployments`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ uri }),
  })
  if (!response.ok) throw new Error(`Restate does not take the app: ${await response.text()}`)
}
