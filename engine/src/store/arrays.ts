/*
 * Arrays travel as Postgres array literals. The types are those of the SQL function that takes them, so the driver
 * needs no look-up of array types and every batch is the same prepared statement, whatever its length.
 */

type Plain = string | number | boolean | null

/** For uuids, numbers, booleans and instants: values that need no quotes inside an array literal. */
export function plainArray(values: readonly Plain[]): string {
  return `{${values.map(value => (value === null ? 'null' : value)).join(',')}}`
}

/** For instants in Unix milliseconds, to the microsecond. Null stays null. */
export function instantArray(values: readonly (number | null)[]): string {
  return `{${values.map(ms => (ms === null ? 'null' : `"${instantText(ms)}"`)).join(',')}}`
}

/** A Date holds whole milliseconds only. Rounded up: what is due must not come early. */
function instantText(ms: number): string {
  const micros = Math.ceil(ms * 1000)
  const wholeMs = Math.floor(micros / 1000)
  return `${new Date(wholeMs).toISOString().slice(0, -1)}${String(micros - wholeMs * 1000).padStart(3, '0')}Z`
}

const SPECIAL = /["\\]/g

/** For text of any kind. */
export function textArray(values: readonly (string | null)[]): string {
  return `{${values.map(value => (value === null ? 'null' : `"${value.replace(SPECIAL, '\\$&')}"`)).join(',')}}`
}
