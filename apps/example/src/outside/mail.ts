import type { Ledger } from './ledger.ts'

export interface Mail {
  send(to: { name: string; email: string }, subject: string, key: string): Promise<{ messageId: string }>
}

/** A mail provider that remembers in the ledger. */
export function createMail(ledger: Ledger): Mail {
  return {
    async send({ name, email }, subject, key) {
      const effect = { service: 'mail', action: 'send', key, what: `"${subject}" to ${name} <${email}>` }
      return ledger.once(effect, () => ({ messageId: `m-${ledger.lines().length + 1}` }))
    },
  }
}
