import { LIMITS } from './limits.ts'
import { problemOfName } from './name.ts'

/** What is wrong with the tags of a run, and where; null when nothing is. */
export function problemOfTags(tags: unknown): { path: string[]; message: string } | null {
  if (typeof tags !== 'object' || tags === null || Array.isArray(tags)) {
    return { path: [], message: 'must be an object of texts: { customer: "c_1" }' }
  }
  const entries = Object.entries(tags)
  if (entries.length > LIMITS.tagsPerRun) return { path: [], message: `has more than ${LIMITS.tagsPerRun} tags` }
  for (const [name, value] of entries) {
    const ofName = problemOfName(name, LIMITS.tagNameChars)
    if (ofName !== null) return { path: [name], message: `has a name that ${ofName}` }
    if (typeof value !== 'string') return { path: [name], message: 'must be a text' }
    const ofValue = problemOfName(value, LIMITS.tagValueChars)
    if (ofValue !== null) return { path: [name], message: ofValue }
  }
  return null
}
