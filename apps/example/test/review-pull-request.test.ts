import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  closedPullRequests,
  loadExamples,
  openedPullRequests,
  submittedReviews,
  vary,
} from '../src/demo/real-payloads.ts'
import { effectsOf, executionsOf, type Gatekeeper, onlyRun, startGatekeeper } from './gatekeeper.ts'

const examples = loadExamples()
const opened = openedPullRequests(examples)
const reviews = submittedReviews(examples)
const [anOpened] = opened as [(typeof opened)[number]]
const [aReview] = reviews as [(typeof reviews)[number]]

let gatekeeper: Gatekeeper

beforeAll(async () => {
  gatekeeper = await startGatekeeper({ GATEKEEPER_REVIEW_TIMEOUT: '10m' })
})

afterAll(() => gatekeeper.stop())

/** Opens the pull request of an example under a number of its own, and waits until its run waits for a review. */
async function openPullRequest(number: number, example = anOpened): Promise<string> {
  const runId = onlyRun(await gatekeeper.deliver(vary(example, { number })))
  await gatekeeper.until('Waiting for a review', async () => (await gatekeeper.run(runId)).state === 'waiting')
  return runId
}

describe('every pull request and every review of @octokit/webhooks-examples', () => {
  test('is checked, waits through all comments, and is merged when it is approved', async () => {
    // Unchanged, they are all Codertocat/Hello-World#2: one review is for all of them.
    const runIds = await Promise.all(opened.map(async example => onlyRun(await gatekeeper.deliver(example))))
    for (const runId of runIds) {
      await gatekeeper.until('Waiting for a review', async () => (await gatekeeper.run(runId)).state === 'waiting')
    }

    for (const review of reviews) expect(await gatekeeper.deliver(review)).toMatchObject({ status: 202 })
    for (const runId of runIds) {
      await gatekeeper.until('Waiting after all comments', async () => {
        const journal = await gatekeeper.journal(runId)
        return journal.some(entry => entry.type === 'wait_opened' && entry.key === `review#${reviews.length + 1}`)
      })
    }
    await gatekeeper.deliver(vary(aReview, { state: 'approved', reviewer: 'octocat' }))

    for (const [at, runId] of runIds.entries()) {
      const { state, output } = await gatekeeper.ended(runId)
      // All titles end with a full stop, and some authors have described nothing.
      const warnings = opened[at]?.payload.pull_request.body === null ? 2 : 1
      expect({ state, output }).toEqual({
        state: 'completed',
        output: { outcome: 'merged', warnings, sha: expect.stringMatching(/^[0-9a-f]{40}$/) },
      })
      expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['github.comment', 'github.merge'])
    }
    expect(opened.length).toBeGreaterThan(10)
    expect(reviews.length).toBeGreaterThan(8)
  })

  test('ends when the author closes it, with a real payload of closing', async () => {
    const [closed] = closedPullRequests(examples)
    const runId = await openPullRequest(2)

    if (closed !== undefined) await gatekeeper.deliver(closed)

    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'closed' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['github.comment'])
  })
})

test('changes that were asked for become a comment', async () => {
  const runId = await openPullRequest(10)

  await gatekeeper.deliver(vary(aReview, { number: 10, state: 'changes_requested', reviewer: 'octocat' }))

  expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'changes-requested' })
  const comments = gatekeeper.ledger().filter(line => line.kind === 'effect' && line.key.startsWith(runId))
  expect(comments.at(-1)).toMatchObject({ what: 'Codertocat/Hello-World#10: @Codertocat: @octocat asks for changes.' })
})

test('a review of another pull request is not for this one', async () => {
  const eleven = await openPullRequest(11)
  const twelve = await openPullRequest(12)

  await gatekeeper.deliver(vary(aReview, { number: 12, state: 'approved', reviewer: 'octocat' }))
  await gatekeeper.ended(twelve)

  expect(await gatekeeper.run(eleven)).toMatchObject({ state: 'waiting' })
  const journal = await gatekeeper.journal(eleven)
  expect(journal.filter(entry => entry.type === 'wait_matched')).toEqual([])
})

test('an approval that comes before the run waits for it is not lost', async () => {
  const [openedAnswer] = await Promise.all([
    gatekeeper.deliver(vary(anOpened, { number: 13 })),
    gatekeeper.deliver(vary(aReview, { number: 14, state: 'approved', reviewer: 'octocat' })),
  ])
  await gatekeeper.deliver(vary(aReview, { number: 13, state: 'approved', reviewer: 'octocat' }))

  expect((await gatekeeper.ended(onlyRun(openedAnswer))).output).toMatchObject({ outcome: 'merged' })
})

test('a webhook that is delivered again starts nothing and does nothing twice', async () => {
  const example = vary(anOpened, { number: 15 })
  const answers = await Promise.all([1, 2, 3].map(() => gatekeeper.deliver(example, 'the-same-delivery')))
  const runIds = [...new Set(answers.flatMap(({ body }) => body.runs ?? []))]
  expect(runIds).toHaveLength(1)
  const [runId = ''] = runIds
  await gatekeeper.until('Waiting for a review', async () => (await gatekeeper.run(runId)).state === 'waiting')

  const late = await gatekeeper.deliver(example, 'the-same-delivery')

  expect(late.status).toBe(202)
  expect((late.body.runs ?? []).filter(id => id !== runId)).toEqual([])
  expect(executionsOf(gatekeeper.ledger(), runId, 'post-report')).toBe(1)
  const comments = gatekeeper.ledger().filter(line => line.kind === 'effect' && line.what.includes('#15:'))
  expect(comments).toHaveLength(1)
})

test('nobody reviews: somebody is reminded', async () => {
  await gatekeeper.stack.killApp()
  await gatekeeper.stack.startApp({ GATEKEEPER_REVIEW_TIMEOUT: '200ms' })

  const runIds = await Promise.all(
    opened.map(async (example, at) => onlyRun(await gatekeeper.deliver(vary(example, { number: 100 + at })))),
  )

  for (const runId of runIds) {
    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'reminded' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['github.comment', 'github.comment'])
  }
})
