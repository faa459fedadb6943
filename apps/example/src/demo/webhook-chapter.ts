import type { PullRequestPayload, ReviewPayload } from '../webhooks/payload.ts'
import { deliverWebhook } from './deliver.ts'
import { type Example, loadExamples, openedPullRequests, submittedReviews, vary } from './real-payloads.ts'
import type { FollowedRun } from './run-watcher.ts'
import type { Scene } from './story.ts'

const DELIVERIES_AT_ONCE = 25

/** Three pull requests: one is merged, one is sent back, and nobody looks at the third. */
export async function reviewPullRequests(scene: Scene): Promise<void> {
  const { narrator, watcher } = scene
  const examples = loadExamples()
  const { withLabels, withoutDescription, ofOrganisation, comment } = pick(examples)
  narrator.chapter(
    'GitHub sends webhooks',
    'Real payloads from @octokit/webhooks-examples. Five checks in parallel, one comment, then the run waits for a review.',
  )
  const merged = await open(scene, withLabels, 'delivery-1')
  const sentBack = await open(scene, vary(withoutDescription, { number: 3 }), 'delivery-2')
  const forgotten = await open(scene, vary(ofOrganisation, { number: 4 }), 'delivery-3')
  const isWaiting = ({ view }: FollowedRun) => view?.state === 'waiting'
  await watcher.until('Waiting for reviews', () => [merged, sentBack, forgotten].every(isWaiting))

  await review(scene, comment, 'delivery-4')
  const waits = () => merged.journal.filter(entry => entry.type === 'wait_opened' && entry.key.startsWith('review'))
  await watcher.until('Waiting for the next review', () => waits().length === 2)
  narrator.tell('PR #2', 'a comment is no verdict: the run waits on', 'quiet')
  await review(scene, vary(comment, { state: 'approved', reviewer: 'octocat' }), 'delivery-5')
  await review(scene, vary(comment, { number: 3, state: 'changes_requested', reviewer: 'octocat' }), 'delivery-6')
  await watcher.untilOutcome(merged, 'merged')
  await watcher.untilOutcome(sentBack, 'changes-requested')

  await redeliver(scene, withLabels)
  await deliverTheRest(scene, examples)
}

/** Which payloads are told about: the opened ones differ in labels, reviewers, description and owner. */
function pick(examples: readonly Example[]) {
  const opened = openedPullRequests(examples)
  const [withLabels] = opened.filter(({ payload }) => payload.pull_request.labels.length > 0)
  const [withoutDescription] = opened.filter(({ payload }) => payload.pull_request.body === null)
  const [ofOrganisation] = opened.filter(({ payload }) => 'organization' in payload)
  const [comment] = submittedReviews(examples)
  if (!withLabels || !withoutDescription || !ofOrganisation || !comment) {
    throw new Error('@octokit/webhooks-examples is not the version that this demo was written for.')
  }
  return { withLabels, withoutDescription, ofOrganisation, comment }
}

async function open(scene: Scene, example: Example<PullRequestPayload>, deliveryId: string): Promise<FollowedRun> {
  const { pull_request: pullRequest } = example.payload
  tellWebhook(scene, example, `"${pullRequest.title}"`)
  const runs = await deliver(scene, example, deliveryId)
  const [runId] = runs
  if (runId === undefined) throw new Error(`${example.origin} has started no run.`)
  return scene.watcher.follow(runId, `PR #${pullRequest.number}`)
}

async function review(scene: Scene, example: Example<ReviewPayload>, deliveryId: string): Promise<void> {
  const { state, user } = example.payload.review
  tellWebhook(scene, example, `${state} by ${user.login}`)
  await deliver(scene, example, deliveryId)
}

/** GitHub keeps the id of a delivery when it delivers again, and the id is the event's. */
async function redeliver(scene: Scene, example: Example<PullRequestPayload>): Promise<void> {
  const before = scene.watcher.runs().map(({ id }) => id)
  const runs = await deliver(scene, example, 'delivery-1')
  const started = runs.filter(id => !before.includes(id)).length
  scene.narrator.tell(
    'webhook',
    `delivery-1 once more, by mistake: ${started} new runs`,
    started === 0 ? 'good' : 'bad',
  )
}

/** What no function is triggered by is an event all the same, for functions that are yet to be written. */
async function deliverTheRest(scene: Scene, examples: readonly Example[]): Promise<void> {
  const rest = examples.filter(({ event, payload }) => event !== 'pull_request' || payload.action !== 'opened')
  for (let at = 0; at < rest.length; at += DELIVERIES_AT_ONCE) {
    const started = await Promise.all(
      rest.slice(at, at + DELIVERIES_AT_ONCE).map((example, place) => deliver(scene, example, `rest-${at + place}`)),
    )
    if (started.flat().length > 0) throw new Error('A payload that no function is for has started a run.')
  }
  const kinds = new Set(rest.map(({ event }) => event)).size
  scene.narrator.tell(
    'webhook',
    `the other ${rest.length} payloads, of ${kinds} kinds: stored; they start nothing here`,
  )
}

async function deliver(scene: Scene, example: Example<unknown>, deliveryId: string): Promise<string[]> {
  const { stack, hookSecret } = scene
  const { status, body } = await deliverWebhook(stack.appUrl, { example, deliveryId, secret: hookSecret })
  if (status !== 202) throw new Error(`The app answered ${status} to ${example.origin}: ${body.error ?? ''}`)
  return body.runs ?? []
}

function tellWebhook(
  { narrator }: Scene,
  { event, payload, changes }: Example<PullRequestPayload | ReviewPayload>,
  what: string,
): void {
  const { repository, pull_request: pullRequest, action } = payload
  const changed = changes.length === 0 ? '' : ` (changed: ${changes.join(', ')})`
  narrator.tell('webhook', `${event}.${action} ${repository.full_name}#${pullRequest.number} ${what}${changed}`)
}
