/** Checks events that are about to be sent, and turns them into the text that travels. */
import { LIMITS, type NewEvent } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { fits, toJsonText } from './json.ts'

/** Room for what stands around the events in a body. */
const ENVELOPE_BYTES = 4_096

/**
 * The JSON text of an array of one or more events.
 * @param where names the sender in errors: `step "notify"`
 * @throws StepwellError `body_invalid`, `value_not_json`, `event_too_large`, `too_many_events`, `body_too_large`
 */
export function toEventsText(events: unknown, where: string): string {
  const list: unknown[] = Array.isArray(events) ? events : [events]
  if (list.length > LIMITS.eventsPerCall) {
    throw new StepwellError(
      'too_many_events',
      `${where} sends ${list.length} events; at most ${LIMITS.eventsPerCall} go at once.`,
    )
  }
  const texts = list.map((event, at) => toEventText(event, list.length === 1 ? where : `${where}, events[${at}]`))
  const text = `[${texts.join(',')}]`
  if (!fits(text, LIMITS.bodyBytes - ENVELOPE_BYTES)) {
    const message = `${where} sends more than ${LIMITS.bodyBytes} bytes at once. Send the events in several calls.`
    throw new StepwellError('body_too_large', message)
  }
  return text
}

function toEventText(event: unknown, where: string): string {
  if (typeof event !== 'object' || event === null) {
    throw new StepwellError(
      'body_invalid',
      `${where}: an event is an object such as { name: "user.created", data: { id: 1 } }.`,
    )
  }
  const { name, data, id, ts } = event as Partial<NewEvent>
  if (typeof name !== 'string' || name === '')
    throw new StepwellError('body_invalid', `${where}: the event has no name.`)
  const dataText = toJsonText(data, `The data of event "${name}" (${where})`)
  if (dataText !== undefined && !fits(dataText, LIMITS.eventBytes)) {
    const message = `The data of event "${name}" (${where}) has more than ${LIMITS.eventBytes} bytes. Store it elsewhere and send a reference.`
    throw new StepwellError('event_too_large', message)
  }
  const rest = JSON.stringify({ name, id, ts })
  return dataText === undefined ? rest : `${rest.slice(0, -1)},"data":${dataText}}`
}
