import { readFileSync } from 'node:fs'

/** The installed versions of these packages. Read from their files: few export their package.json. */
export function versionsOf(...names: string[]): Record<string, string> {
  return Object.fromEntries(
    names.map(name => {
      const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
      return [name, (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version]
    }),
  )
}
