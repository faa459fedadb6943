import { createFunction, type DurableFunction, type Duration } from '@stepwell/sdk'
import type { Events } from '../events.ts'
import type { Mail } from '../outside/mail.ts'
import type { Users } from '../outside/users.ts'

/** Welcomes a new user when the excitement is over and somebody has approved. The function of the README. */
export function onboarding(parts: {
  users: Users
  mail: Mail
  cooldown: Duration
  approvalTimeout: Duration
}): DurableFunction {
  const { users, mail, cooldown, approvalTimeout } = parts
  return createFunction<Events, 'user.created'>({
    id: 'onboarding',
    trigger: { event: 'user.created' },
    handler: async ({ event, step }) => {
      const user = await step.run('load-user', () => users.find(event.data.id))
      await step.sleep('cooldown', cooldown)
      const ok = await step.waitForEvent('approve', {
        event: 'approval.received',
        match: { userId: user.id },
        timeout: approvalTimeout,
      })
      await step.run('send-email', ({ idempotencyKey }) => mail.send(user, 'Welcome', idempotencyKey))
      return { approved: ok !== null }
    },
  })
}
