/** Date, time and zone: a time without a zone is another instant on every machine. */
const WITH_ZONE = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/

/** ISO 8601 of the years 0 to 9999 has this many characters. */
const ISO_CHARS = 24

/** An instant as it travels (ISO 8601 in UTC, with milliseconds), or null when the value is none. */
export function toInstantText(value: Date | string | number): string | null {
  if (typeof value === 'string' && !WITH_ZONE.test(value)) return null
  const date = new Date(value)
  if (Number.isNaN(date.getTime())) return null
  const text = date.toISOString()
  return text.length === ISO_CHARS ? text : null
}
