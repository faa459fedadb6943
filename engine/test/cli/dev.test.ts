import { readFileSync, statSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { AckBatch, RunView, SendEventsAnswer } from '@stepwell/protocol'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { findServerProcesses } from '../../src/embedded/processes.ts'
import { type HeldTurn, startTurnApp, type TurnApp } from '../http/turn-app.ts'
import { listen } from '../support/app-server.ts'
import { waitUntil } from '../support/wait-until.ts'
import { aHome, type Dev, devFileOf, runStepwell, sendSigned, startDev, stepwell, waitForLine } from './stepwell.ts'

// Each test starts several processes.
vi.setConfig({ testTimeout: 240_000 })

const KEY = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

async function anApp(): Promise<TurnApp> {
  const app = await startTurnApp({ key: KEY, functions: { work: 'work.asked' } })
  onTestFinished(() => app.close())
  return app
}

async function send(dev: Dev, name = 'work.asked'): Promise<string> {
  const response = await fetch(`${dev.url}/v1/events`, { method: 'POST', body: JSON.stringify({ name }) })
  const { events } = (await response.json()) as SendEventsAnswer
  return events[0]?.runs[0] ?? ''
}

/** From now on every turn ends well. */
function answerAll(app: TurnApp): void {
  void app.nextTurn().then(turn => {
    turn.respond('done', [{ op: 'finish' }])
    answerAll(app)
  })
}

const stateOf = async (dev: Dev, runId: string) =>
  ((await (await fetch(`${dev.url}/v1/runs/${runId}`)).json()) as RunView).state

describe('stepwell dev', () => {
  test('is ready by itself, can be found and used by apps, and leaves nothing running', async () => {
    const home = aHome()

    const dev = await startDev(home)
    const found = await devFileOf(home)
    const sent = await fetch(`${dev.url}/v1/events`, { method: 'POST', body: '{"name":"a"}' })
    const signed = await sendSigned(dev, 'GET', '/v1/runs')
    // `localhost` may be either; a container may have no IPv6.
    const hasSix = Object.values(networkInterfaces()).some(list => list?.some(({ address }) => address === '::1'))
    const overSix = hasSix ? await fetch(`${dev.url.replace('127.0.0.1', '[::1]')}/livez`) : sent
    dev.signal('SIGTERM')
    const code = await dev.exited

    expect(dev.output()).toMatch(/Stepwell is ready at http:\/\/localhost:\d+ \(\d+\.\d s\)/)
    expect(dev.output()).toContain(`new in ${home}/pgdata`)
    expect(dev.output()).not.toContain('\u001b')
    expect(found).toMatchObject({ pid: dev.pid, url: dev.url })
    expect(statSync(join(home, 'dev.json')).mode & 0o777).toBe(0o600)
    expect([sent.status, signed.status]).toEqual([202, 200])
    expect(overSix.ok).toBe(true)
    expect(code).toBe(0)
    expect(await devFileOf(home)).toEqual({ signingKey: dev.key })
    expect(await findServerProcesses(home)).toEqual([])
  })

  test('keeps data and key, and begins anew with --fresh', async () => {
    const home = aHome()
    const app = await anApp()
    const first = await startDev(home, ['-u', app.url], { STEPWELL_SIGNING_KEY: KEY })
    await waitForLine(first, 'app found')
    const runId = await send(first)
    first.signal('SIGTERM')
    // A turn is in flight: the app has not answered.
    ;(await app.nextTurn()).respond('done', [{ op: 'finish' }])
    await first.exited

    const second = await startDev(home)
    const kept = await stateOf(second, runId)
    second.signal('SIGINT')
    const interrupted = await second.exited
    const third = await startDev(home, ['--fresh'])
    const gone = await fetch(`${third.url}/v1/runs/${runId}`)

    expect(second.key).toBe(first.key)
    expect(second.output()).toContain('data kept in')
    expect(kept).toBe('completed')
    expect(interrupted).toBe(0)
    expect(gone.status).toBe(404)
  })

  test('finds the app, tells of runs, and of an app that goes away and comes back', async () => {
    const home = aHome()
    let app = await anApp()
    const dev = await startDev(home, ['--url', app.url], { STEPWELL_SIGNING_KEY: KEY })
    await waitForLine(dev, `app found at ${app.url}: 1 function: work (work.asked)`)

    const runId = await send(dev)
    ;(await app.nextTurn()).respond('done', [{ op: 'finish' }])
    await waitForLine(dev, `✓ work ${runId} completed`)
    const failing = await send(dev)
    ;(await app.nextTurn()).respond('done', [{ op: 'fail', error: { name: 'Error', message: 'no luck' } }])
    await waitForLine(dev, `✗ work ${failing} failed`)
    const { port } = app
    await app.close()
    const waiting = await send(dev)
    await waitForLine(dev, 'cannot be reached')
    app = await startTurnApp({ key: KEY, functions: { work: 'work.asked' }, port })
    onTestFinished(() => app.close())
    ;(await app.nextTurn()).respond('done', [{ op: 'finish' }])
    await waitForLine(dev, `✓ work ${waiting} completed`)

    expect(dev.output()).toContain('failed')
    expect(dev.output()).toContain('Error: no luck')
    expect(dev.output()).toContain('✓ the app answers again')
    expect(dev.output().match(/cannot be reached/g)).toHaveLength(1)
    expect(dev.output().match(/app found/g)).toHaveLength(1)
  })

  test('starts Postgres again when that is killed, and goes on', async () => {
    const home = aHome()
    const app = await anApp()
    const dev = await startDev(home, ['-u', app.url], { STEPWELL_SIGNING_KEY: KEY })
    await waitForLine(dev, 'app found')
    const before = await send(dev)
    const turn = await app.nextTurn()
    const postmaster = Number(readFileSync(join(home, 'pgdata/cluster/postmaster.pid'), 'utf8').split('\n')[0])

    process.kill(postmaster, 'SIGKILL')
    await waitForLine(dev, 'Postgres is back')
    await waitUntil('it is ready again', async () => (await fetch(`${dev.url}/readyz`)).ok)
    turn.respond('done', [{ op: 'finish' }])
    // What the database did not take is sent again.
    answerAll(app)

    await waitUntil('the run of before has ended', async () => (await stateOf(dev, before)) === 'completed')
    const after = await send(dev)
    await waitForLine(dev, `✓ work ${after} completed`)
    dev.signal('SIGTERM')
    expect(await dev.exited).toBe(0)
    expect(await findServerProcesses(home)).toEqual([])
  })
})

describe('a second stepwell dev', () => {
  test('is refused with one sentence: by the port, and by the folder', async () => {
    const home = aHome()
    const first = await startDev(home)
    const port = new URL(first.url).port

    const samePort = await runStepwell(['dev', '--port', port], { STEPWELL_HOME: home })
    const sameFolder = await runStepwell(['dev', '--port', '0'], { STEPWELL_HOME: home })

    expect(samePort).toEqual({
      code: 1,
      output: `Port ${port} is taken by another Stepwell (process ${first.pid}). Stop it, or choose another port: --port ${Number(port) + 1}.\n`,
    })
    expect(sameFolder).toEqual({
      code: 1,
      output: expect.stringMatching(
        `^(?:Starting Postgres…\n)?The data folder ${home}/pgdata is in use by Stepwell, process ${first.pid} at http://localhost:${port}\\. .*--data-dir\\.\n$`,
      ),
    })
    expect((await fetch(`${first.url}/readyz`)).status).toBe(200)
    expect(await devFileOf(home)).toMatchObject({ pid: first.pid })
  })

  test('is told when its port belongs to another program', async () => {
    const other = await listen((_request, response) => response.end('hello'))

    const { code, output } = await runStepwell(['dev', '--port', String(other.port)], { STEPWELL_HOME: aHome() })

    await other.close()
    expect(code).toBe(1)
    expect(output).toMatch(new RegExp(`^Port ${other.port} is taken by another program\\. .*\n$`))
  })
})

describe('a stop', () => {
  async function devWithTurn(env: Record<string, string> = {}): Promise<{ dev: Dev; turn: HeldTurn; runId: string }> {
    const app = await anApp()
    const dev = await startDev(aHome(), ['-u', app.url], { STEPWELL_SIGNING_KEY: KEY, ...env })
    await waitForLine(dev, 'app found')
    const runId = await send(dev)
    return { dev, turn: await app.nextTurn(), runId }
  }

  test('lets a turn in flight end, and answers its reports until then', async () => {
    const { dev, turn, runId } = await devWithTurn()
    const target = new URL(turn.turn.reportUrl)
    const report = turn.report('running', [{ op: 'step', key: 'one', saw: 1, attempt: 1, output: 1 }])
    const batch = { kind: 'reports', workspace: 'default/dev', reports: [report] }

    dev.signal('SIGTERM')
    await waitUntil('it drains', async () => (await fetch(`${dev.url}/readyz`)).status === 503)
    const answered = await sendSigned({ url: target.origin, key: KEY }, 'POST', target.pathname, batch)
    const accepted = await fetch(`${dev.url}/v1/events`, { method: 'POST', body: '{"name":"late"}' })
    const wasRunning = dev.isRunning()
    turn.respond('continue', [])

    expect(((await answered.json()) as AckBatch).acks).toMatchObject([{ status: 200, yield: true }])
    expect(accepted.status).toBe(202)
    expect(wasRunning).toBe(true)
    expect(await dev.exited).toBe(0)
    expect(dev.output()).not.toContain(runId)
  })

  test('waits for a turn no longer than it may', async () => {
    const { dev } = await devWithTurn({ STEPWELL_DRAIN_TIMEOUT: '200ms' })

    const askedAt = performance.now()
    dev.signal('SIGTERM')

    expect(await dev.exited).toBe(0)
    // Far less than the default, and than the turn's own time-out.
    expect(performance.now() - askedAt).toBeLessThan(15_000)
  })

  test('is cut short by a second signal', async () => {
    const { dev } = await devWithTurn()

    dev.signal('SIGINT')
    await waitForLine(dev, 'Press Ctrl-C again')
    // Those that come at once with the first count as the same one.
    await waitUntil('it has ended', () => {
      dev.signal('SIGINT')
      return !dev.isRunning()
    })

    expect(await dev.exited).toBe(130)
  })

  test('while it starts is obeyed', async () => {
    const home = aHome()
    const dev = stepwell(['dev', '--port', '0'], { STEPWELL_HOME: home })
    await waitUntil(
      'Postgres is being made',
      async () => (await findServerProcesses(home)).length > 0 || !dev.isRunning(),
    )

    dev.signal('SIGTERM')

    expect(await dev.exited).toBe(0)
    expect(await findServerProcesses(home)).toEqual([])
  })
})
