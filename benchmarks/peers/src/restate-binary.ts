import { createRequire } from 'node:module'

/** The program itself. The package's own command is a Node process around it, which would be counted. */
export function restateBinary(): string {
  const server = createRequire(import.meta.resolve('@restatedev/restate-server/package.json'))
  return server.resolve(`@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`)
}
