/** Durations as people write them: `200ms`, `1h30m`, `2d`, ISO 8601 (`PT1H30M`), or a number of milliseconds. */
import { LIMITS } from './limits.ts'

type Unit = 'w' | 'd' | 'h' | 'm' | 's' | 'ms'

/**
 * A length of time: milliseconds as a number, or a text of numbers with units, largest first. The type catches simple
 * typos (`2dd`, `1mo`); `parseDuration` decides.
 */
export type Duration =
  | number
  | `${number}${Unit}`
  | `${number}${Unit}${number}${Unit}`
  | `${number}${Unit}${number}${Unit}${number}${Unit}`
  | `P${string}`

/** Milliseconds of a unit, the largest first: parts of a duration must come in this order. */
const UNITS: readonly [unit: Unit, ms: number][] = [
  ['w', 604_800_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
]

const ACCEPTED =
  'Write milliseconds as a number, units from the largest to the smallest ("2d", "1h30m", "1.5h", "200ms"; w, d, h, m, s, ms), or ISO 8601 ("P2D", "PT1H30M").'

const NO_FIXED_LENGTH = 'months and years have no fixed length; say it in days'

/** Far more than the longest sensible duration: keeps messages and matching short. */
const MAX_TEXT_CHARS = 64

/** A duration that cannot be understood, or is negative or too long. The message shows it and says what is accepted. */
export class DurationError extends RangeError {
  readonly code = 'duration_invalid'
  override readonly name = 'DurationError'

  constructor(value: unknown, why: string) {
    super(`The duration ${show(value)} is not valid: ${why}. ${ACCEPTED}`)
  }
}

/**
 * Milliseconds of a duration. Fractions of a millisecond are kept, to the microsecond; nothing is rounded up.
 * @param value `200ms`, `1h30m`, `2d`, `1w`, ISO 8601 without months and years, or milliseconds; at most 366 days
 * @throws DurationError (code `duration_invalid`) for anything else
 */
export function parseDuration(value: Duration): number {
  const ms = typeof value === 'string' ? parseText(value) : value
  if (typeof ms !== 'number') throw new DurationError(value, 'it is neither a text nor a number')
  if (Number.isNaN(ms)) throw new DurationError(value, 'it is not a number')
  if (ms < 0) throw new DurationError(value, 'it is negative')
  if (ms > LIMITS.durationMs) throw new DurationError(value, `it is longer than ${formatDuration(LIMITS.durationMs)}`)
  // Takes away float noise (4.35 * 1000); the zero makes -0 a 0.
  return Math.round(ms * 1000) / 1000 + 0
}

/**
 * A short form for messages, two units at most: `2d`, `1h30m`, `1.2s`, `200ms`. Rounded to the smaller unit.
 * @param ms milliseconds
 */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return `${ms}ms`
  const roundToMs = ms < 1_000 ? 0.001 : ms < 60_000 ? 1 : ms < 3_600_000 ? 1_000 : ms < 86_400_000 ? 60_000 : 3_600_000
  const rounded = Number((Math.round(ms / roundToMs) * roundToMs).toFixed(3))
  if (rounded < 1_000) return `${rounded}ms`
  if (rounded < 60_000) return `${rounded / 1000}s`
  let rest = rounded
  let text = ''
  // Days rather than weeks: "10d" is read faster than "1w3d".
  for (const [unit, unitMs] of UNITS.slice(1, 5)) {
    const count = Math.floor(rest / unitMs)
    rest -= count * unitMs
    if (count > 0) text += `${count}${unit}`
  }
  return text
}

function parseText(text: string): number {
  if (text.trim() === '') throw new DurationError(text, 'it is empty')
  if (text.length > MAX_TEXT_CHARS) throw new DurationError(text, `it is longer than ${MAX_TEXT_CHARS} characters`)
  if (text.startsWith('-')) throw new DurationError(text, 'it is negative')
  return text.startsWith('P') ? parseIso(text) : parseParts(text)
}

/** `1h30m`: numbers with units, each unit at most once, larger before smaller, a fraction only in the last part. */
function parseParts(text: string): number {
  let ms = 0
  let end = 0
  let lastUnit = -1
  let hasFraction = false
  for (const [part, digits = '', name = ''] of text.matchAll(/([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)/g)) {
    if (!text.startsWith(part, end)) break
    end += part.length
    const unit = UNITS.findIndex(([known]) => known === name)
    if (unit === -1) throw new DurationError(text, explainUnit(name))
    if (unit === lastUnit) throw new DurationError(text, `the unit "${name}" is repeated`)
    if (unit < lastUnit) throw new DurationError(text, `"${name}" follows a smaller unit`)
    if (hasFraction) throw new DurationError(text, 'only the last part may have a fraction')
    lastUnit = unit
    hasFraction = digits.includes('.')
    ms += Number(digits) * (UNITS[unit]?.[1] ?? Number.NaN)
  }
  if (end === text.length) return ms
  const rest = text.slice(end)
  if (/^[0-9]+(\.[0-9]+)?$/.test(rest)) throw new DurationError(text, `"${rest}" has no unit`)
  throw new DurationError(text, `"${rest}" is not a number with a unit`)
}

/** ISO 8601: weeks and days before the `T`, hours, minutes and seconds after it. */
function parseIso(text: string): number {
  const [days = '', time] = text.slice(1).split('T')
  if (/[YM]/.test(days)) throw new DurationError(text, NO_FIXED_LENGTH)
  const match = /^P(?:([0-9.,]+)W)?(?:([0-9.,]+)D)?(?:T(?:([0-9.,]+)H)?(?:([0-9.,]+)M)?(?:([0-9.,]+)S)?)?$/.exec(text)
  if (match === null || (days === '' && !time) || time === '') throw new DurationError(text, 'it is not ISO 8601')
  const parts = match.slice(1)
  const last = parts.findLastIndex(digits => digits !== undefined)
  let ms = 0
  parts.forEach((digits, unit) => {
    if (digits === undefined) return
    const wanted = unit === last ? /^[0-9]+(?:[.,][0-9]+)?$/ : /^[0-9]+$/
    if (!wanted.test(digits)) throw new DurationError(text, 'only the last part may have a fraction')
    ms += Number(digits.replace(',', '.')) * (UNITS[unit]?.[1] ?? Number.NaN)
  })
  return ms
}

function explainUnit(name: string): string {
  const isCalendar = /^(?:mo|mon|mth|mths|months?|y|yr|yrs|years?)$/i.test(name)
  return isCalendar ? NO_FIXED_LENGTH : `the unit "${name}" is not known`
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > MAX_TEXT_CHARS ? `${value.slice(0, 60)}…` : value)
  if (typeof value === 'number' || value === null || value === undefined) return String(value)
  return `(${typeof value})`
}
