/** The `step` of one turn. Each call checks its arguments and makes one ask under the next key of its id. */
import { checkStepId, PUBLISH_PREFIX } from '@stepwell/protocol'
import type { Wanted } from './ask.ts'
import { StepwellError } from './errors.ts'
import { toJsonText } from './json.ts'
import { toEventsText } from './new-events.ts'
import { CONTINUED, type Encoder } from './payloads.ts'
import type { RetryRules } from './retries.ts'
import type { RunRandom } from './run-random.ts'
import type { Said } from './said.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { InvokeOptions, RunOptions, Step, TxOptions, WaitOptions } from './step.ts'
import { readDuration, readInstant, readInvoke, readPublish, readReceive, readRun, readWait } from './step-asks.ts'
import { mapItems, poll } from './step-loops.ts'
import { readStatus, readTags } from './step-said.ts'
import { readTx } from './step-tx.ts'

/** What the steps of a turn are made of. */
export interface StepParts {
  /** Takes a checked ask; it may throw a StepwellError (`duplicate_step`, `nested_step`). */
  ask: (id: string, wanted: Wanted) => Promise<unknown>
  /** Has races know when a promise that is made of steps is settled. */
  watched: (work: Promise<unknown>) => Promise<unknown>
  /** The rules of the function, for steps that have none. */
  retries: RetryRules
  /** Throws when it is called inside a step body, where nothing of this is replayed. */
  refuseInBody: (what: string) => void
  /** The run's clock, ISO 8601. */
  at: () => string
  random: RunRandom
  said: Said
  /** Something new was said. */
  onSaid: () => void
  /** Writes what leaves the app; null when it goes as it is. */
  encoder: Encoder | null
  /** Ends the generation; `inputText` is JSON. */
  continueAsNew: (inputText: string | undefined) => void
}

/** The steps of one turn. */
export function createStep(parts: StepParts): Step {
  const { ask, retries, refuseInBody, random, said, encoder } = parts

  function askFor(id: string, read: () => Wanted): Promise<never> {
    return answerOf(() => {
      const problem = checkStepId(id)
      if (problem !== null) throw new StepwellError('step_id_invalid', problem)
      return ask(id, read())
    })
  }

  /** A refused call rejects instead of throwing, so that `Promise.all` and `.catch` see it like any other failure. */
  function answerOf(askIt: () => Promise<unknown>): Promise<never> {
    let answer: Promise<unknown>
    try {
      answer = askIt()
    } catch (error) {
      answer = Promise.reject(error)
      // Like any step, it may fail without being awaited.
      void answer.catch(() => {})
    }
    // The journal holds what this handler put there: its type is what the caller says.
    return answer as Promise<never>
  }

  const step: Step = {
    run: (id: string, body: unknown, options?: RunOptions) => askFor(id, () => readRun(id, body, options, retries)),
    tx: (id: string, client: unknown, body: unknown, options?: TxOptions) =>
      askFor(id, () => readTx(id, { client, body, options, retries })),
    sleep: (id, duration) =>
      askFor(id, () => {
        const ms = readDuration(duration, `step.sleep "${id}"`)
        return { kind: 'sleep', ms, askedAtMs: performance.now() }
      }),
    sleepUntil: (id, instant) => askFor(id, () => ({ kind: 'sleep', until: readInstant(id, instant, parts.at()) })),
    waitForEvent: (id: string, options: WaitOptions & { schema?: StandardSchema }) =>
      askFor(id, () => readWait(id, options)),
    waitForSignal: (id, name, options) => askFor(id, () => readReceive(id, name, options)),
    sendEvent: (id, events) =>
      askFor(id, () => ({ kind: 'send', eventsText: toEventsText(events, `step "${id}"`, encoder) })),
    publish: (channel, data) =>
      answerOf(() => {
        const wanted = readPublish(channel, data)
        return ask(PUBLISH_PREFIX + channel, wanted)
      }),
    invoke: (id: string, options: InvokeOptions) => askFor(id, () => readInvoke(id, options, encoder)),
    map: (id: string, items: readonly unknown[], ...rest: unknown[]) =>
      parts.watched(mapItems(step, id, items, rest)) as never,
    poll: (id, body, options) => parts.watched(poll(step, id, body, options)) as never,
    now() {
      refuseInBody('step.now')
      return new Date(parts.at())
    },
    random() {
      refuseInBody('step.random')
      return random.next()
    },
    uuid() {
      refuseInBody('step.uuid')
      return random.uuid()
    },
    setStatus(status) {
      refuseInBody('step.setStatus')
      said.setStatus(readStatus(status, encoder))
      parts.onSaid()
    },
    setTags(tags) {
      refuseInBody('step.setTags')
      said.setTags(readTags(tags, said.tags))
      parts.onSaid()
    },
    continueAsNew(input) {
      refuseInBody('step.continueAsNew')
      const text = toJsonText(input, 'The input of step.continueAsNew')
      parts.continueAsNew(encoder === null ? text : encoder.encodeText(text ?? '{}', CONTINUED))
      // Nothing after it is reached.
      return new Promise(() => {})
    },
  }
  return step
}
