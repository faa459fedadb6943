/** Schemas of what senders post: events, messages to runs, the wish that a run ends, and the wish to follow one. */
import * as z from 'zod'
import { problemOfChannel } from './channel.ts'
import type { NewEvent } from './event.ts'
import { LIMITS } from './limits.ts'
import { instant, json, name, textWith } from './schema-parts.ts'

/** One event as a sender posts it. The size of `data` is not checked here. */
export const newEventSchema = z.object({
  name: name(LIMITS.eventNameChars, 'is missing: an event needs a name, such as "user.created"'),
  data: json.exactOptional(),
  id: name(LIMITS.eventIdChars).exactOptional(),
  ts: instant.exactOptional(),
})

export const newEvents = z
  .array(newEventSchema)
  .max(LIMITS.eventsPerCall, `holds more than ${LIMITS.eventsPerCall} events: send them in several calls`)

/**
 * The body of `POST /v1/events`: one event, an array, or `{ events: [...] }`. Paths of problems are those of the form
 * that was sent: `name`, `[3].name` or `events[3].name`.
 */
export const eventsBodySchema: z.ZodType<{ events: NewEvent[] }> = z.unknown().transform((body, context) => {
  const isWrapped = typeof body === 'object' && body !== null && 'events' in body
  const isSingle = !isWrapped && !Array.isArray(body)
  const parsed = newEvents.safeParse(isWrapped ? body.events : isSingle ? [body] : body)
  if (parsed.success) return { events: parsed.data }
  for (const issue of parsed.error.issues) {
    const path = isWrapped ? ['events', ...issue.path] : isSingle ? issue.path.slice(1) : issue.path
    context.issues.push({ ...issue, path, input: undefined })
  }
  return z.NEVER
})

/** The body of `POST /v1/runs/{id}/signals`: one message. */
export const newSignalSchema = z.object({
  name: name(LIMITS.eventNameChars, 'is missing: a signal needs a name, such as "approve"'),
  data: json.exactOptional(),
  id: name(LIMITS.eventIdChars).exactOptional(),
})

/** The body of `POST /v1/runs/{id}/cancel`, which may be left out. */
export const cancelBodySchema = z.object({ reason: name(LIMITS.cancelMessageChars).exactOptional() })

/** The name of a channel on which a run publishes. */
export const channel = textWith(problemOfChannel)

/** The body of `POST /v1/runs/{id}/tokens`, which may be left out: which channels, and for how long. */
export const newStreamTokenSchema = z.object({
  channels: z.array(channel).min(1).max(LIMITS.channelsPerStream).exactOptional(),
  ttlMs: z.int().min(LIMITS.streamTokenMinMs).max(LIMITS.streamTokenMaxMs).exactOptional(),
})
