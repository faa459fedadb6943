import type { Ledger } from './ledger.ts'

export interface User {
  id: number
  name: string
  email: string
}

/** Nobody has signed up under this id. */
export class UnknownUserError extends Error {
  override readonly name = 'UnknownUserError'
}

export interface Users {
  /** An address signs up once: the second time it gets the user that it has. */
  signUp(person: { name: string; email: string }): User
  /** @throws UnknownUserError */
  find(id: number): User
}

/** A user table that is kept in the ledger. */
export function createUsers(ledger: Ledger): Users {
  const all = () => ledger.lines().flatMap(line => (isSignUp(line) ? [line.result as User] : []))
  return {
    signUp({ name, email }) {
      const effect = { service: 'users', action: 'sign-up', key: email.toLowerCase(), what: `${name} <${email}>` }
      return ledger.once(effect, (): User => ({ id: all().length + 1, name, email }))
    },
    find(id) {
      const user = all().find(candidate => candidate.id === id)
      if (user === undefined) throw new UnknownUserError(`There is no user ${id}. Sign up first: POST /users.`)
      return user
    },
  }
}

function isSignUp(line: { kind: string }): line is { kind: 'effect'; result: unknown } {
  return line.kind === 'effect' && 'action' in line && line.action === 'sign-up'
}
