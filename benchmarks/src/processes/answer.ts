import type { Answered } from './child.ts'

/** The child's side of `NodeChild.ask`. The process ends, in order, when its parent asks it to or has gone. */
export function answerParent(answer: (question: never) => Promise<unknown>): void {
  process.once('SIGTERM', () => process.exit(0))
  process.once('disconnect', () => process.exit(0))
  process.on('message', async message => {
    const { id, question } = message as { id: number; question: never }
    const reply: Answered = await answer(question).then(
      given => ({ id, answer: given }),
      error => ({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    )
    process.send?.(reply)
  })
}
