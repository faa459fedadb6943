/** What Gatekeeper looks at before it asks people to: pure functions over the payload of a pull request. */
import type { PullRequest, PullRequestInFull } from '../webhooks/payload.ts'

export interface Finding {
  check: 'size' | 'title' | 'description' | 'author' | 'reviewers'
  /** `ok`: nothing to say. `note`: good to know. `warning`: somebody should change something. */
  verdict: 'ok' | 'note' | 'warning'
  text: string
}

const MAX_LINES = 400
const MAX_FILES = 20
const MAX_TITLE_CHARS = 72
const MIN_DESCRIPTION_CHARS = 20
// https://docs.github.com/en/graphql/reference/enums#commentauthorassociation
const NEWCOMERS = new Set(['FIRST_TIMER', 'FIRST_TIME_CONTRIBUTOR', 'NONE'])

export function checkSize({ additions, deletions, changed_files }: PullRequestInFull): Finding {
  const size = `${additions + deletions} lines in ${changed_files} ${changed_files === 1 ? 'file' : 'files'}`
  const isLarge = additions + deletions > MAX_LINES || changed_files > MAX_FILES
  return isLarge
    ? { check: 'size', verdict: 'warning', text: `${size} are hard to review. Split the pull request.` }
    : { check: 'size', verdict: 'ok', text: `${size}.` }
}

export function checkTitle({ title }: PullRequest): Finding {
  const faults = [
    ...(title.length > MAX_TITLE_CHARS ? [`is longer than ${MAX_TITLE_CHARS} characters`] : []),
    ...(title.endsWith('.') ? ['ends with a full stop'] : []),
    ...(/^(wip|draft|fixup!)\b/i.test(title) ? ['says that it is not finished'] : []),
    ...(/^\p{Lu}/u.test(title) ? [] : ['does not begin with a capital letter']),
  ]
  return faults.length === 0
    ? { check: 'title', verdict: 'ok', text: 'The title reads well.' }
    : { check: 'title', verdict: 'warning', text: `The title ${faults.join(' and ')}.` }
}

export function checkDescription({ body }: PullRequest): Finding {
  const chars = (body ?? '').trim().length
  if (chars === 0) return { check: 'description', verdict: 'warning', text: 'There is no description. Say why.' }
  return chars < MIN_DESCRIPTION_CHARS
    ? { check: 'description', verdict: 'warning', text: `The description has ${chars} characters. Say why.` }
    : { check: 'description', verdict: 'ok', text: 'The description says why.' }
}

export function checkAuthor({ user, author_association }: PullRequest): Finding {
  return NEWCOMERS.has(author_association)
    ? { check: 'author', verdict: 'note', text: `Welcome, @${user.login}: this is your first contribution.` }
    : { check: 'author', verdict: 'ok', text: `@${user.login} knows the place (${author_association.toLowerCase()}).` }
}

export function checkReviewers({ requested_reviewers }: PullRequest): Finding {
  const names = requested_reviewers.map(reviewer => `@${reviewer.login}`).join(', ')
  return names === ''
    ? { check: 'reviewers', verdict: 'note', text: 'Nobody has been asked for a review yet.' }
    : { check: 'reviewers', verdict: 'ok', text: `${names} will look at it.` }
}

/** The comment that Gatekeeper leaves on the pull request. */
export function writeReport(findings: readonly Finding[]): string {
  const open = findings.filter(finding => finding.verdict !== 'ok')
  if (open.length === 0) return 'All checks passed. Over to the reviewers.'
  return open.map(({ check, text }) => `${check}: ${text}`).join(' ')
}
