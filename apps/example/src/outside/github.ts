import { createHash } from 'node:crypto'
import type { Ledger } from './ledger.ts'

/** Which pull request: `Codertocat/Hello-World`, 2. */
export interface PullRequestRef {
  repository: string
  number: number
}

/** The part of GitHub's API that Gatekeeper writes to. */
export interface GitHub {
  comment(pullRequest: PullRequestRef, body: string, key: string): Promise<{ commentId: number }>
  merge(pullRequest: PullRequestRef, key: string): Promise<{ sha: string }>
}

/** A GitHub that remembers in the ledger. */
export function createGitHub(ledger: Ledger): GitHub {
  return {
    async comment({ repository, number }, body, key) {
      const what = `${repository}#${number}: ${body}`
      return ledger.once({ service: 'github', action: 'comment', key, what }, () => ({
        commentId: ledger.lines().length + 1,
      }))
    },
    async merge({ repository, number }, key) {
      const what = `${repository}#${number}`
      return ledger.once({ service: 'github', action: 'merge', key, what }, () => ({
        sha: createHash('sha1').update(key).digest('hex'),
      }))
    },
  }
}
