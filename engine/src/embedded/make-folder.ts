/**
 * Makes the data folder. Not by mkdir's `recursive`: Node's never returns under /proc, where making a folder fails as if
 * its parent were not there (ENOENT). So we look for the nearest parent that exists and go down from it, level by level.
 */
import { lstat, mkdir, readlink, realpath, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { EmbeddedPostgresError, errorCode } from './error.ts'

const PRIVATE_FOLDER = 0o700

/**
 * The folder's real path, which is what Postgres compares and reports. Throws `not_a_data_folder` where a file or a link
 * to nowhere stands in the way, `no_permission` where no folder can be made, and what the file system says otherwise.
 */
export async function makeFolder(path: string): Promise<string> {
  const absolute = resolve(path)
  let existing = await nearestExisting(absolute)
  for (const name of relative(existing, absolute).split(sep)) {
    if (name === '') continue
    await makeOne(join(existing, name), existing, absolute)
    existing = join(existing, name)
  }
  if (!(await stat(absolute)).isDirectory()) throw isNoFolder(absolute)
  return realpath(absolute)
}

async function nearestExisting(absolute: string): Promise<string> {
  for (let path = absolute; ; path = dirname(path)) {
    try {
      const found = await lstat(path)
      if (found.isSymbolicLink()) await checkLink(path)
      return path
    } catch (cause) {
      if (errorCode(cause) === 'ENOTDIR') throw isNoFolder(absolute, cause)
      if (errorCode(cause) !== 'ENOENT' || path === dirname(path)) throw cause
    }
  }
}

async function checkLink(path: string): Promise<void> {
  try {
    await stat(path)
  } catch (cause) {
    if (errorCode(cause) !== 'ENOENT' && errorCode(cause) !== 'ELOOP') throw cause
    throw new EmbeddedPostgresError(
      'not_a_data_folder',
      `${path} is a link to ${await readlink(path)}, which is not there: make that folder, or choose another with --data-dir.`,
      { cause },
    )
  }
}

async function makeOne(path: string, parent: string, wanted: string): Promise<void> {
  try {
    await mkdir(path, { mode: PRIVATE_FOLDER })
  } catch (cause) {
    switch (errorCode(cause)) {
      case 'EEXIST':
        // Another process made it a moment ago.
        return
      case 'ENOTDIR':
        throw isNoFolder(wanted, cause)
      case 'ENOENT':
        throw new EmbeddedPostgresError(
          'no_permission',
          `The data folder ${wanted} cannot be made, because ${parent} takes no folders: choose another with --data-dir.`,
          { cause },
        )
      default:
        throw cause
    }
  }
}

function isNoFolder(path: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'not_a_data_folder',
    `${path} is a file or lies inside one: choose a folder with --data-dir.`,
    { cause },
  )
}
