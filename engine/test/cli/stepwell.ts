/*
 * The real command in a process of its own, with a home of its own.
 */
import { chmodSync, mkdtempSync, realpathSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HEADERS, newMessageId, PROTOCOL_VERSION, payloadOf, signHeaders } from '@stepwell/protocol'
import { onTestFinished } from 'vitest'
import type { DevFile } from '../../src/cli/dev-file.ts'
import { findServerProcesses } from '../../src/embedded/processes.ts'
import { type RunningProcess, startProcess } from '../support/processes.ts'
import { waitUntil } from '../support/wait-until.ts'

/** A busy machine makes a cluster and loads the sources in half a minute. */
const START_TIMEOUT_MS = 90_000

/** An empty folder; afterwards it is gone, with every Postgres that still runs in it. */
export function aHome(): string {
  const home = realpathSync(mkdtempSync(join(tmpdir(), 'sw-cli-')))
  chmodSync(home, 0o755)
  onTestFinished(async () => {
    for (const { pid } of await findServerProcesses(home)) process.kill(pid, 'SIGQUIT')
    await waitUntil('its Postgres is gone', async () => (await findServerProcesses(home)).length === 0)
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  })
  return home
}

/** Runs `stepwell ...args`; it is killed when the test is over. */
export function stepwell(args: string[], env: Record<string, string> = {}): RunningProcess {
  const command = startProcess('src/main.ts', args, env)
  onTestFinished(() => command.kill())
  return command
}

/** Runs it to its end. */
export async function runStepwell(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number | NodeJS.Signals; output: string }> {
  const command = stepwell(args, env)
  return { code: await command.exited, output: command.output() }
}

export interface Dev extends RunningProcess {
  url: string
  key: string
}

/** `stepwell dev` on a free port, ready. */
export async function startDev(home: string, args: string[] = [], env: Record<string, string> = {}): Promise<Dev> {
  const command = stepwell(['dev', '--port', '0', ...args], { STEPWELL_HOME: home, ...env })
  await waitForLine(command, 'is ready at')
  // The file is written before the line is said.
  const { url, signingKey } = await devFileOf(home)
  if (url === undefined || signingKey === undefined) throw new Error('dev.json is not complete')
  return { ...command, url, key: signingKey }
}

export async function devFileOf(home: string): Promise<DevFile> {
  return JSON.parse(await readFile(join(home, 'dev.json'), 'utf8')) as DevFile
}

export async function waitForLine(command: RunningProcess, text: string): Promise<void> {
  await waitUntil(
    `it says "${text}"`,
    () => {
      if (command.output().includes(text)) return true
      if (!command.isRunning()) throw new Error(`It ended before it said "${text}":\n${command.output()}`)
      return false
    },
    { explain: command.output, timeoutMs: START_TIMEOUT_MS },
  )
}

/** One signed request, as an SDK sends it. */
export async function sendSigned(
  engine: { url: string; key: string; workspace?: string },
  method: string,
  path: string,
  json?: unknown,
): Promise<Response> {
  const body = json === undefined ? null : JSON.stringify(json)
  return fetch(engine.url + path, {
    method,
    body,
    headers: {
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: engine.workspace ?? 'default/dev',
      ...signHeaders({
        id: newMessageId(),
        nowMs: Date.now(),
        payload: payloadOf(method, path, body),
        secrets: [engine.key],
      }),
    },
  })
}
