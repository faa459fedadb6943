import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { commandLineOf, findStarted } from '../src/demo/leftovers.ts'
import { ROOT } from '../src/demo/places.ts'

const DEMO = join(ROOT, 'apps/example/src/demo/demo.ts')
const DEMO_MS = 120_000

let parent: string
let folder: string

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'demo-test-'))
  folder = join(parent, 'demo')
})

afterEach(() => rmSync(parent, { recursive: true, force: true }))

interface Played {
  exitCode: number | null
  output: string
  /** The processes that ran when the demo was about to end. */
  started: { pid: number; command: string }[]
}

/** Plays the demo; when its output has `text`, does `then` once. */
function play(text: string, then: (demo: { pid: number }) => void): Promise<Played> {
  return new Promise((resolve, reject) => {
    const demo = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), DEMO, '--folder', folder], {
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '', CI: '' },
    })
    let output = ''
    let started: Played['started'] = []
    const take = (chunk: Buffer) => {
      output += chunk.toString()
      if (started.length > 0 || !output.includes(text)) return
      started = findStarted(folder)
      then({ pid: demo.pid ?? 0 })
    }
    demo.stdout.on('data', take)
    demo.stderr.on('data', take)
    demo.on('error', reject)
    demo.on('exit', exitCode => resolve({ exitCode, output, started }))
  })
}

const isRunning = ({ pid }: { pid: number }) => commandLineOf(pid) !== ''

test(
  'the demo shows all it promises, prints plain lines, and leaves nothing behind',
  async () => {
    const { exitCode, output, started } = await play('Every run ends', () => {})

    expect(exitCode, output).toBe(0)
    expect(output).toContain('42 executions, 40 recorded results')
    expect(output).toMatch(/charge +3 +5 +3 +1 failed and tried again, 1 killed in mid-body/)
    // Neither stack traces nor escape sequences.
    expect(output).not.toMatch(/^\s+at /m)
    expect(output).not.toContain('\u001b')
    expect(started.length).toBeGreaterThanOrEqual(3)
    expect(started.filter(isRunning)).toEqual([])
    expect(readdirSync(parent)).toEqual([])
  },
  DEMO_MS,
)

test.each(['starting Postgres', 'approves Ada'])(
  'interrupted at "%s" it stops everything and removes its folder',
  async text => {
    let postmaster = 0
    const { exitCode, output, started } = await play(text, ({ pid }) => {
      postmaster = readPostmaster()
      process.kill(pid, 'SIGINT')
    })

    expect(exitCode, output).toBe(130)
    expect(output).toContain('Interrupted. Everything is stopped.')
    expect(started.filter(isRunning)).toEqual([])
    if (postmaster !== 0) expect(isRunning({ pid: postmaster })).toBe(false)
    expect(existsSync(folder)).toBe(false)
  },
  DEMO_MS,
)

function readPostmaster(): number {
  try {
    return Number(readFileSync(join(folder, 'home/pgdata/cluster/postmaster.pid'), 'utf8').split('\n')[0])
  } catch {
    return 0
  }
}
