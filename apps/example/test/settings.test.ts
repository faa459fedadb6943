import { expect, test } from 'vitest'
import { readSettings } from '../src/settings.ts'

test('nothing has to be set', () => {
  expect(readSettings({})).toMatchObject({ port: 3000, reviewTimeout: '3d', cooldown: '2d', approvalTimeout: '7d' })
})

test.each([
  ['PORT', '80a'],
  ['PORT', '-1'],
  ['GATEKEEPER_REVIEW_TIMEOUT', 'soon'],
  ['GATEKEEPER_COOLDOWN', '2'],
])('%s=%s is refused by name', (name, value) => {
  expect(() => readSettings({ [name]: value })).toThrow(name)
})
