import { type Carrier, createCarrier } from './carrier.ts'
import { createGitHub, type GitHub } from './github.ts'
import type { Ledger } from './ledger.ts'
import { createMail, type Mail } from './mail.ts'
import { createPayments, type Payments } from './payments.ts'
import { createStock, type Stock } from './stock.ts'
import { createUsers, type Users } from './users.ts'

/** Everybody whom the functions talk to. */
export interface OutsideWorld {
  carrier: Carrier
  github: GitHub
  mail: Mail
  payments: Payments
  stock: Stock
  users: Users
}

/** The fakes, all on one ledger. */
export function createOutsideWorld(ledger: Ledger, options: { answerAfterMs: number }): OutsideWorld {
  return {
    carrier: createCarrier(ledger),
    github: createGitHub(ledger),
    mail: createMail(ledger),
    payments: createPayments(ledger, options),
    stock: createStock(ledger),
    users: createUsers(ledger),
  }
}
