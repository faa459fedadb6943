import { createFunction, type DurableFunction, type Duration } from '@stepwell/sdk'
import type { Events } from '../events.ts'
import type { GitHub } from '../outside/github.ts'
import {
  checkAuthor,
  checkDescription,
  checkReviewers,
  checkSize,
  checkTitle,
  writeReport,
} from './pull-request-checks.ts'

/** A pull request that is talked about for longer than this is not decided by a machine. */
const MAX_REVIEWS = 50

/**
 * Shepherds one pull request from its opening to its end. A run lives for as long as the review takes, which may be
 * weeks; nothing of it is held in memory meanwhile.
 */
export function reviewPullRequest(parts: { github: GitHub; reviewTimeout: Duration }): DurableFunction {
  const { github, reviewTimeout } = parts
  return createFunction<Events, 'github.pull_request.opened'>({
    id: 'review-pull-request',
    trigger: { event: 'github.pull_request.opened' },
    handler: async ({ event, step }) => {
      const { repository, pull_request: opened } = event.data
      const pullRequest = { repository: repository.full_name, number: opened.number }
      const match = { 'repository.full_name': repository.full_name, 'pull_request.number': opened.number }

      const findings = await Promise.all([
        step.run('check-size', () => checkSize(opened)),
        step.run('check-title', () => checkTitle(opened)),
        step.run('check-description', () => checkDescription(opened)),
        step.run('check-author', () => checkAuthor(opened)),
        step.run('check-reviewers', () => checkReviewers(opened)),
      ])
      await step.run('post-report', ({ idempotencyKey }) =>
        github.comment(pullRequest, writeReport(findings), idempotencyKey),
      )
      const warnings = findings.filter(finding => finding.verdict === 'warning').length

      // Asked for once, raced in every round: the author may close the pull request while everybody waits.
      const closed = step.waitForEvent('closed', { event: 'github.pull_request.closed', match })
      for (let round = 1; round <= MAX_REVIEWS; round += 1) {
        const review = step.waitForEvent('review', {
          event: 'github.pull_request_review.submitted',
          match,
          timeout: reviewTimeout,
        })
        const news = await Promise.race([review, closed])

        if (news === null) {
          const whom = opened.requested_reviewers.map(reviewer => `@${reviewer.login}`).join(' ') || 'Maintainers'
          await step.run('remind', ({ idempotencyKey }) =>
            github.comment(pullRequest, `${whom}: this waits for a review.`, idempotencyKey),
          )
          return { outcome: 'reminded' as const, warnings }
        }
        if (news.name === 'github.pull_request.closed') return { outcome: 'closed' as const, warnings }

        const { state, user } = news.data.review
        if (state === 'approved') {
          const { sha } = await step.run('merge', ({ idempotencyKey }) => github.merge(pullRequest, idempotencyKey))
          return { outcome: 'merged' as const, warnings, sha }
        }
        if (state === 'changes_requested') {
          await step.run('ask-for-changes', ({ idempotencyKey }) =>
            github.comment(pullRequest, `@${opened.user.login}: @${user.login} asks for changes.`, idempotencyKey),
          )
          return { outcome: 'changes-requested' as const, warnings }
        }
        // A comment decides nothing: wait for the next review.
      }
      return { outcome: 'undecided' as const, warnings }
    },
  })
}
