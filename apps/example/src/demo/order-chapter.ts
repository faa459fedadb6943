import type { RunView } from '@stepwell/sdk'
import { PATHS } from '../app.ts'
import { TEST_CARDS } from '../outside/payments.ts'
import { getJson, postJson } from './deliver.ts'
import type { FollowedRun } from './run-watcher.ts'
import type { Scene } from './story.ts'

/** The bank is busy at first, and the parcel service says no for good. */
export async function undoOrder(scene: Scene): Promise<void> {
  const { narrator, watcher } = scene
  narrator.chapter(
    'An order that cannot be delivered',
    'Reserve, charge, deliver. What failed for now is tried again; what failed for good undoes the rest in reverse order.',
  )
  const order = { id: 'o-1', sku: 'oak-bucket', card: TEST_CARDS.busy, country: 'AQ' }
  const run = await placeOrder(scene, order, 'failed')
  await watcher.untilOutcome(run, 'failed')
}

/** All is done but the collection of the parcel, which is a run of its own, and then the order is cancelled. */
export async function cancelOrder(scene: Scene): Promise<void> {
  const { stack, narrator, watcher } = scene
  narrator.chapter(
    'An order that is cancelled',
    'The parcel is a child of the order and waits to be collected. Cancelling the order cancels it, and undoes both.',
  )
  const run = await placeOrder(scene, { id: 'o-2', sku: 'oak-bucket' }, 'cancelled')
  const parcel = await waitingParcel(scene, run)
  const { body } = await getJson(stack.appUrl, `${PATHS.orders}/${run.id}`)
  narrator.tell('customer', `asks where her order is: ${JSON.stringify({ status: body.status, tags: body.tags })}`)
  const { status } = await postJson(stack.appUrl, `${PATHS.orders}/${run.id}/cancel`, {})
  if (status !== 202) throw new Error(`The app answered ${status} to the cancelling.`)
  narrator.tell('customer', 'has changed her mind')
  await watcher.untilOutcome(run, 'cancelled')
  await watcher.untilOutcome(parcel, 'cancelled')
}

/** Places an order and follows its run. */
export async function placeOrder(
  { stack, narrator, watcher }: Scene,
  order: { id: string; sku: string; card?: string; country?: string },
  endsAs: RunView['state'] = 'completed',
): Promise<FollowedRun> {
  const { id, ...rest } = order
  narrator.tell('customer', `orders ${id}: ${Object.values(rest).join(', ')}`)
  const { status, body } = await postJson(stack.appUrl, PATHS.orders, order)
  const [runId] = body.runs ?? []
  if (runId === undefined) throw new Error(`The app answered ${status} to the order: ${body.error ?? 'no run'}`)
  return watcher.follow(runId, `order ${id}`, { endsAs })
}

/** The carrier comes for the parcel of an order, and says so. */
export async function collectParcel(scene: Scene, order: FollowedRun): Promise<void> {
  const { stack, narrator } = scene
  const parcel = await waitingParcel(scene, order)
  const { status } = await postJson(stack.appUrl, `${PATHS.parcels}/${parcel.id}/collected`, {})
  if (status !== 202) throw new Error(`The app answered ${status} to the collection.`)
  narrator.tell('carrier', 'has collected the parcel')
}

/** The parcel of an order, as soon as it waits to be collected. */
async function waitingParcel({ watcher }: Scene, order: FollowedRun): Promise<FollowedRun> {
  const find = () => watcher.runs().find(({ view }) => view?.parent === order.id && view.state === 'waiting')
  await watcher.until('The booking of the parcel', () => find() !== undefined)
  return find() as FollowedRun
}
