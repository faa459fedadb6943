import type { Json } from '@stepwell/protocol'
import { expect, test } from 'vitest'
import { eventHash, shapeOf, waitHash } from '../../src/core/match.ts'

function anEvent(data: Json) {
  return { id: 'evt_1', name: 'approval', ts: '2026-03-01T12:00:00.000Z', data }
}

test.each<[string, Record<string, string | number | boolean | null>, Json]>([
  ['a number', { userId: 7 }, { userId: 7 }],
  ['a nested member', { 'user.id': 'a' }, { user: { id: 'a' } }],
  ['an element by index', { 'items.1.sku': 'b' }, { items: [{ sku: 'a' }, { sku: 'b' }] }],
  ['null', { by: null }, { by: null }],
  ['false', { done: false }, { done: false }],
  ['an empty string', { by: '' }, { by: '' }],
  ['a member of the event itself', { 'event.id': 'evt_1' }, {}],
  ['several, in any order', { b: 2, a: 1 }, { a: 1, b: 2 }],
  ['unicode', { 'n.ä😀': '日本' }, { n: { 'ä😀': '日本' } }],
  ['nothing at all', {}, { anything: true }],
])('a wait on %s has the hash of an event that has it', (_name, match, data) => {
  expect(eventHash(anEvent(data), shapeOf(match))).toBe(waitHash('approval', match))
})

test.each<[string, Record<string, string | number | boolean | null>, Json]>([
  ['another value', { userId: 7 }, { userId: 8 }],
  ['another type', { userId: 7 }, { userId: '7' }],
  ['null for absent', { by: null }, {}],
  ['swapped values', { a: 1, b: 2 }, { a: 2, b: 1 }],
  ['a member that only the prototype has', { constructor: 'x' }, {}],
])('a wait does not match %s', (_name, match, data) => {
  expect(eventHash(anEvent(data), shapeOf(match))).not.toBe(waitHash('approval', match))
})

test.each<[string, Json]>([
  ['lacks the path', {}],
  ['has an object there', { user: { id: {} } }],
  ['has a list there', { user: { id: [1] } }],
  ['ends before it', { user: null }],
  ['is a scalar', 3],
])('an event that %s has no key under the shape', (_name, data) => {
  expect(eventHash(anEvent(data), ['user.id'])).toBeNull()
})

test('the same match on another event name is another hash', () => {
  expect(waitHash('a', { x: 1 })).not.toBe(waitHash('b', { x: 1 }))
})
