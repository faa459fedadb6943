/** Checks events that are about to be sent, and turns them into the text that travels. */
import { LIMITS, type NewEvent } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { toInstantText } from './instants.ts'
import { fits, toJsonText } from './json.ts'
import { isName } from './names.ts'
import type { Encoder } from './payloads.ts'

/** Room for what stands around the events in a body. */
const ENVELOPE_BYTES = 4_096

/**
 * The JSON text of an array of one or more events.
 * @param where names the sender in errors: `step "notify"`
 * @param encoder writes the data; without one, it goes as it is
 * @throws StepwellError `body_invalid`, `value_not_json`, `event_too_large`, `too_many_events`, `body_too_large`
 */
export function toEventsText(events: unknown, where: string, encoder: Encoder | null = null): string {
  const list: unknown[] = Array.isArray(events) ? events : [events]
  if (list.length > LIMITS.eventsPerCall) {
    throw new StepwellError(
      'too_many_events',
      `${where} sends ${list.length} events; at most ${LIMITS.eventsPerCall} go at once.`,
    )
  }
  const texts = list.map((event, at) =>
    toEventText(event, list.length === 1 ? where : `${where}, events[${at}]`, encoder),
  )
  const text = `[${texts.join(',')}]`
  if (!fits(text, LIMITS.bodyBytes - ENVELOPE_BYTES)) {
    const message = `${where} sends more than ${LIMITS.bodyBytes} bytes at once. Send the events in several calls.`
    throw new StepwellError('body_too_large', message)
  }
  return text
}

function toEventText(event: unknown, where: string, encoder: Encoder | null): string {
  if (typeof event !== 'object' || event === null) {
    throw new StepwellError(
      'body_invalid',
      `${where}: an event is an object such as { name: "user.created", data: { id: 1 } }.`,
    )
  }
  const { name, data, id, ts } = event as Partial<NewEvent>
  if (!isName(name, LIMITS.eventNameChars)) {
    const message = `${where}: an event needs a name of 1 to ${LIMITS.eventNameChars} characters.`
    throw new StepwellError('body_invalid', message)
  }
  if (id !== undefined && !isName(id, LIMITS.eventIdChars)) {
    const message = `${where}: the id of event "${name}" is no text of 1 to ${LIMITS.eventIdChars} characters.`
    throw new StepwellError('body_invalid', message)
  }
  if (ts !== undefined && toInstantText(ts) === null) {
    const message = `${where}: the ts of event "${name}" is no instant. Use ISO 8601 with a zone (2026-01-31T12:00:00Z).`
    throw new StepwellError('body_invalid', message)
  }
  const plain = toJsonText(data, `The data of event "${name}" (${where})`)
  const dataText = encoder === null ? plain : encoder.encodeText(plain ?? '{}', { kind: 'event', name })
  if (dataText !== undefined && !fits(dataText, LIMITS.eventBytes)) {
    const message = `The data of event "${name}" (${where}) has more than ${LIMITS.eventBytes} bytes. Store it elsewhere and send a reference.`
    throw new StepwellError('event_too_large', message)
  }
  const rest = JSON.stringify({ name, id, ts: ts === undefined ? ts : toInstantText(ts) })
  return dataText === undefined ? rest : `${rest.slice(0, -1)},"data":${dataText}}`
}
