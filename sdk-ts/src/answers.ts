/** Settles the promises of a handler with what entries brought. */
import type { Event } from '@stepwell/protocol'
import type { Ask, SettlingEntry } from './ask.ts'
import { childError, readValue, stepError } from './entry-values.ts'
import { childTimedOut, StepwellError } from './errors.ts'
import { validateEvent } from './event-schema.ts'

export class Answers {
  /** How many schemas are still looking at an event: the handler's promise follows. */
  validatingCount = 0
  readonly #onValidated: () => void

  /** @param onValidated is called when an asynchronous schema has settled a promise of the handler */
  constructor(onValidated: () => void) {
    this.#onValidated = onValidated
  }

  /** @param sentText the output as this process sent it, where the entry does not repeat it */
  give(ask: Ask, entry: SettlingEntry, sentText: string | undefined): void {
    if (entry.type === 'step_failed') ask.reject(stepError(entry))
    else if (entry.type === 'child_failed') ask.reject(childError(entry))
    else if (entry.type === 'child_expired') ask.reject(childTimedOut(entry.key))
    else if (entry.type === 'wait_matched') this.#giveEvent(ask, entry.data)
    else ask.resolve(readValue(entry, sentText))
  }

  #giveEvent(ask: Ask, event: Extract<SettlingEntry, { type: 'wait_matched' }>['data']): void {
    const schema = ask.wanted.kind === 'wait' ? ask.wanted.schema : undefined
    const validated = schema === undefined ? event : validateEvent(event, schema)
    if (!(validated instanceof Promise)) {
      answerWith(ask, validated)
      return
    }
    this.validatingCount += 1
    void validated.then(result => {
      this.validatingCount -= 1
      answerWith(ask, result)
      this.#onValidated()
    })
  }
}

function answerWith(ask: Ask, event: Event | StepwellError): void {
  if (event instanceof StepwellError) ask.reject(event)
  else ask.resolve(event)
}
