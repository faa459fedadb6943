import { LIMITS } from './limits.ts'
import { problemOfName } from './name.ts'

/**
 * What is wrong with the match of a wait, and where, or null when nothing is. A match is an object of at most
 * `LIMITS.matchPaths` paths, each with the scalar that the event must have there.
 */
export function problemOfMatch(value: unknown): { path: string[]; message: string } | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { path: [], message: 'is not an object of paths and values' }
  }
  const entries = Object.entries(value)
  if (entries.length > LIMITS.matchPaths) return { path: [], message: `has more than ${LIMITS.matchPaths} paths` }
  for (const [path, wanted] of entries) {
    const problem = problemOfName(path, LIMITS.matchPathChars) ?? problemOfValue(wanted)
    if (problem !== null) return { path: [path], message: problem }
  }
  return null
}

function problemOfValue(value: unknown): string | null {
  if (value === null || typeof value === 'boolean') return null
  // JSON.parse reads 1e999 as Infinity, which no event's data can equal and no JSON can carry on.
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'is not a finite number'
  if (typeof value !== 'string') return 'is not a string, a finite number, true, false or null'
  return value.length > LIMITS.matchValueChars ? `is longer than ${LIMITS.matchValueChars} characters` : null
}
