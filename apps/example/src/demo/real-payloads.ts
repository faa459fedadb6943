/**
 * Payloads that GitHub has really sent, of the npm package @octokit/webhooks-examples: those of github.com and those of
 * GitHub Enterprise Server. None is invented. All its pull requests are Codertocat/Hello-World#2, all its submitted
 * reviews are comments, and their reviewer is the author: for another pull request or another verdict, `vary` changes
 * just those fields of a copy and says which.
 */
import { createRequire } from 'node:module'
import type { PullRequestPayload, ReviewPayload } from '../webhooks/payload.ts'

/** A payload, and what it is. */
export interface Example<Payload = Record<string, unknown>> {
  /** `pull_request`: the header X-GitHub-Event. */
  event: string
  payload: Payload
  /** Where it is in the package: `api.github.com pull_request[12]`. */
  origin: string
  /** What `vary` has changed: `number 2 -> 3`. */
  changes: string[]
}

/** What `vary` may change. Reviews have a verdict and somebody who gave it. */
export interface Variation {
  number?: number
  state?: 'approved' | 'changes_requested'
  reviewer?: string
}

const EDITIONS = ['api.github.com', 'ghes-31', 'ghes-32', 'ghes-33', 'ghes-34', 'ghes-35']

/** Every payload of the package. */
export function loadExamples(): Example[] {
  const require = createRequire(import.meta.url)
  return EDITIONS.flatMap(edition => {
    // The package's own type (WebhookDefinition) needs a package that is not ours to import; this is its shape.
    const webhooks = require(`@octokit/webhooks-examples/${edition}/index.json`) as {
      name: string
      examples: Record<string, unknown>[]
    }[]
    return webhooks.flatMap(({ name, examples }) =>
      examples.map((payload, at) => ({
        event: name,
        payload,
        origin: `${edition} ${name}[${at}]`,
        changes: [],
      })),
    )
  })
}

/** The pull requests that were opened. */
export function openedPullRequests(examples: readonly Example[]): Example<PullRequestPayload>[] {
  return only(examples, 'pull_request', 'opened') as Example<PullRequestPayload>[]
}

/** The pull requests that were closed, merged or not. */
export function closedPullRequests(examples: readonly Example[]): Example<PullRequestPayload>[] {
  return only(examples, 'pull_request', 'closed') as Example<PullRequestPayload>[]
}

/** The reviews that were submitted. */
export function submittedReviews(examples: readonly Example[]): Example<ReviewPayload>[] {
  return only(examples, 'pull_request_review', 'submitted') as Example<ReviewPayload>[]
}

/** GitHub documents what is in the payloads of an event and action: that is what makes the casts above safe. */
function only(examples: readonly Example[], event: string, action: string): Example<unknown>[] {
  return examples.filter(example => example.event === event && example.payload.action === action)
}

/** A copy with a few fields changed. */
export function vary<Payload extends PullRequestPayload | ReviewPayload>(
  example: Example<Payload>,
  variation: Variation,
): Example<Payload> {
  const { number, state, reviewer } = variation
  const payload = structuredClone(example.payload)
  const changes = [...example.changes]
  if (number !== undefined && number !== payload.pull_request.number) {
    changes.push(`number ${payload.pull_request.number} -> ${number}`)
    payload.pull_request.number = number
    if ('number' in payload) payload.number = number
  }
  if (state !== undefined && 'review' in payload) {
    changes.push(`state ${payload.review.state} -> ${state}`)
    payload.review.state = state
  }
  if (reviewer !== undefined && 'review' in payload) {
    changes.push(`reviewer ${payload.review.user.login} -> ${reviewer}`)
    payload.review.user.login = reviewer
  }
  return { ...example, payload, changes }
}
