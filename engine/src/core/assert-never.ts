/** Makes the compiler prove that a `switch` has a case for everything. */
export function assertNever(value: never): never {
  throw new Error(`No case for ${JSON.stringify(value)}.`)
}
