import { expect, test } from 'vitest'
import { compare } from '../src/side-by-side/compare.ts'
import { goalsOf } from '../src/side-by-side/goals.ts'
import { aRow } from './a-result.ts'

const SYSTEMS = { ours: 'Stepwell', peers: ['A', 'B', 'C'] }

test('the best peer is the one with the better median, in the direction of the row', () => {
  const values = { Stepwell: [1], A: [2, 3, 100], B: [5, 5, 5], C: [] }

  const ofTimes = compare(aRow({ better: 'less', values }), SYSTEMS)
  const ofRates = compare(aRow({ better: 'more', values }), SYSTEMS)

  expect([ofTimes.bestPeer, ofRates.bestPeer]).toEqual(['A', 'B'])
})

test('a goal that holds says so, against the best peer of the same rounds', () => {
  const rows = [aRow({ values: { Stepwell: [1, 2], A: [2, 5], B: [50, 60] } })]

  const goals = goalsOf(rows, { ...SYSTEMS, bytesFactor: Number.NaN })

  const found = goals.find(({ what }) => what.startsWith('W1 p50'))
  expect(found).toMatchObject({ measured: '0.45 x of A', verdict: 'holds', short: '' })
})

test('a goal that does not hold says by how much', () => {
  const values = { Stepwell: [2_000], A: [1_000], B: [500] }
  const rows = [aRow({ id: 'W3.stepsPerSecond', better: 'more', values })]

  const goals = goalsOf(rows, { ...SYSTEMS, bytesFactor: Number.NaN })

  const found = goals.find(({ what }) => what.startsWith('W3 steps/s'))
  expect(found).toMatchObject({ measured: '2 x of A', verdict: 'short', short: 'by 2.5 x' })
})

test('what was not measured neither holds nor falls short', () => {
  const goals = goalsOf([], { ...SYSTEMS, bytesFactor: Number.NaN })

  expect(new Set(goals.map(({ verdict }) => verdict))).toEqual(new Set(['not measured']))
})
