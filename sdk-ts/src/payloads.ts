/**
 * Payloads on their way through middleware: everything that the app hands to the engine (as JSON text, written once) and gets
 * back (as parsed JSON, in entries of a journal). What was never handed over, such as the output of a step that gave nothing,
 * goes through none of it. Errors, names, ids, tags and matches do not either: the engine works on them.
 */
import type { Entry, Event, Json, RunView } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import { toJsonText } from './json.ts'
import type { NamedMiddleware, Payload } from './middleware.ts'
import { isRecord } from './read-entries.ts'

/** Writes payloads. */
export interface Encoder {
  /**
   * @param text JSON
   * @returns the JSON text that the engine gets
   * @throws StepwellError `middleware_failed`, `value_not_json`
   */
  encodeText(text: string, payload: Payload): string
}

export const STATUS: Payload = { kind: 'status', name: null }
export const RESULT: Payload = { kind: 'result', name: null }
/** The names that the engine gives to the events which start a child and the next generation of a run. */
export const INVOKED: Payload = { kind: 'event', name: 'stepwell.invoked' }
export const CONTINUED: Payload = { kind: 'event', name: 'stepwell.continued' }

/** What runs that follow an end start with: events which hold the one that the other run had started with. */
const FOLLOWING: ReadonlySet<string> = new Set(['stepwell.run.failed', 'stepwell.run.cancelled'])

/** The `encode` and `decode` of a list of middleware. */
export class Payloads implements Encoder {
  readonly #decoders: readonly NamedMiddleware[]
  readonly #encoders: readonly NamedMiddleware[]

  /** @param list the outermost first: it decodes first and encodes last */
  constructor(list: readonly NamedMiddleware[]) {
    this.#decoders = list
    this.#encoders = [...list].reverse()
  }

  encodeText(text: string, payload: Payload): string {
    let value = JSON.parse(text) as Json
    for (const middleware of this.#encoders) value = callPart(middleware, 'encode', value, payload)
    // A middleware may give back what JSON cannot say.
    return toJsonText(value, `What middleware made of ${describePayload(payload)}`) ?? 'null'
  }

  /** @throws StepwellError `middleware_failed` */
  decode(value: Json, payload: Payload): Json {
    let decoded = value
    for (const middleware of this.#decoders) decoded = callPart(middleware, 'decode', decoded, payload)
    return decoded
  }

  /**
   * An entry with its payload as the handler gets it.
   * @throws StepwellError `middleware_failed`
   */
  decodeEntry<E extends Entry>(entry: E): E {
    switch (entry.type) {
      case 'run_started':
      case 'wait_matched':
        return { ...entry, data: this.#decodeEvent(entry.data) }
      case 'signal_received': {
        const { name, data } = entry.data
        return { ...entry, data: { ...entry.data, data: this.decode(data, { kind: 'signal', name }) } }
      }
      case 'step_completed':
        if (entry.data === undefined) return entry
        return { ...entry, data: this.decode(entry.data, { kind: 'output', name: entry.key }) }
      case 'child_completed':
        return entry.data === undefined ? entry : { ...entry, data: this.decode(entry.data, RESULT) }
      default:
        return entry
    }
  }

  /**
   * A run with its output and status as the handler gave them.
   * @throws StepwellError `middleware_failed`
   */
  decodeRun(run: RunView): RunView {
    // Null is what the engine says where there is nothing; a null that was given has been encoded.
    const output = run.output === null ? null : this.decode(run.output, RESULT)
    return { ...run, output, status: run.status === null ? null : this.decode(run.status, STATUS) }
  }

  #decodeEvent(event: Event): Event {
    const { name, data } = event
    if (FOLLOWING.has(name) && isRecord(data) && isRecord(data.event)) {
      // The engine made this event around one that had been encoded.
      return { ...event, data: { ...data, event: { ...this.#decodeEvent(data.event as unknown as Event) } } }
    }
    return { ...event, data: this.decode(data, { kind: 'event', name }) }
  }
}

/**
 * The payloads of one turn. What a middleware cannot read or write is no fault of the run: the turn is refused, and sent again
 * when the app may have been corrected.
 */
export class TurnPayloads implements Encoder {
  readonly #payloads: Payloads
  /** Why the turn is to be refused. */
  failure: StepwellError | null = null
  /** The status of the run, as the engine knows it. */
  readonly wireStatus: Json | undefined
  /** Called when there is a failure. */
  onFailure: () => void = () => {}

  constructor(payloads: Payloads, wireStatus: Json | undefined) {
    this.#payloads = payloads
    this.wireStatus = wireStatus
  }

  encodeText(text: string, payload: Payload): string {
    return this.#noteFailure(() => this.#payloads.encodeText(text, payload))
  }

  /** The JSON text of what a replay will give for what has been encoded. */
  readBack(encodedText: string, payload: Payload): string {
    return this.#noteFailure(() => {
      const value = this.#payloads.decode(JSON.parse(encodedText) as Json, payload)
      return toJsonText(value, `What middleware gave back of ${describePayload(payload)}`) ?? 'null'
    })
  }

  #noteFailure<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      this.failure ??= error instanceof StepwellError ? error : failed(String(error), error)
      this.onFailure()
      throw error
    }
  }
}

function callPart({ one, name }: NamedMiddleware, part: 'encode' | 'decode', value: Json, payload: Payload): Json {
  if (one[part] === undefined) return value
  let given: unknown
  try {
    given = one[part](value, payload)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw failed(`"${part}" of middleware ${name} threw an error about ${describePayload(payload)}: ${why}`, cause)
  }
  if (given instanceof Promise) {
    given.catch(() => {})
    throw failed(`"${part}" of middleware ${name} gave a promise. Payloads are rewritten synchronously.`)
  }
  if (given === undefined) throw failed(`"${part}" of middleware ${name} gave nothing. Return the value.`)
  // Checked when it is written as text.
  return given as Json
}

function describePayload({ kind, name }: Payload): string {
  return name === null ? `the ${kind} of a run` : `the ${kind} ${JSON.stringify(name)}`
}

function failed(message: string, cause?: unknown): StepwellError {
  return new StepwellError('middleware_failed', message, { cause })
}
