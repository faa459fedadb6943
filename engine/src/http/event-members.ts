import { isObject } from '../core/is-object.ts'
import { nearestName } from '../core/nearest-name.ts'

const MEMBERS = ['name', 'data', 'id', 'ts']

/** What others call them, where no typing error leads to ours. */
const SYNONYMS: ReadonlyMap<string, string> = new Map([
  ['payload', 'data'],
  ['body', 'data'],
  ['type', 'name'],
  ['event', 'name'],
  ['time', 'ts'],
  ['timestamp', 'ts'],
])

/** Longer ones are cut: in the answer, and for looking what is near. */
const MEMBER_CHARS = 60

/**
 * Up to `limit` members that an event does not have, each with its path in the body. Elsewhere on the wire they are
 * ignored, because a newer program may know more; here a person may have written them, and the run would start without
 * what is in them.
 */
export function unknownMembers(body: unknown, limit: number): { path: string; message: string }[] {
  const isWrapped = isObject(body) && 'events' in body
  const events = isWrapped ? body.events : body
  const prefix = isWrapped ? 'events' : ''
  const problems: { path: string; message: string }[] = []
  for (const [at, event] of (Array.isArray(events) ? events : [events]).entries()) {
    if (!isObject(event)) continue
    for (const name of Object.keys(event)) {
      if (MEMBERS.includes(name)) continue
      if (problems.length >= limit) return problems
      const member = name.slice(0, MEMBER_CHARS)
      const path = Array.isArray(events) ? `${prefix}[${at}].${member}` : member
      problems.push({ path, message: `is no member of an event${hintFor(member)}` })
    }
  }
  return problems
}

function hintFor(member: string): string {
  const meant = SYNONYMS.get(member.toLowerCase()) ?? nearestName(member, MEMBERS)
  return meant === null ? `: it has ${MEMBERS.join(', ')}` : `: did you mean "${meant}"?`
}
