/*
 * A system under measurement, as the one who measures sees it: processes, what they have cost, and an app that runs
 * workloads when asked.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type NodeChild, startNode } from '../processes/child.ts'
import { signal } from '../processes/kill-at-exit.ts'
import { type PostgresProbe, probePostgres, startPostgres } from '../processes/postgres.ts'
import { type ProcessGroup, pidsOf } from '../processes/usage.ts'
import { startStepwell } from '../stepwell/start-stepwell.ts'
import type { Question } from '../workloads/bench-app.ts'
import type { SystemFacts } from '../workloads/bench-system.ts'
import type { Times, Workload } from '../workloads/workloads.ts'
import { measureBytesToApp } from './bytes-to-app.ts'
import type { BytesToApp } from './result.ts'

export interface System {
  name: string
  facts: SystemFacts
  /** Null where the system has none: a library needs no server, and Restate's server is its own database. */
  groups: { server: ProcessGroup | null; database: ProcessGroup | null; app: ProcessGroup }
  probe: PostgresProbe | null
  measure(workload: Workload): Promise<Times>
  /** Null where nobody sends bytes to an app. */
  bytesToApp: (() => Promise<BytesToApp>) | null
  /** Stops all its processes where they are, so that they do not disturb another system's turn. */
  pause(): void
  resume(): void
  stop(): Promise<void>
}

export type StartSystem = () => Promise<System>

export const STEPWELL = 'Stepwell'

/** In the order of the table. */
export const PEERS: Record<string, StartSystem> = {
  Restate: () => startPeer('Restate', { file: 'benchmarks/peers/src/restate.ts', needsPostgres: false }),
  DBOS: () => startPeer('DBOS', { file: 'benchmarks/peers/src/dbos.ts', needsPostgres: true }),
  OpenWorkflow: () => startPeer('OpenWorkflow', { file: 'benchmarks/peers/src/openworkflow.ts', needsPostgres: true }),
}

export async function startStepwellSystem(): Promise<System> {
  const stepwell = await startStepwell()
  const app = await stepwell.startApp('benchmarks/src/stepwell/bench-app.ts')
  const probe = probePostgres(stepwell.connection)
  return toSystem({
    name: STEPWELL,
    app,
    facts: await app.ask<SystemFacts>({ do: 'facts' } satisfies Question),
    server: stepwell.server,
    database: stepwell.database,
    probe,
    bytesToApp: () => measureBytesToApp(stepwell, app),
    async stop() {
      await probe.close()
      await stepwell.stop()
    },
  })
}

async function startPeer(name: string, { file, needsPostgres }: { file: string; needsPostgres: boolean }) {
  const postgres = needsPostgres ? await startPostgres() : null
  const probe = postgres && probePostgres(postgres.connection)
  const folder = await mkdtemp(join(tmpdir(), 'bench-peer-'))
  // A peer that starts a server of its own keeps its data in the folder.
  const app = startNode({
    file,
    env: { BENCH_FOLDER: folder, BENCH_POSTGRES: JSON.stringify(postgres?.connection ?? null) },
    folder,
  })
  async function stop(): Promise<void> {
    await app.stop()
    await rm(folder, { recursive: true, force: true })
    await probe?.close()
    await postgres?.stop()
  }
  try {
    await app.ask({ do: 'prepare' } satisfies Question)
    const facts = await app.ask<SystemFacts>({ do: 'facts' } satisfies Question)
    const server = facts.serverPid === undefined ? null : { roots: [facts.serverPid] }
    const database = postgres && { roots: [postgres.pid] }
    return toSystem({ name, app, facts, server, database, probe, bytesToApp: null, stop })
  } catch (error) {
    await stop()
    throw error
  }
}

function toSystem(parts: {
  name: string
  app: NodeChild
  facts: SystemFacts
  server: ProcessGroup | null
  database: ProcessGroup | null
  probe: PostgresProbe | null
  bytesToApp: System['bytesToApp']
  stop(): Promise<void>
}): System {
  const { name, app, facts, server, database, probe, bytesToApp } = parts
  const groups = { server, database, app: { roots: [app.pid], without: server?.roots ?? [] } }
  /** The database first when it goes on and last when it stops: nobody waits for somebody who stands still. */
  const inOrder = () => [database, server, groups.app].flatMap(group => (group === null ? [] : pidsOf(group)))
  const resume = () => signal(inOrder(), 'SIGCONT')
  return {
    name,
    facts,
    groups,
    probe,
    bytesToApp,
    measure: workload => app.ask<Times>({ do: 'measure', workload } satisfies Question),
    pause: () => signal(inOrder().reverse(), 'SIGSTOP'),
    resume,
    async stop() {
      resume()
      await parts.stop()
    },
  }
}
