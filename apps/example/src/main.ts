/** Starts Gatekeeper: reads settings, listens, tells the engine where it is. */
import { randomUUID } from 'node:crypto'
import { serve as listen } from '@hono/node-server'
import { StepwellClient, serve } from '@stepwell/sdk'
import { createApp, PATHS } from './app.ts'
import type { Events } from './events.ts'
import { createFunctions } from './functions/functions.ts'
import { openLedger } from './outside/ledger.ts'
import { createOutsideWorld } from './outside/outside-world.ts'
import { readSettings } from './settings.ts'
import { witnessSteps } from './witness-steps.ts'

// Everybody who talks to it is on this machine.
const HOST = '127.0.0.1'

const settings = readSettings(process.env)
const ledger = openLedger({ path: settings.ledgerPath, now: () => new Date(), pid: process.pid })
const outside = createOutsideWorld(ledger, settings)
const functions = createFunctions(outside, settings).map(definition => witnessSteps(definition, ledger))
const client = new StepwellClient<Events>({ appUrl: `http://${HOST}:${settings.port}${PATHS.stepwell}` })
let isReady = false
const app = createApp({
  client,
  endpoint: serve(functions),
  hookSecret: settings.hookSecret,
  isReady: () => isReady,
  ledger,
  newOrderId: randomUUID,
  outside,
})

const server = listen({ fetch: app.fetch, port: settings.port, hostname: HOST }, async () => {
  console.log(`Gatekeeper listens at http://localhost:${settings.port}`)
  try {
    const synced = await client.sync(functions)
    isReady = true
    console.log(`${synced.functions.length} functions are known to the engine`)
  } catch (error) {
    // The app is of use without the engine only as a page that says so; the next start tries again.
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
    server.close()
  }
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // Steps that run are cut off, as by a crash: they run again at the next start.
  process.once(signal, () => process.exit(0))
}
