import { LIMITS } from './limits.ts'
import { problemOfName } from './name.ts'

/**
 * The key of one use of a step's id (SPEC.md section 6): `charge`, then `charge#2`, `charge#3`.
 * @param use from 1, in the order in which the handler asked
 */
export function stepKey(id: string, use: number): string {
  return use === 1 ? id : `${id}#${use}`
}

/**
 * What is wrong with a step's id and what to do, or null when nothing is. An id is 1 to 256 characters (code points)
 * without control characters and does not end in `#` and digits: that is how the second use of an id is written.
 * @param id whatever the handler passed
 */
export function checkStepId(id: unknown): string | null {
  if (typeof id !== 'string') {
    return `A step's id must be a string, not ${id === null ? 'null' : typeof id}. Pass a name such as "charge" first.`
  }
  const problem = problemOfName(id, LIMITS.stepIdChars)
  if (problem !== null) return `The step id ${quote(id)} ${problem}. Choose a short, fixed name.`
  if (/#[0-9]+$/.test(id)) {
    return `The step id ${quote(id)} ends in "#" and digits, which is how repeated uses of an id are numbered. Use the plain id again: it is numbered for you.`
  }
  if (id.startsWith(UNDO_PREFIX)) {
    return `The step id ${quote(id)} begins with "${UNDO_PREFIX}", which is how the undos of steps are recorded. Choose another name.`
  }
  if (id.startsWith(PUBLISH_PREFIX)) {
    return `The step id ${quote(id)} begins with "${PUBLISH_PREFIX}", which is how messages of step.publish are recorded. Choose another name.`
  }
  return null
}

/** The id under which messages of a channel are recorded: this and the channel. */
export const PUBLISH_PREFIX = 'publish:'

/** The key of the step that undoes another: this and the other's key. */
export const UNDO_PREFIX = 'undo:'

function quote(id: string): string {
  return JSON.stringify(id.length > 60 ? `${id.slice(0, 60)}…` : id)
}
