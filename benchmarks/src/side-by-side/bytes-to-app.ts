import { StepwellClient } from '@stepwell/sdk'
import type { NodeChild } from '../processes/child.ts'
import type { Stepwell } from '../stepwell/start-stepwell.ts'
import type { BytesToApp } from './result.ts'

const MANY_STEPS = 1_000
const SETTLED_MS = 100

/**
 * What reaches the app for a run: turns, and the acknowledgements of its reports. The run is started and waited for from
 * here, so that the answers to a client are not among it.
 */
export async function measureBytesToApp(stepwell: Stepwell, app: NodeChild): Promise<BytesToApp> {
  const client = new StepwellClient({ url: stepwell.url, signingKey: stepwell.signingKey })
  let number = 0
  async function bytesOf(count: number): Promise<number> {
    number -= 1
    const before = await app.ask<number>({ do: 'received_bytes' })
    const [sent] = await client.send({ name: 'bench.steps', data: { number, count, ms: 0 } })
    const run = await client.waitForRun(sent?.runs[0] ?? '', { timeout: '2m' })
    if (run.state !== 'completed') throw new Error(`${run.id} is ${run.state}.`)
    // The last acknowledgement may still be on its way.
    await new Promise(resolve => setTimeout(resolve, SETTLED_MS))
    return (await app.ask<number>({ do: 'received_bytes' })) - before
  }
  // Connections are open after the first.
  await bytesOf(1)
  return { ofOneStep: await bytesOf(1), ofManySteps: await bytesOf(MANY_STEPS), manySteps: MANY_STEPS }
}
