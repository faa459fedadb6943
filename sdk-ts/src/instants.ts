/** Date, time and zone: a time without a zone is another instant on every machine. */
const WITH_ZONE = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/

/** The years 1 to 9999 in UTC: what four digits can write and databases take. */
const FIRST_MS = Date.parse('0001-01-01T00:00:00.000Z')
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z')

/** An instant as it travels (ISO 8601 in UTC, with milliseconds), or null when the value is none. */
export function toInstantText(value: Date | string | number): string | null {
  if (typeof value === 'string' && !isOfCalendar(value)) return null
  const date = new Date(value)
  const ms = date.getTime()
  return ms >= FIRST_MS && ms <= LAST_MS ? date.toISOString() : null
}

/** Date takes 31 February for 3 March. */
function isOfCalendar(text: string): boolean {
  const [, year, month, day] = WITH_ZONE.exec(text) ?? []
  if (year === undefined) return false
  // Day 0 of the next month is the last day of this one.
  const lastDay = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate()
  return Number(day) >= 1 && Number(day) <= lastDay
}
