import { describe, expect, test } from 'vitest'
import { loadExamples, openedPullRequests } from '../src/demo/real-payloads.ts'
import {
  checkAuthor,
  checkDescription,
  checkReviewers,
  checkSize,
  checkTitle,
  writeReport,
} from '../src/functions/pull-request-checks.ts'
import type { PullRequestInFull } from '../src/webhooks/payload.ts'

const [example] = openedPullRequests(loadExamples())

/** The pull request of a real payload, with some fields changed. */
function aPullRequest(changes: Partial<PullRequestInFull> = {}): PullRequestInFull {
  if (example === undefined) throw new Error('There is no example of an opened pull request.')
  return { ...example.payload.pull_request, ...changes }
}

describe('checkSize', () => {
  test.each([
    [{ additions: 1, deletions: 1, changed_files: 1 }, 'ok'],
    [{ additions: 200, deletions: 200, changed_files: 20 }, 'ok'],
    [{ additions: 400, deletions: 1, changed_files: 1 }, 'warning'],
    [{ additions: 1, deletions: 1, changed_files: 21 }, 'warning'],
  ])('%j is %s', (changes, verdict) => {
    expect(checkSize(aPullRequest(changes)).verdict).toBe(verdict)
  })
})

describe('checkTitle', () => {
  test.each([
    ['Update the README', 'ok', 'The title reads well.'],
    ['Update the README with new information.', 'warning', 'The title ends with a full stop.'],
    ['WIP update', 'warning', 'The title says that it is not finished.'],
    ['update.', 'warning', 'The title ends with a full stop and does not begin with a capital letter.'],
    [`U${'p'.repeat(72)}`, 'warning', 'The title is longer than 72 characters.'],
    ['Écrire mieux', 'ok', 'The title reads well.'],
  ])('%j is %s', (title, verdict, text) => {
    expect(checkTitle(aPullRequest({ title }))).toEqual({ check: 'title', verdict, text })
  })
})

describe('checkDescription', () => {
  test.each([
    [null, 'warning'],
    ['', 'warning'],
    ['   \n  ', 'warning'],
    ['Fixes it.', 'warning'],
    ['This is a pretty simple change that we need to pull into master.', 'ok'],
  ])('%j is %s', (body, verdict) => {
    expect(checkDescription(aPullRequest({ body })).verdict).toBe(verdict)
  })
})

test('newcomers are welcomed', () => {
  expect(checkAuthor(aPullRequest({ author_association: 'FIRST_TIME_CONTRIBUTOR' })).text).toContain('@Codertocat')
  expect(checkAuthor(aPullRequest()).verdict).toBe('ok')
})

test('somebody has to be asked', () => {
  expect(checkReviewers(aPullRequest({ requested_reviewers: [] })).verdict).toBe('note')
  expect(checkReviewers(aPullRequest({ requested_reviewers: [{ login: 'octocat' }] })).text).toContain('@octocat')
})

test('the report tells what is open, or that nothing is', () => {
  const open = checkDescription(aPullRequest({ body: null }))
  const fine = checkSize(aPullRequest())

  expect(writeReport([open, fine])).toBe('description: There is no description. Say why.')
  expect(writeReport([fine])).toBe('All checks passed. Over to the reviewers.')
})
