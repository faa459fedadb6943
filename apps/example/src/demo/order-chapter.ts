import { PATHS } from '../app.ts'
import { TEST_CARDS } from '../outside/payments.ts'
import { postJson } from './deliver.ts'
import type { FollowedRun } from './run-watcher.ts'
import type { Scene } from './story.ts'

/** The bank is busy at first, and the parcel service says no for good. */
export async function undoOrder(scene: Scene): Promise<void> {
  const { narrator, watcher } = scene
  narrator.chapter(
    'An order that cannot be delivered',
    'Reserve, charge, ship. What failed for now is tried again; what failed for good undoes the rest in reverse order.',
  )
  const run = await placeOrder(scene, { id: 'o-1', sku: 'oak-bucket', card: TEST_CARDS.busy, country: 'AQ' })
  await watcher.untilOutcome(run, 'cancelled')
}

/** Places an order and follows its run. */
export async function placeOrder(
  { stack, narrator, watcher }: Scene,
  order: { id: string; sku: string; card?: string; country?: string },
): Promise<FollowedRun> {
  const { id, ...rest } = order
  narrator.tell('customer', `orders ${id}: ${Object.values(rest).join(', ')}`)
  const { status, body } = await postJson(stack.appUrl, PATHS.orders, order)
  const [runId] = body.runs ?? []
  if (runId === undefined) throw new Error(`The app answered ${status} to the order: ${body.error ?? 'no run'}`)
  return watcher.follow(runId, `order ${id}`)
}
