/** The parts of GitHub's payloads that Gatekeeper reads. The events carry the payloads whole. */
export interface Repository {
  full_name: string
}

export interface Account {
  login: string
}

export interface PullRequest {
  number: number
  title: string
  /** Null when the author wrote none. */
  body: string | null
  user: Account
  author_association: string
  requested_reviewers: Account[]
  labels: { name: string }[]
}

/** Only `pull_request` payloads say how large the change is; those of reviews do not. */
export interface PullRequestInFull extends PullRequest {
  additions: number
  deletions: number
  changed_files: number
}

export interface PullRequestPayload {
  action: string
  number: number
  pull_request: PullRequestInFull
  repository: Repository
}

export interface ReviewPayload {
  action: string
  pull_request: PullRequest
  repository: Repository
  review: {
    state: 'approved' | 'changes_requested' | 'commented' | 'dismissed'
    body: string | null
    user: Account
  }
}
