/*
 * The shapes of answers, for the description of the API and for the test that compares them with real answers. Types of
 * the same names in the protocol say what each member means.
 */
import { ERROR_CODES, RUN_STATES } from '@stepwell/protocol'
import { z } from 'zod'

const instant = z.iso.datetime()
const anything = z.unknown()

const trigger = z.strictObject({ event: z.string() })

export const problemView = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.enum(ERROR_CODES),
  detail: z.string(),
  errors: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
  requestId: z.string(),
})

export const syncView = z.strictObject({
  workspace: z.string(),
  url: z.string(),
  functions: z.array(
    z.strictObject({
      id: z.string(),
      triggers: z.array(trigger),
      change: z.enum(['added', 'changed', 'unchanged']),
    }),
  ),
  removed: z.array(z.string()),
})

export const runView = z.strictObject({
  id: z.string(),
  function: z.string(),
  version: z.int(),
  state: z.enum(RUN_STATES),
  output: anything,
  error: z.looseObject({ name: z.string(), message: z.string() }).nullable(),
  waitingFor: z.string().nullable(),
  status: anything,
  tags: z.record(z.string(), z.string()),
  parent: z.string().nullable(),
  attempts: z.int(),
  generation: z.int(),
  createdAt: instant,
  finishedAt: instant.nullable(),
})

export const signalView = z.strictObject({ id: z.string() })

export const streamTokenView = z.strictObject({ token: z.string(), expiresAt: instant })

export const cancelView = z.strictObject({ run: z.string(), state: z.enum(RUN_STATES) })

export const sentView = z.strictObject({
  events: z.array(z.strictObject({ id: z.string(), runs: z.array(z.string()), ended: z.array(runView).optional() })),
})

export const runListView = z.strictObject({ runs: z.array(runView), next: z.string().nullable() })

export const journalView = z.strictObject({
  run: z.string(),
  generation: z.int(),
  entries: z.array(
    z.looseObject({
      seq: z.int(),
      turn: z.int(),
      at: instant,
      type: z.string(),
      key: z.string().optional(),
      saw: z.int().optional(),
      data: anything,
      startedMs: z.number().optional(),
      durationMs: z.number().optional(),
    }),
  ),
  next: z.int().nullable(),
})

export const liveView = z.strictObject({
  status: z.literal('live'),
  name: z.literal('stepwell'),
  mode: z.enum(['dev', 'start']),
})

export const readyView = z.strictObject({ status: z.literal('ready') })
