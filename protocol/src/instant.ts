/** Date, `T`, time, zone; seconds and their fraction may be left out. The sets of digits refuse what no calendar has. */
const INSTANT =
  /^([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])$/

/** The years 1 to 9999 in UTC: what a timestamptz takes and four digits can write. */
const FIRST_MS = -62_135_596_800_000
const LAST_MS = 253_402_300_799_999

/**
 * Whether a text is an instant in ISO 8601: date and time with a zone, which `Date` and Postgres both understand.
 * A time without a zone is none: it means something else on every machine.
 */
export function isInstant(text: string): boolean {
  const match = INSTANT.exec(text)
  if (match === null) return false
  const day = Number(match[3])
  // Date.parse takes 31 February for 3 March. Day 0 of the next month is the last day of this one.
  if (day > 28 && day > new Date(Date.UTC(Number(match[1]), Number(match[2]), 0)).getUTCDate()) return false
  const ms = Date.parse(text)
  return ms >= FIRST_MS && ms <= LAST_MS
}
