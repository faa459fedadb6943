/**
 * What survives JSON. A value is recorded as text and comes back as `JSON.parse` of that text, in the live run and on
 * every replay. What JSON would change without a word (a Map, a function, NaN) is therefore an error that names the path.
 */
import { LIMITS } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'

/**
 * The JSON text of a value, or undefined for undefined.
 * @param what names the value in the error: `The output of step "charge"`
 * @throws StepwellError `value_not_json`, naming the path (`$.items[3].when`)
 */
export function toJsonText(value: unknown, what: string): string | undefined {
  if (value === undefined) return undefined
  try {
    const problem = findProblem(value, '', [])
    if (problem === null) return JSON.stringify(value)
    throw notJson(what, pathOf(problem.path), problem.why)
  } catch (error) {
    if (error instanceof StepwellError) throw error
    // A toJSON or getter that throws, or a value nested deeper than the stack.
    const why = error instanceof RangeError ? 'it is nested too deeply' : 'reading it threw an error'
    throw new StepwellError('value_not_json', `${what} cannot be recorded: ${why}. Return plain data.`, {
      cause: error,
    })
  }
}

/**
 * As `toJsonText`, for a value that ends up as one recorded output: at most `LIMITS.stepOutputBytes`.
 * @param encode gives the text that is recorded; without it, it is the value's own
 * @throws StepwellError `value_not_json` or `step_output_too_large`
 */
export function toOutputText(value: unknown, what: string, encode?: EncodeText): string | undefined {
  const plain = toJsonText(value, what)
  const text = plain === undefined || encode === undefined ? plain : encode(plain)
  if (text === undefined || fits(text, LIMITS.stepOutputBytes)) return text
  const message =
    `${what} is ${Buffer.byteLength(text)} bytes of JSON; at most ${LIMITS.stepOutputBytes} are recorded. ` +
    'Store it elsewhere and return a reference to it.'
  throw new StepwellError('step_output_too_large', message)
}

/**
 * As `toOutputText`, for what a handler returns. Handlers end in `return Promise.all(steps)`: steps that gave nothing
 * become null here, as JSON has it, instead of failing a run that has done its work.
 */
export function toReturnText(value: unknown, what: string, encode?: EncodeText): string | undefined {
  return toOutputText(Array.isArray(value) ? Array.from(value, item => item ?? null) : value, what, encode)
}

type EncodeText = ((text: string) => string) | undefined

/** Whether a text has at most `maxBytes` of UTF-8; counts only where the cheap bound leaves a doubt. */
export function fits(text: string, maxBytes: number): boolean {
  return text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes
}

interface Problem {
  /** From the innermost member out: pushed while the recursion unwinds, so that the good case builds no paths. */
  path: string[]
  why: string
}

function findProblem(value: unknown, key: string, ancestors: object[]): Problem | null {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return null
    case 'number':
      return Number.isFinite(value) ? null : problem(`it is ${value}`)
    case 'bigint':
      return problem('it is a BigInt; turn it into a string')
    case 'function':
      return problem('it is a function')
    case 'symbol':
      return problem('it is a symbol')
    default:
      return value === null ? null : findProblemInObject(value as object, key, ancestors)
  }
}

function findProblemInObject(value: object, key: string, ancestors: object[]): Problem | null {
  // JSON.stringify looks at toJSON first, whatever the value is. The `in` comes first: it calls no getter.
  const toJson = 'toJSON' in value ? value.toJSON : undefined
  if (typeof toJson === 'function') {
    if (value instanceof Date && Number.isNaN(value.getTime())) return problem('it is an invalid Date')
    const replaced: unknown = toJson.call(value, key)
    return replaced === value ? findProblemInMembers(value, ancestors) : findProblem(replaced, key, ancestors)
  }
  return findProblemOfClass(value) ?? findProblemInMembers(value, ancestors)
}

function findProblemInMembers(value: object, ancestors: object[]): Problem | null {
  if (ancestors.includes(value)) return problem('it contains itself')
  ancestors.push(value)
  const found = Array.isArray(value) ? findProblemInArray(value, ancestors) : findProblemInFields(value, ancestors)
  ancestors.pop()
  return found
}

function findProblemInArray(items: unknown[], ancestors: object[]): Problem | null {
  for (let at = 0; at < items.length; at += 1) {
    const item = items[at]
    const found =
      item === undefined
        ? problem('it is undefined inside an array, which JSON turns into null')
        : findProblem(item, String(at), ancestors)
    if (found !== null) return within(found, `[${at}]`)
  }
  return null
}

function findProblemInFields(value: object, ancestors: object[]): Problem | null {
  for (const [name, member] of Object.entries(value)) {
    const found = findProblem(member, name, ancestors)
    if (found !== null) return within(found, isPlainName(name) ? `.${name}` : `[${JSON.stringify(name)}]`)
  }
  return null
}

/** Built-ins whose content JSON does not see: it would write `{}` or numbered members. */
const OPAQUE = new Set(['Map', 'Set', 'WeakMap', 'WeakSet', 'WeakRef', 'RegExp', 'Error', 'Promise', 'ArrayBuffer'])

function findProblemOfClass(value: object): Problem | null {
  if (Array.isArray(value)) return null
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) return null
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  if (tag === 'Promise') return problem('it is a Promise; await it')
  if (value instanceof Error) return problem('it is an Error; throw it, or return its message')
  if (OPAQUE.has(tag) || ArrayBuffer.isView(value)) return problem(`it is a ${tag}; turn it into an array or an object`)
  if (tag === 'Number' || tag === 'String' || tag === 'Boolean') return null
  if (Object.keys(value).length > 0) return null
  // Private fields and accessors are invisible to JSON: `{}` is all that would be left of it.
  return isFromAnotherRealm(prototype) ? null : problem(`it is a ${nameOfClass(value)} without fields of its own`)
}

/** A plain object made in a vm context has another Object.prototype, which itself has no prototype. */
function isFromAnotherRealm(prototype: unknown): boolean {
  return Object.getPrototypeOf(prototype) === null
}

function nameOfClass(value: object): string {
  const { constructor: made } = value
  return typeof made === 'function' && made.name !== '' ? made.name : 'class instance'
}

function isPlainName(name: string): boolean {
  return /^[A-Za-z_$][\w$]*$/.test(name)
}

function problem(why: string): Problem {
  return { path: [], why }
}

function within(found: Problem, member: string): Problem {
  found.path.push(member)
  return found
}

function pathOf(path: string[]): string {
  return `$${path.reverse().join('')}`
}

function notJson(what: string, path: string, why: string): StepwellError {
  const message = `${what} cannot be recorded as JSON: ${path}: ${why}. Return plain data.`
  return new StepwellError('value_not_json', message)
}
