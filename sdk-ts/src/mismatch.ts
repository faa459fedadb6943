/** Code that changed while runs of it were under way: the journal knows what it does not ask for. */
import { describeRecorded, isSameAsk, type Recorded } from './ask.ts'
import { StepwellError } from './errors.ts'
import type { Slot } from './slot.ts'

/** Keys in a message. */
const MAX_KEYS_SHOWN = 3

/** The first key that the journal has and this code did not ask for, or asked for as something else. */
export function findMismatch(slots: Iterable<Slot>, functionId: string): StepwellError | null {
  const all = [...slots]
  for (const slot of all) {
    if (slot.recorded === null) continue
    if (slot.ask === null) return mismatch(functionId, slot.key, slot.recorded, describeNew(all))
    if (!isSameAsk(slot.recorded, slot.ask.wanted)) {
      return mismatch(functionId, slot.key, slot.recorded, `asks for ${describeRecorded(slot.ask.wanted)}`)
    }
  }
  return null
}

/** What this code asks for and the journal does not know: most often the new name of what is missing. */
function describeNew(slots: Slot[]): string {
  const unknown = slots.filter(slot => slot.recorded === null && slot.ask !== null)
  if (unknown.length === 0) return 'does not ask for it'
  const keys = unknown.slice(0, MAX_KEYS_SHOWN).map(slot => JSON.stringify(slot.key))
  return `does not ask for it, but for ${keys.join(', ')}${unknown.length > keys.length ? ' and others' : ''}`
}

function mismatch(functionId: string, key: string, recorded: Recorded, instead: string): StepwellError {
  return new StepwellError(
    'journal_mismatch',
    `The journal of this run has ${describeRecorded(recorded)} under the key ${JSON.stringify(key)}; ` +
      `the code of "${functionId}" that runs now ${instead}. Put the step back, or deploy the old code again until ` +
      'its runs have ended, or give the changed function a new version and serve the old one beside it.',
  )
}
