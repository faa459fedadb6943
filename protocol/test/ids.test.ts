import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createUuid7, decodeId, encodeId } from '../src/index.ts'
import { readVectors } from './vectors.ts'

const vectors = readVectors<{
  pairs: { prefix: string; uuid: string; id: string }[]
  read: { prefix: string; text: string; uuid: string }[]
  refused: { prefix: string; text: string; because: string }[]
}>('ids.json')

describe('the vectors of ids', () => {
  test.each(vectors.pairs)('$uuid is $id, and back', ({ prefix, uuid, id }) => {
    expect(encodeId(prefix, uuid)).toBe(id)
    expect(decodeId(prefix, id)).toBe(uuid)
  })

  test.each(vectors.read)('$text is read as $uuid', ({ prefix, text, uuid }) => {
    expect(decodeId(prefix, text)).toBe(uuid)
  })

  test.each(vectors.refused)('$text is refused: $because', ({ prefix, text }) => {
    expect(decodeId(prefix, text)).toBeNull()
  })
})

test('every UUID survives being written and read', () => {
  fc.assert(
    fc.property(fc.uuid(), uuid => {
      expect(decodeId('run', encodeId('run', uuid))).toBe(uuid)
    }),
  )
})

test('ids sort as their UUIDs do', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.uuid(), (a, b) => {
      expect(encodeId('run', a) < encodeId('run', b)).toBe(a < b)
    }),
  )
})

test('garbage is no id and never throws', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ minLength: 26, maxLength: 26, unit: 'binary' })), text => {
      const uuid = decodeId('run', `run_${text}`)

      if (uuid !== null) expect(encodeId('run', uuid)).toBe(`run_${text.toLowerCase()}`)
    }),
  )
})

test('a UUIDv7 carries its time, version and variant', () => {
  const newUuid7 = createUuid7({ now: () => 0x0123456789ab, random: size => new Uint8Array(size).fill(0xff) })

  expect(newUuid7()).toBe('01234567-89ab-77ff-bfff-ffffffffffff')
})

test('random bits of zero leave a valid UUIDv7', () => {
  const newUuid7 = createUuid7({ now: () => 0, random: size => new Uint8Array(size) })

  expect(newUuid7()).toBe('00000000-0000-7000-8000-000000000000')
})

test('the random bits of an id are not those of another', () => {
  const newUuid7 = createUuid7({ now: () => 1_000, random: randomBytes })

  const tails = Array.from({ length: 1_000 }, () => newUuid7().slice(-17))

  expect(new Set(tails).size).toBe(1_000)
})

test('ids of one factory are strictly increasing, also when the clock stands or steps back', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 2, maxLength: 40 }), times => {
      let at = 0
      const newUuid7 = createUuid7({
        now: () => 1_767_225_600_000 + (times[at++ % times.length] ?? 0),
        random: randomBytes,
      })

      const ids = Array.from({ length: 500 }, newUuid7)

      expect(ids).toEqual(ids.toSorted())
      expect(new Set(ids).size).toBe(ids.length)
    }),
    { numRuns: 50 },
  )
})

test('more ids than one millisecond can count borrow the next millisecond', () => {
  const newUuid7 = createUuid7({ now: () => 1_000, random: randomBytes })

  const ids = Array.from({ length: 10_000 }, newUuid7)

  expect(ids).toEqual(ids.toSorted())
  expect(new Set(ids).size).toBe(10_000)
  expect(ids.every(id => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id))).toBe(true)
})

test('two factories do not make the same ids', () => {
  const now = () => 1_000
  const ids = [createUuid7({ now, random: randomBytes }), createUuid7({ now, random: randomBytes })].flatMap(newUuid7 =>
    Array.from({ length: 1_000 }, newUuid7),
  )

  expect(new Set(ids).size).toBe(2_000)
})
