import { LIMITS } from './limits.ts'
import { problemOfName } from './name.ts'

/** Channels of Stepwell's own begin so. */
const OWN_PREFIX = 'stepwell.'

/** The event that ends a stream of messages: its data is `{ state }` of the run. */
export const STREAM_END = 'stepwell.end'

/**
 * What is wrong with the name of a channel, as the end of a sentence, or null when nothing is: 1 to 128 characters (code
 * points) without control characters, and not one of Stepwell's own.
 */
export function problemOfChannel(text: string): string | null {
  const problem = problemOfName(text, LIMITS.channelChars)
  if (problem !== null) return problem
  return text.startsWith(OWN_PREFIX) ? `begins with "${OWN_PREFIX}", which is Stepwell's own` : null
}
