import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Duration, DurationError, formatDuration, LIMITS, parseDuration } from '../src/index.ts'
import { readVectors } from './vectors.ts'

const vectors = readVectors<{
  accepted: { input: Duration; ms: number }[]
  refused: { input: Duration; because: string }[]
  formatted: { ms: number; text: string }[]
}>('durations.json')

describe('the vectors of durations', () => {
  test.each(vectors.accepted)('$input is $ms ms', ({ input, ms }) => {
    expect(parseDuration(input)).toBe(ms)
  })

  test.each(vectors.refused)('$input is refused: $because', ({ input }) => {
    expect(() => parseDuration(input)).toThrow(DurationError)
  })

  test.each(vectors.formatted)('$ms ms are written $text', ({ ms, text }) => {
    expect(formatDuration(ms)).toBe(text)
  })
})

test('compound durations are understood, where a popular parser gives undefined', () => {
  expect(parseDuration('1h30m')).toBe(5_400_000)
})

test('what is no text and no finite number is refused', () => {
  const values: unknown[] = [undefined, null, Number.NaN, Infinity, -Infinity, {}, [], true, 5n, Symbol('1h'), () => 5]

  for (const value of values) {
    expect(() => parseDuration(value as Duration)).toThrow(DurationError)
  }
})

test('a refusal shows the input, says why and what is accepted, and has a code', () => {
  const error = refusalOf('1mo')

  expect(error.code).toBe('duration_invalid')
  expect(error).toBeInstanceOf(RangeError)
  expect(error.message).toContain('"1mo"')
  expect(error.message).toContain('no fixed length')
  expect(error.message).toContain('PT1H30M')
})

test('months and years are refused for what they are, in both notations', () => {
  for (const value of ['1mo', '2months', '1y', 'P1M', 'P1Y', 'P1Y2M3DT4H']) {
    expect(refusalOf(value).message).toContain('no fixed length')
  }
})

test('a refusal does not repeat a whole page', () => {
  expect(refusalOf('x'.repeat(100_000)).message.length).toBeLessThan(500)
})

test('any whole number of milliseconds survives being written and read in each unit', () => {
  const units = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 } as const
  fc.assert(
    fc.property(fc.constantFrom(...Object.entries(units)), fc.nat(60), ([unit, unitMs], count) => {
      fc.pre(count * unitMs <= LIMITS.durationMs)
      expect(parseDuration(`${count}${unit}` as Duration)).toBe(count * unitMs)
    }),
  )
})

test('seconds with decimals are exact to the millisecond', () => {
  fc.assert(
    fc.property(fc.nat(10_000_000), ms => {
      const text = (ms / 1000).toFixed(3)

      expect(parseDuration(`${text}s` as Duration)).toBe(ms)
      expect(parseDuration(`PT${text}S`)).toBe(ms)
    }),
  )
})

test('parts add up, in both notations', () => {
  fc.assert(
    fc.property(fc.nat(300), fc.nat(23), fc.nat(59), fc.nat(59), (d, h, m, s) => {
      const ms = ((d * 24 + h) * 60 + m) * 60_000 + s * 1000

      expect(parseDuration(`${d}d${h}h${m}m${s}s` as Duration)).toBe(ms)
      expect(parseDuration(`P${d}DT${h}H${m}M${s}S`)).toBe(ms)
    }),
  )
})

test('the short form can be read again and is off by less than its smaller unit', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: LIMITS.durationMs - 4e6, noNaN: true }), ms => {
      const read = parseDuration(formatDuration(ms) as Duration)

      expect(Math.abs(read - ms)).toBeLessThanOrEqual(Math.max(0.0006, ms * 0.021))
    }),
  )
})

test('garbage is refused with a DurationError and nothing else', () => {
  const pieces = fc.constantFrom(
    '1',
    '30',
    '.',
    ',',
    '-',
    'P',
    'T',
    'h',
    'm',
    's',
    'ms',
    'd',
    'w',
    'H',
    'M',
    'S',
    'D',
    ' ',
  )
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 12 }).map(parts => parts.join('')),
  )
  fc.assert(
    fc.property(fc.oneof(text, fc.double(), fc.anything()), value => {
      try {
        const ms = parseDuration(value as Duration)
        expect(ms).toBeGreaterThanOrEqual(0)
        expect(ms).toBeLessThanOrEqual(LIMITS.durationMs)
      } catch (error) {
        expect(error).toBeInstanceOf(DurationError)
      }
    }),
    { numRuns: 2_000 },
  )
})

function refusalOf(value: string): DurationError {
  try {
    parseDuration(value as Duration)
  } catch (error) {
    if (error instanceof DurationError) return error
  }
  throw new Error(`${value} was not refused`)
}
