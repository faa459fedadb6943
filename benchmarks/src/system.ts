/*
 * The system under measurement as real processes: `stepwell dev` with its embedded Postgres, and an app. Knows what each
 * of the three has spent on the CPU.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StepwellClient } from '@stepwell/sdk'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** A folder for CPU profiles of engine and app, to open in a browser's developer tools. */
const { STEPWELL_BENCH_PROFILE } = process.env
const PROFILE = STEPWELL_BENCH_PROFILE === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${STEPWELL_BENCH_PROFILE}`]
const READY_MS = 60_000
const TICKS_PER_SECOND = 100

export interface CpuSeconds {
  engine: number
  app: number
  postgres: number
}

export interface System {
  client: StepwellClient
  engineUrl: string
  cpu(): CpuSeconds
  /** Resolves when the handler of the run that this event started has ended. Ask before sending the event. */
  whenEnded(eventId: string): Promise<void>
  stop(): Promise<void>
}

/** Starts everything in a temporary folder, on free ports. */
export async function startSystem(): Promise<System> {
  const home = await mkdtemp(join(tmpdir(), 'stepwell-bench-'))
  const [enginePort, appPort] = [await freePort(), await freePort()]
  const engineUrl = `http://127.0.0.1:${enginePort}`
  const signingKey = `whsec_${randomBytes(32).toString('base64')}`
  const env = {
    STEPWELL_HOME: home,
    STEPWELL_SIGNING_KEY: signingKey,
    STEPWELL_URL: engineUrl,
    STEPWELL_APP_URL: `http://127.0.0.1:${appPort}`,
  }
  const engine = start(['engine/src/main.ts', 'dev', '--port', String(enginePort)], {
    STEPWELL_HOME: home,
    STEPWELL_SIGNING_KEY: signingKey,
  })
  await waitFor('the engine', engine, async () => (await fetch(`${engineUrl}/readyz`)).ok)
  const app = start(['benchmarks/src/bench-app.ts'], { ...env, PORT: String(appPort) })
  const waiting = new Map<string, () => void>()
  app.child.on('message', message => waiting.get((message as { ended: string }).ended)?.())
  const client = new StepwellClient({ url: engineUrl, signingKey })
  await waitFor('the app', app, async () => (await client.send({ name: 'bench.nothing' })).length === 1 && app.ready())
  return {
    client,
    engineUrl,
    cpu: () => ({ engine: cpuOf(engine.child.pid), app: cpuOf(app.child.pid), postgres: postgresCpu(home) }),
    whenEnded: eventId =>
      new Promise(resolve =>
        waiting.set(eventId, () => {
          waiting.delete(eventId)
          resolve()
        }),
      ),
    async stop() {
      app.child.kill('SIGINT')
      engine.child.kill('SIGTERM')
      await new Promise(resolve => engine.child.once('exit', resolve))
      await rm(home, { recursive: true, force: true })
    },
  }
}

interface Started {
  child: ChildProcess
  output: () => string
  ready: () => boolean
}

function start(args: string[], env: Record<string, string>): Started {
  const child = spawn(process.execPath, [...PROFILE, '--import', 'tsx', ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', chunk => {
      output = (output + String(chunk)).slice(-5_000)
    })
  // Whatever becomes of us, it does not stay behind.
  process.once('exit', () => child.kill('SIGKILL'))
  return { child, output: () => output, ready: () => output.includes('ready') }
}

async function waitFor(what: string, started: Started, check: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_MS
  while (!(await check().catch(() => false))) {
    if (started.child.exitCode !== null || performance.now() > deadline)
      throw new Error(`${what} did not start:\n${started.output()}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** User and system time of a process and of its children that have ended, in seconds. */
function cpuOf(pid: number | undefined): number {
  const fields = statOf(pid)
  return fields === null ? 0 : fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND
}

function statOf(pid: number | string | undefined): string[] | null {
  try {
    // The name in brackets may hold spaces; what follows does not.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? null
  } catch {
    return null
  }
}

/** The postmaster of this home and its children. */
function postgresCpu(home: string): number {
  let total = 0
  const postmasters = new Set<string>()
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  for (const pid of pids) if (commandOf(pid).includes(home) && commandOf(pid).includes('postgres')) postmasters.add(pid)
  for (const pid of pids) {
    const fields = statOf(pid)
    const parent = fields?.[1] ?? ''
    if (postmasters.has(pid) || postmasters.has(parent)) total += cpuOf(Number(pid))
  }
  return total
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('No port.')
  return address.port
}
