/** Steps that are made of steps: for each item, and until something is so. */
import { type Duration, parseDuration } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import type { Retries } from './retries.ts'
import type { InvokeOptions, Step } from './step.ts'
import { readDuration } from './step-asks.ts'
import type { StepContext } from './step-body.ts'

type ItemBody = (item: unknown, context: StepContext & { readonly index: number }) => unknown

/** `step.map`: with a body and options, or with the options of an invoke. */
export async function mapItems(step: Step, id: string, items: readonly unknown[], rest: unknown[]): Promise<unknown[]> {
  const [first, second] = rest
  const hasBody = typeof first === 'function'
  const options = (hasBody ? second : first) as { concurrency?: number; retries?: Retries } | undefined
  if (!Array.isArray(items)) throw new TypeError(`step.map "${id}" needs an array of items.`)
  if (!hasBody && (typeof options !== 'object' || options === null || !('function' in options))) {
    throw new TypeError(`step.map "${id}" needs a body or a function: step.map("${id}", items, item => …).`)
  }
  const { concurrency = items.length, ...own } = options ?? {}
  if (items.length > 0 && (!Number.isInteger(concurrency) || concurrency < 1)) {
    throw new TypeError(`The concurrency of step.map "${id}" is ${concurrency}; use a whole number from 1.`)
  }
  const one = (index: number): Promise<unknown> => {
    const item = items[index]
    const key = `${id}:${index}`
    if (!hasBody) return step.invoke(key, { ...(own as unknown as InvokeOptions), data: item })
    const body = first as ItemBody
    return step.run(key, context => body(item, withIndex(context, index)), own)
  }
  const results: unknown[] = new Array(items.length)
  let next = 0
  // As many lines as may be under way, each taking the next item: which one that is follows from the journal alone.
  const line = async () => {
    for (let index = next++; index < items.length; index = next++) {
      try {
        results[index] = await one(index)
      } catch (error) {
        next = items.length
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, line))
  return results
}

/** The context, and which item this is. What costs something is made when it is asked for. */
function withIndex(context: StepContext, index: number): StepContext & { readonly index: number } {
  const { attempt, idempotencyKey } = context
  return {
    attempt,
    idempotencyKey,
    index,
    get signal() {
      return context.signal
    },
    get heartbeat() {
      return context.heartbeat
    },
  }
}

/** `step.poll`. */
export async function poll(
  step: Step,
  id: string,
  body: (context: StepContext) => unknown,
  options: { every: Duration; until?: (value: never) => boolean; timeout?: Duration; retries?: Retries },
): Promise<never> {
  if (typeof options !== 'object' || options === null || options.every === undefined) {
    throw new TypeError(`step.poll "${id}" does not say how often to try: step.poll("${id}", body, { every: "10s" }).`)
  }
  const everyMs = readDuration(options.every, `step.poll "${id}"`)
  const timeoutMs = options.timeout === undefined ? Number.POSITIVE_INFINITY : parseDuration(options.timeout)
  const isEnough = options.until ?? ((value: unknown) => value !== null && value !== undefined && value !== false)
  const startedMs = step.now().getTime()
  for (;;) {
    const value = await step.run(id, body, options.retries === undefined ? {} : { retries: options.retries })
    // What the body gives is what `until` was declared for.
    if (isEnough(value as never)) return value as never
    if (step.now().getTime() + everyMs > startedMs + timeoutMs) throw pollTimedOut(id, options.timeout)
    await step.sleep(`${id}:rest`, everyMs)
  }
}

function pollTimedOut(id: string, timeout: Duration | undefined): StepwellError {
  return new StepwellError(
    'poll_timed_out',
    `step.poll "${id}" did not get what it waits for within ${timeout}. Catch this, or give it longer.`,
  )
}
