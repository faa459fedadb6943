import { readFileSync } from 'node:fs'

/** Reads a file of vectors. The caller names its shape: the tests that use it would fail on another. */
export function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8')) as T
}
