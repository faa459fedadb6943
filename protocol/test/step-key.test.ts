import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkStepId, stepKey } from '../src/index.ts'
import { readVectors } from './vectors.ts'

const vectors = readVectors<{
  keys: { id: string; use: number; key: string }[]
  sequences: { ids: string[]; keys: string[] }[]
  accepted: { id: string }[]
  refused: { id: string; because: string }[]
  notText: unknown[]
}>('step-keys.json')

describe('the vectors of step keys', () => {
  test.each(vectors.keys)('use $use of $id has the key $key', ({ id, use, key }) => {
    expect(stepKey(id, use)).toBe(key)
  })

  test.each(vectors.sequences)('$ids have the keys $keys', ({ ids, keys }) => {
    const uses = new Map<string, number>()

    const given = ids.map(id => {
      const use = (uses.get(id) ?? 0) + 1
      uses.set(id, use)
      return stepKey(id, use)
    })

    expect(given).toEqual(keys)
  })

  test.each(vectors.accepted)('the id $id is accepted', ({ id }) => {
    expect(checkStepId(id)).toBeNull()
  })

  test.each(vectors.refused)('the id $id is refused: $because', ({ id }) => {
    expect(checkStepId(id)).toMatch(/\S/)
  })

  test.each(vectors.notText.map(id => [id]))('%j is refused: it is no text', id => {
    expect(checkStepId(id)).toMatch(/must be a string/)
  })
})

test('half a surrogate pair is refused', () => {
  expect(checkStepId('a\ud83d')).toMatch(/surrogate/)
  expect(checkStepId('\udc4da')).toMatch(/surrogate/)
})

test('a refusal says what to do, and does not repeat a whole page', () => {
  expect(checkStepId('charge#2')).toMatch(/numbered for you/)
  expect(checkStepId('x'.repeat(100_000))?.length).toBeLessThan(300)
})

test('two uses of accepted ids never have the same key unless they are the same use of the same id', () => {
  const id = fc.string({ unit: fc.constantFrom('a', 'b', '#', '1', '2'), minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(id, fc.integer({ min: 1, max: 30 }), id, fc.integer({ min: 1, max: 30 }), (idA, useA, idB, useB) => {
      fc.pre(checkStepId(idA) === null && checkStepId(idB) === null)
      fc.pre(idA !== idB || useA !== useB)

      expect(stepKey(idA, useA)).not.toBe(stepKey(idB, useB))
    }),
    { numRuns: 2_000 },
  )
})

test('garbage never throws', () => {
  fc.assert(
    fc.property(fc.anything(), id => {
      const problem = checkStepId(id)

      expect(problem === null || problem.length > 0).toBe(true)
    }),
  )
})
