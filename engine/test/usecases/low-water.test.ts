import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import type { WorkspaceId } from '../../src/core/ids.ts'
import { LowWater } from '../../src/usecases/low-water.ts'

const WS = 1 as WorkspaceId
const OTHER = 2 as WorkspaceId
/** Far from zero, as clocks are. */
const T0 = 1_767_225_600_000

/** How far behind the end of a reading the next one begins. */
let slackMs = 0
beforeAll(async () => {
  const marks = new LowWater()
  await from(marks, T0)
  slackMs = T0 - ((await from(marks, T0)) ?? T0)
})

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

/** Reads, and says from where. */
function from(marks: LowWater, leftFromMs: number, options: { ws?: WorkspaceId; during?: () => void } = {}) {
  return marks.read(options.ws ?? WS, async fromMs => {
    options.during?.()
    return { result: fromMs, leftFromMs }
  })
}

test('the first reading begins at the head, the next a little behind where it ended', async () => {
  const marks = new LowWater()

  const froms = [await from(marks, T0), await from(marks, T0 + 100), await from(marks, T0 + 200)]

  expect(froms).toEqual([null, T0 - slackMs, T0 + 100 - slackMs])
  expect(slackMs).toBeGreaterThanOrEqual(100)
})

test('workspaces have marks of their own', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  expect(await from(marks, T0 + 50, { ws: OTHER })).toBeNull()
  expect(await from(marks, T0)).toBe(T0 - slackMs)
})

test('a sweep begins at the head again, a second after the last one', async () => {
  const marks = new LowWater()
  await from(marks, T0)
  vi.advanceTimersByTime(999)
  const before = await from(marks, T0)
  vi.advanceTimersByTime(1)

  const froms = [await from(marks, T0), await from(marks, T0)]

  expect(before).toBe(T0 - slackMs)
  expect(froms).toEqual([null, T0 - slackMs])
})

test('sweeps that take long are further apart', async () => {
  const marks = new LowWater()
  await from(marks, T0, { during: () => vi.advanceTimersByTime(200) })
  vi.advanceTimersByTime(3_999)
  const before = await from(marks, T0)
  vi.advanceTimersByTime(1)

  const after = await from(marks, T0)

  expect([before, after]).toEqual([T0 - slackMs, null])
})

test('a sweep that had to wait for a database that was away does not put off the next one for long', async () => {
  const marks = new LowWater()
  await from(marks, T0, { during: () => vi.advanceTimersByTime(3_000) })

  vi.advanceTimersByTime(5_000)

  expect(await from(marks, T0)).toBeNull()
})

test('a row before the mark makes the next reading a sweep, one behind it does not', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  marks.lower(WS, T0 - slackMs)
  const atMark = await from(marks, T0)
  marks.lower(WS, T0 - slackMs - 1)
  const before = [await from(marks, T0), await from(marks, T0)]

  expect(atMark).toBe(T0 - slackMs)
  expect(before).toEqual([null, T0 - slackMs])
})

test('a row before the mark of another workspace, or of one that was never read, changes nothing', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  marks.lower(OTHER, 0)

  expect(await from(marks, T0)).toBe(T0 - slackMs)
})

test('a row that comes while a reading is under way makes the next one a sweep', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  const during = await from(marks, T0, { during: () => marks.lower(WS, T0 - 60_000) })

  expect(during).toBe(T0 - slackMs)
  expect(await from(marks, T0)).toBeNull()
})

test('so does one that comes between where the mark was and where the reading puts it', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  await from(marks, T0 + 60_000, { during: () => marks.lower(WS, T0 + 10_000) })

  expect(await from(marks, T0 + 60_000)).toBeNull()
})

test('a reading that fails leaves the mark where it was', async () => {
  const marks = new LowWater()
  await from(marks, T0)

  const failing = marks.read(WS, () => Promise.reject(new Error('the database is away')))

  await expect(failing).rejects.toThrow('away')
  expect(await from(marks, T0)).toBe(T0 - slackMs)
})

test('a sweep that fails is made again', async () => {
  const marks = new LowWater()
  await from(marks, T0)
  marks.lower(WS, 0)

  await marks.read(WS, () => Promise.reject(new Error('the database is away'))).catch(() => {})

  expect(await from(marks, T0)).toBeNull()
})
