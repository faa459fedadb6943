/** Control characters, and halves of surrogate pairs: those are no characters and have no UTF-8. */
const FORBIDDEN = /[\p{Cc}\p{Cs}]/u

/**
 * What is wrong with a name, id or key, as the end of a sentence, or null when nothing is. Characters are counted as
 * Unicode code points, so that every language counts the same.
 * @param maxChars the most it may have; the least is 1
 */
export function problemOfName(text: string, maxChars: number): string | null {
  if (text === '') return 'is empty'
  if (!hasAtMost(text, maxChars)) return `is longer than ${maxChars} characters`
  if (FORBIDDEN.test(text)) return 'has a control character or half a surrogate pair in it'
  return null
}

/** Counts only where the cheap bounds leave a doubt: a code point has one or two units. */
function hasAtMost(text: string, maxChars: number): boolean {
  if (text.length <= maxChars) return true
  if (text.length > 2 * maxChars) return false
  return Array.from(text).length <= maxChars
}
