/** `npx pnpm dev`: an engine with the default home, and the example app, until Ctrl-C. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import colors from 'picocolors'
import { PATHS } from '../app.ts'
import { signDelivery } from '../webhooks/github-webhook.ts'
import { findPortFrom } from './free-ports.ts'
import { DEV_FOLDER } from './places.ts'
import { loadExamples, openedPullRequests } from './real-payloads.ts'
import { createStack } from './stack.ts'

const HOOK_SECRET = 'only-for-development'
const ENGINE_PORT = 3030
const APP_PORT = 3000

process.exitCode = await run()

async function run(): Promise<number> {
  mkdirSync(DEV_FOLDER, { recursive: true })
  const stack = createStack({
    logFolder: null,
    enginePort: await findPortFrom(ENGINE_PORT),
    appPort: await findPortFrom(APP_PORT),
    home: null,
    ledgerPath: join(DEV_FOLDER, 'ledger.jsonl'),
    appEnv: {
      GATEKEEPER_HOOK_SECRET: HOOK_SECRET,
      GATEKEEPER_REVIEW_TIMEOUT: '2m',
      GATEKEEPER_COOLDOWN: '10s',
      GATEKEEPER_APPROVAL_TIMEOUT: '10m',
    },
  })
  const interrupted = new Promise<'interrupted'>(resolve => {
    const onSignal = () => {
      resolve('interrupted')
      // Once more: the engine then stops at once, as it says.
      void stack.stop()
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  })
  const ended = startBoth(stack).catch((error: unknown) => (error instanceof Error ? error.message : String(error)))
  const end = await Promise.race([ended, interrupted])
  if (end !== 'interrupted') console.error(colors.red(`\n${end}`))
  await stack.stop()
  return end === 'interrupted' ? 0 : 1
}

/** Resolves with a sentence when one of the two has ended by itself. */
async function startBoth(stack: ReturnType<typeof createStack>): Promise<string> {
  const engine = await stack.startEngine()
  const app = await stack.startApp()
  console.log(describe(stack))
  return Promise.race([engine, app].map(child => child.ended.then(() => `The ${child.name} has ended. Stopping.`)))
}

function describe({ engineUrl, appUrl }: ReturnType<typeof createStack>): string {
  const json = "-H 'content-type: application/json'"
  return `
  App       ${colors.cyan(appUrl)}  what Gatekeeper did, as a page
  Runs      ${colors.cyan(`${engineUrl}/v1/runs`)}

  Try one of these in another terminal:

  1. A real webhook: a pull request was opened. It waits 2 minutes for a review, then it reminds.
     ${webhookCommand(appUrl)}

  2. An order. The bank is busy at first; with "card":"card-declined" or "country":"AQ" the order is undone. The answer has its
     run: ask where it is, or cancel it. The page shows the reference of its parcel, which waits to be collected.
     curl ${appUrl}${PATHS.orders} ${json} -d '{"sku":"oak-bucket","card":"card-busy"}'
     curl ${appUrl}${PATHS.orders}/run_…
     curl -X POST ${appUrl}${PATHS.orders}/run_…/cancel
     curl -X POST ${appUrl}${PATHS.parcels}/run_…/collected

  3. A new user: a sleep of 10 seconds, then a wait for approval, which comes with the second command.
     curl ${appUrl}${PATHS.users} ${json} -d '{"name":"Ada","email":"ada@example.com"}'
     curl -X POST ${appUrl}${PATHS.users}/1/approve

  Ctrl-C stops both. What they know is kept.
`
}

/** GitHub signs the bytes of the body and nothing else, so one signature is good for every delivery of a file. */
function webhookCommand(appUrl: string): string {
  const [example] = openedPullRequests(loadExamples())
  const body = Buffer.from(JSON.stringify(example?.payload))
  const path = join(DEV_FOLDER, 'pull-request-opened.json')
  writeFileSync(path, body)
  return [
    `curl ${appUrl}${PATHS.webhook} --data-binary '@${path}'`,
    "-H 'content-type: application/json' -H 'x-github-event: pull_request'",
    `-H "x-github-delivery: $(date +%s)" -H 'x-hub-signature-256: ${signDelivery(body, HOOK_SECRET)}'`,
  ].join(' \\\n       ')
}
