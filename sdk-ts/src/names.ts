/** Control characters, and halves of surrogate pairs: those are no characters and have no UTF-8. */
const FORBIDDEN = /[\p{Cc}\p{Cs}]/u

/** Whether a value is a text of 1 to `maxChars` characters (code points) that a name may have. */
export function isName(value: unknown, maxChars: number): value is string {
  if (typeof value !== 'string' || value === '' || FORBIDDEN.test(value)) return false
  return value.length <= maxChars || (value.length <= 2 * maxChars && Array.from(value).length <= maxChars)
}
