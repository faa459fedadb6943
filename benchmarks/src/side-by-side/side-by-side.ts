/*
 * Stepwell and its peers on this machine, in one run: start all, warm each up, measure in turns, print, write.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { goalsOf } from './goals.ts'
import { installPeers } from './install-peers.ts'
import { describeMachine } from './machine.ts'
import { inTurn, measureIdle, measureLongRun, measureRounds, type Progress, warmUp } from './measure.ts'
import { toPicture } from './picture.ts'
import { FULL, type Plan, QUICK } from './plan.ts'
import type { Result } from './result.ts'
import { type Measured, rowsOf } from './rows.ts'
import { PEERS, STEPWELL, type System, startStepwellSystem } from './system.ts'
import { toText } from './text-report.ts'

export interface SideBySideOptions {
  isQuick: boolean
  /** Null: as many as the plan says. */
  rounds: number | null
  /** Names of peers. */
  peers: readonly string[]
  /** More files to write the JSON and the picture to. */
  jsonFile: string | null
  svgFile: string | null
}

const LATEST = fileURLToPath(new URL('../../results/latest.json', import.meta.url))

export async function runSideBySide(options: SideBySideOptions): Promise<void> {
  const startedAt = performance.now()
  const plan = planOf(options)
  const progress = createProgress()
  const missing: string[] = []
  const notInstalled = options.peers.length === 0 ? null : await installPeers(text => console.log(text))
  if (notInstalled !== null) missing.push(notInstalled)
  progress.say('starting')
  const systems = await startAll(notInstalled === null ? options.peers : [], missing)
  let result: Result
  try {
    result = await measureAll(systems, { plan, missing, progress: progress.say })
  } finally {
    progress.say('stopping')
    await Promise.all(systems.map(system => system.stop()))
    progress.clear()
  }
  console.log(toText(result))
  for (const file of [LATEST, options.jsonFile]) if (file !== null) await write(file, toJson(result))
  if (options.svgFile !== null) await write(options.svgFile, toPicture(result))
  console.log(
    `${Math.round((performance.now() - startedAt) / 1_000)} s; all figures are in ${options.jsonFile ?? LATEST}`,
  )
}

function planOf({ isQuick, rounds }: SideBySideOptions): Plan {
  const plan = isQuick ? QUICK : FULL
  return rounds === null ? plan : { ...plan, rounds }
}

async function startAll(peers: readonly string[], missing: string[]): Promise<System[]> {
  const starting = peers.map(async name => {
    try {
      return await PEERS[name]?.()
    } catch (error) {
      missing.push(`${name} did not start: ${messageOf(error)}`)
    }
  })
  const stepwell = startStepwellSystem()
  // Both are awaited, whatever becomes of the other: what has started must be stopped.
  const [ours, ...others] = await Promise.all([stepwell.catch((error: unknown) => ({ error })), ...starting])
  const running = others.filter(system => system !== undefined)
  if (ours !== undefined && 'error' in ours) {
    await Promise.all(running.map(system => system.stop()))
    throw ours.error
  }
  return ours === undefined ? running : [ours, ...running]
}

async function measureAll(
  systems: readonly System[],
  { plan, missing, progress }: { plan: Plan; missing: string[]; progress: Progress },
): Promise<Result> {
  const [ours] = systems
  if (ours === undefined) throw new Error('Nothing has started.')
  const postgres = (await ours.probe?.version()) ?? '-'
  await warmUp(systems, plan, progress)
  progress('W7')
  const idle = await measureIdle(systems, plan)
  const measurements = await measureRounds(systems, plan, { progress, missing })
  const longRunMs: Record<string, number> = {}
  if (plan.longRunSteps !== null)
    for (const system of systems) {
      progress(`W4 with ${plan.longRunSteps} steps: ${system.name}`)
      longRunMs[system.name] = await measureLongRun(system, plan, plan.longRunSteps)
    }
  progress('bytes to the app')
  const { bytesToApp: measureBytes } = ours
  const bytesToApp = measureBytes === null ? null : await inTurn(ours, measureBytes)
  const names = systems.map(({ name }) => name)
  const measured: Measured = { measurements, idle, longRunMs }
  const rows = rowsOf(measured, plan, names)
  const bytesFactor = bytesToApp === null ? Number.NaN : bytesToApp.ofManySteps / bytesToApp.ofOneStep
  return {
    at: new Date().toISOString(),
    mode: plan.mode,
    rounds: plan.rounds,
    machine: describeMachine(postgres),
    systems: systems.map(({ name, facts }) => ({ name, facts })),
    missing,
    rows,
    bytesToApp,
    goals: goalsOf(rows, { ours: STEPWELL, peers: names.filter(name => name !== STEPWELL), bytesFactor }),
    measurements,
  }
}

/** One line that changes in a terminal, lines elsewhere. */
function createProgress(): { say: Progress; clear(): void } {
  const { stdout } = process
  if (!stdout.isTTY) return { say: text => console.log(text), clear: () => {} }
  const put = (text: string) => stdout.write(`\r\u001b[2K${text}`)
  return { say: put, clear: () => put('') }
}

async function write(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
}

function toJson(result: Result): string {
  return `${JSON.stringify(result, null, 2)}\n`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
