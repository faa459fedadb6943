import { expect, test } from 'vitest'
import { QuietWindow } from '../src/quiet-window.ts'

/** Looks when the window wants to be looked at, each time late by so much, until it is closed; tells when that was. */
function closesAtMs(window: QuietWindow, lateMs: (look: number) => number): number {
  let nowMs = 0
  for (let look = 0; window.isOpen; look += 1) {
    nowMs = window.looksAgainAtMs + lateMs(look)
    window.look(nowMs)
  }
  return nowMs
}

test('a window is open for its duration', () => {
  const window = new QuietWindow()
  window.open(1_000, 0)

  expect(closesAtMs(window, () => 0)).toBe(1_000)
  expect(window.looksAgainAtMs).toBe(Number.POSITIVE_INFINITY)
})

test('a window of 0 is closed', () => {
  const window = new QuietWindow()
  window.open(1_000, 0)
  window.open(0, 0)

  expect(window.isOpen).toBe(false)
})

test('looks in between do not shorten it', () => {
  const window = new QuietWindow()
  window.open(1_000, 0)

  for (let nowMs = 0; nowMs < 1_000; nowMs += 7) window.look(nowMs)

  expect(window.isOpen).toBe(true)
  expect(closesAtMs(window, () => 0)).toBe(1_000)
})

test.each([0, 5, 9])('after an event loop that stood still the whole window follows (look %i)', stalledLook => {
  const window = new QuietWindow()
  window.open(1_000, 0)

  const closedAtMs = closesAtMs(window, look => (look === stalledLook ? 5_000 : 0))

  expect(closedAtMs).toBe((stalledLook + 1) * 100 + 5_000 + 1_000)
})

test('an event loop that is always late does not keep it open for ever', () => {
  const window = new QuietWindow()
  window.open(1_000, 0)

  expect(closesAtMs(window, () => 500)).toBeLessThan(10_000)
})
