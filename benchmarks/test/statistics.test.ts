import { expect, test } from 'vitest'
import { median, pairedRatio, percentile } from '../src/report/statistics.ts'

test('a percentile is one of the values, by nearest rank', () => {
  const values = [5, 1, 4, 2, 3]

  const found = [0, 0.5, 0.95, 1].map(share => percentile(values, share))

  expect(found).toEqual([1, 3, 5, 5])
})

test('a median of an even count lies between the middle two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5)
})

test('no values have no median and no percentile', () => {
  expect([median([]), percentile([], 0.5)]).toEqual([Number.NaN, Number.NaN])
})

test('a ratio pairs the rounds, and not the medians', () => {
  const ours = [1, 20, 3]
  const theirs = [10, 100, 5]

  const ratio = pairedRatio(ours, theirs)

  expect(ratio).toEqual({ median: 0.2, min: 0.1, max: 0.6 })
})

test('a round that a peer has no value for counts in no ratio', () => {
  const ratio = pairedRatio([1, 2], [2, Number.NaN])

  expect(ratio).toEqual({ median: 0.5, min: 0.5, max: 0.5 })
})
