import { expect, test, vi } from 'vitest'
import { anEngine } from './harness.ts'

test('a handler that returns without having awaited a step is told so', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  const engine = await anEngine(async ({ step }) => {
    void step.run('forgotten', () => 1)
    return 'done'
  })

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({ output: 'done' })
  expect(warn).toHaveBeenCalledWith(expect.stringMatching(/"fn".*did not run: "forgotten"\. Await the step\./))
  warn.mockRestore()
})
