import type { HttpBindings } from '@hono/node-server'
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { Catalog } from '../core/catalog.ts'
import type { Engine } from '../engine.ts'
import type { Log } from '../log.ts'
import type { StreamGrant } from './stream-tokens.ts'

/** What the routes use of an engine. */
export type HttpEngine = Pick<
  Engine,
  | 'sendEvents'
  | 'sendMessage'
  | 'cancelRun'
  | 'takeReports'
  | 'syncApp'
  | 'awaitRun'
  | 'followRun'
  | 'catalogs'
  | 'pools'
  | 'isDraining'
>

export interface HttpOptions {
  engine: HttpEngine
  /** `dev`: loopback only, and unsigned requests act on the dev workspace. `start`: everything is signed. */
  mode: 'dev' | 'start'
  /** In dev: the workspace that unsigned requests act on. */
  devWorkspace?: string
  log: Log
}

/** What is known about a request when its route runs. */
export interface HttpEnv {
  /** Empty or absent when a test calls the app without a server. */
  Bindings: Partial<HttpBindings>
  Variables: {
    requestId: string
    /** The workspace that the request acts on, once it is known who asks. */
    catalog: Catalog
    /** The raw body; empty when there is none. */
    body: Buffer
    /** The `webhook-id` of a verified request: its answer is signed and bound to it. */
    signedId: string | undefined
    /** What came instead of a signature, on the one route that takes it. */
    streamToken: string | undefined
    /** What a verified stream token allows. */
    streamGrant: StreamGrant | undefined
  }
}

export type HttpApp = OpenAPIHono<HttpEnv>
export type HttpContext = Context<HttpEnv>
