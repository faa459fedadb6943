/** Reads what a handler says of its run, or says what is wrong with it. */
import { LIMITS, type Tags } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { fits, toJsonText } from './json.ts'
import { isName } from './names.ts'
import { type Encoder, STATUS } from './payloads.ts'

/** A status as JSON text, null for none: what it is, and what the engine gets. */
export interface StatusTexts {
  text: string | null
  wireText: string | null
}

/**
 * Reads a status.
 * @param encoder writes it; without one, it goes as it is
 * @throws StepwellError `value_not_json` or `status_too_large`
 */
export function readStatus(status: unknown, encoder: Encoder | null): StatusTexts {
  const text = toJsonText(status, 'The status of the run') ?? null
  if (text === null || text === 'null') return { text: null, wireText: null }
  const wireText = encoder === null ? text : encoder.encodeText(text, STATUS)
  if (fits(wireText, LIMITS.statusBytes)) return { text, wireText }
  const message = `The status of the run has more than ${LIMITS.statusBytes} bytes. Say where the run is in a few words or numbers, and record the rest in a step.`
  throw new StepwellError('status_too_large', message)
}

/**
 * Tags to add to those that are there.
 * @throws StepwellError `tags_invalid`
 */
export function readTags(tags: { [name: string]: string | null }, known: Tags): { [name: string]: string | null } {
  if (typeof tags !== 'object' || tags === null || Array.isArray(tags)) {
    throw tagsInvalid('they are no object; pass names and texts: { customer: "c_1" }')
  }
  for (const [name, value] of Object.entries(tags)) {
    if (!isName(name, LIMITS.tagNameChars))
      throw tagsInvalid(`a name is no text of 1 to ${LIMITS.tagNameChars} characters`)
    if (value === null || (typeof value === 'string' && isName(value, LIMITS.tagValueChars))) continue
    throw tagsInvalid(
      `"${name}" is no text of 1 to ${LIMITS.tagValueChars} characters; turn it into one, or use null to take it away`,
    )
  }
  const names = new Set([...Object.keys(known), ...Object.keys(tags)])
  if (names.size > LIMITS.tagsPerRun) throw tagsInvalid(`there would be more than ${LIMITS.tagsPerRun}`)
  return tags
}

function tagsInvalid(why: string): StepwellError {
  return new StepwellError('tags_invalid', `The tags of the run are not valid: ${why}.`)
}
