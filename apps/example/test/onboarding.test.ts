import { afterAll, beforeAll, expect, test } from 'vitest'
import { PATHS } from '../src/app.ts'
import { effectsOf, executionsOf, type Gatekeeper, onlyRun, startGatekeeper } from './gatekeeper.ts'

let gatekeeper: Gatekeeper

beforeAll(async () => {
  gatekeeper = await startGatekeeper({ GATEKEEPER_COOLDOWN: '300ms', GATEKEEPER_APPROVAL_TIMEOUT: '10m' })
})

afterAll(() => gatekeeper.stop())

async function signUp(name: string): Promise<{ runId: string; userId: number }> {
  const answer = await gatekeeper.post(PATHS.users, { name, email: `${name}@example.com` })
  const { id } = answer.body.user as { id: number }
  return { runId: onlyRun(answer), userId: id }
}

const approve = (userId: number) => gatekeeper.post(`${PATHS.users}/${userId}/approve`, {})
const waitsFor = async (runId: string, what: string) =>
  gatekeeper.until(`Waiting for ${what}`, async () => (await gatekeeper.run(runId)).waitingFor?.includes(what) ?? false)

test('a user who is approved gets a mail', async () => {
  const { runId, userId } = await signUp('ada')
  await waitsFor(runId, 'approval.received')

  await approve(userId)

  expect(await gatekeeper.ended(runId)).toMatchObject({ state: 'completed', output: { approved: true } })
  expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['mail.send'])
})

test('an approval during the cool-down counts', async () => {
  const { runId, userId } = await signUp('brian')

  await approve(userId)

  expect((await gatekeeper.ended(runId)).output).toEqual({ approved: true })
})

test('the approval of one user is not that of another', async () => {
  const grace = await signUp('grace')
  const linus = await signUp('linus')
  await waitsFor(grace.runId, 'approval.received')
  await waitsFor(linus.runId, 'approval.received')

  await approve(linus.userId)
  await gatekeeper.ended(linus.runId)

  expect(await gatekeeper.run(grace.runId)).toMatchObject({ state: 'waiting' })
})

test('an engine that is killed while a run sleeps and waits loses nothing', async () => {
  const { runId, userId } = await signUp('margaret')
  await waitsFor(runId, 'cooldown')

  await gatekeeper.stack.killEngine()
  const approval = approve(userId)
  const [answer] = await Promise.all([approval, gatekeeper.stack.startEngine()])

  // A client that gave up in the meantime says so, and its sender comes again.
  if (answer.status !== 202) expect(await approve(userId)).toMatchObject({ status: 202 })
  expect((await gatekeeper.ended(runId)).output).toEqual({ approved: true })
  expect(executionsOf(gatekeeper.ledger(), runId, 'load-user')).toBe(1)
  expect(executionsOf(gatekeeper.ledger(), runId, 'send-email')).toBe(1)
})

test('a user whom nobody approves gets the mail all the same', async () => {
  await gatekeeper.stack.killApp()
  await gatekeeper.stack.startApp({ GATEKEEPER_APPROVAL_TIMEOUT: '200ms' })

  const { runId } = await signUp('dennis')

  expect((await gatekeeper.ended(runId)).output).toEqual({ approved: false })
  expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['mail.send'])
})

test('an address that signs up twice is one user and one run', async () => {
  const { runId } = await signUp('barbara')

  const again = await gatekeeper.post(PATHS.users, { name: 'barbara', email: 'BARBARA@example.com' })

  expect((again.body.runs ?? []).filter(id => id !== runId)).toEqual([])
})
