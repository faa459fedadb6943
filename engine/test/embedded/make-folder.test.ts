import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeFolder } from '../../src/embedded/make-folder.ts'
import { entriesOf, scratchFolder } from './scratch.ts'

describe('a data folder', () => {
  test('is made with all that leads to it, and may be there already', async () => {
    const wanted = join(scratchFolder(), 'a', 'b', 'c')

    const [made, madeMeanwhile] = await Promise.all([makeFolder(wanted), makeFolder(wanted)])
    const found = await makeFolder(wanted)

    expect([made, madeMeanwhile, found]).toEqual([wanted, wanted, wanted])
    expect(await entriesOf(wanted)).toEqual([])
  })

  test('may be reached by a link, and has its real path then', async () => {
    const folder = scratchFolder()
    const real = await makeFolder(join(folder, 'real'))
    await symlink(real, join(folder, 'link'))

    expect(await makeFolder(join(folder, 'link'))).toBe(real)
    expect(await makeFolder(join(folder, 'link', 'new'))).toBe(join(real, 'new'))
  })

  test.skipIf(process.platform !== 'linux').each(['/proc/foo', '/proc/foo/bar'])(
    'that the system does not make is refused, as %s',
    async path => {
      await expect(makeFolder(path)).rejects.toMatchObject({
        code: 'no_permission',
        message: `The data folder ${path} cannot be made, because /proc takes no folders: choose another with --data-dir.`,
      })
    },
  )

  test.each(['', 'inside'])('behind a link to nowhere is refused (%j)', async inside => {
    const folder = scratchFolder()
    const link = join(folder, 'link')
    await symlink(join(folder, 'gone'), link)

    await expect(makeFolder(join(link, inside))).rejects.toMatchObject({
      code: 'not_a_data_folder',
      message: `${link} is a link to ${join(folder, 'gone')}, which is not there: make that folder, or choose another with --data-dir.`,
    })
  })

  test.each(['', 'inside', 'inside/deep'])('that is a file, or in one, is refused (%j)', async inside => {
    const file = join(scratchFolder(), 'file')
    await writeFile(file, '')

    await expect(makeFolder(join(file, inside))).rejects.toMatchObject({
      code: 'not_a_data_folder',
      message: `${join(file, inside)} is a file or lies inside one: choose a folder with --data-dir.`,
    })
  })
})
