/** How much of a path and of a message is shown: both may hold what a stranger sent. */
const MAX_PATH_CHARS = 200
const MAX_MESSAGE_CHARS = 500

/**
 * The first problems of a failed parse, for `Problem.errors`.
 * @param error a `z.ZodError`; its shape is written out, so that this needs no zod
 * @returns paths from the root of the body (`events[3].name`), empty for the body itself
 */
export function firstProblems(
  error: { issues: readonly { path: readonly PropertyKey[]; message: string }[] },
  limit = 10,
): { path: string; message: string }[] {
  return error.issues.slice(0, limit).map(issue => ({
    path: pathOf(issue.path).slice(0, MAX_PATH_CHARS),
    message: issue.message.slice(0, MAX_MESSAGE_CHARS),
  }))
}

function pathOf(segments: readonly PropertyKey[]): string {
  let path = ''
  for (const segment of segments) {
    if (typeof segment === 'number') path += `[${segment}]`
    else if (!/^[A-Za-z_$][\w$]*$/.test(String(segment))) path += `[${JSON.stringify(String(segment))}]`
    else path += path === '' ? String(segment) : `.${String(segment)}`
  }
  return path
}
