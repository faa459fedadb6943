/** Checks an event's data against a Standard Schema at run time. */
import type { Event } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import type { SchemaIssue, SchemaResult, StandardSchema } from './standard-schema.ts'

/**
 * The event with its data as the schema gives it back, or an error `event_data_invalid` that names the path. A promise
 * when the schema is asynchronous. Never throws: a schema that throws makes the data invalid.
 */
export function validateEvent(
  event: Event,
  schema: StandardSchema,
): Event | StepwellError | Promise<Event | StepwellError> {
  try {
    const result = schema['~standard'].validate(event.data)
    if (!('then' in result)) return read(event, result)
    // Some libraries have promises of their own.
    return Promise.resolve(result).then(
      resolved => read(event, resolved),
      error => schemaThrew(event, error),
    )
  } catch (error) {
    return schemaThrew(event, error)
  }
}

function read(event: Event, result: SchemaResult<unknown>): Event | StepwellError {
  // The schema's output stands in for the data: it may be any value (a Date, a class instance), as its type says.
  if (result.issues === undefined) return { ...event, data: result.value as Event['data'] }
  const errors = result.issues.map(issue => ({ path: pathOf(issue), message: issue.message }))
  const told = errors.map(({ path, message }) => `${path}: ${message}`).join('; ')
  const message = `The data of event "${event.name}" (${event.id}) does not fit its schema: ${told}. Correct the sender or the schema.`
  return new StepwellError('event_data_invalid', message, { errors })
}

function pathOf(issue: SchemaIssue): string {
  let path = 'data'
  for (const part of issue.path ?? []) {
    const key = typeof part === 'object' ? part.key : part
    path += typeof key === 'number' ? `[${key}]` : `.${String(key)}`
  }
  return path
}

function schemaThrew(event: Event, cause: unknown): StepwellError {
  const why = cause instanceof Error ? cause.message : String(cause)
  const message = `The schema of event "${event.name}" (${event.id}) threw an error: ${why}. Correct the schema.`
  return new StepwellError('event_data_invalid', message, { cause })
}
