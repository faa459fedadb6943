/*
 * An engine in a process of its own that says how much memory it keeps. Run with --expose-gc.
 */
import { getRequestListener } from '@hono/node-server'
import { createEngine } from '../../src/engine.ts'
import { createHttp } from '../../src/http/app.ts'
import { createLog } from '../../src/log.ts'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { listen } from '../support/app-server.ts'

const { CONNECTION = '', SIGNING_KEY = '' } = process.env

const log = createLog('silent')
let listener: ReturnType<typeof getRequestListener> | null = null
const front = await listen((request, response) => listener?.(request, response))
const engine = createEngine({ connection: JSON.parse(CONNECTION), log, selfUrl: front.url, isAlone: true })
listener = getRequestListener(createHttp({ engine, mode: 'start', log }).fetch)
await ensureWorkspace(engine.pools.upkeep, 'default/test', SIGNING_KEY)
await engine.start()

process.on('message', () => {
  // Twice: what the first one finalises, the second one frees.
  globalThis.gc?.()
  globalThis.gc?.()
  process.send?.({ heapBytes: process.memoryUsage().heapUsed })
})
process.send?.({ url: front.url })
