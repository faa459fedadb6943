import { expect, test } from 'vitest'
import { figure, table } from '../src/report/table.ts'
import { toPicture } from '../src/side-by-side/picture.ts'
import { toText } from '../src/side-by-side/text-report.ts'
import { aResult } from './a-result.ts'

test('columns line up, and a line of one cell widens none', () => {
  const text = table([['', 'a', 'long name'], ['a heading that is longer than its column'], ['row', '1', '2']])

  expect(text.split('\n')).toEqual([
    '      a   long name',
    'a heading that is longer than its column',
    'row   1           2',
  ])
})

test('figures keep three digits that count', () => {
  expect([12_345.6, 99.96, 1.234, 0.0123, Number.NaN].map(figure)).toEqual(['12,346', '100.0', '1.23', '0.012', '-'])
})

test('the text shows medians, paired ratios, and a dash for what is not known', () => {
  const text = toText(aResult())

  expect(text).toMatch(/p50 ms +1\.50 +4\.00 +-/)
  expect(text).toMatch(/W1 p50 ms +0\.375 x \(0\.250 to 0\.500\) +-/)
})

test('the picture is well-formed XML, whatever names and messages hold', () => {
  const picture = toPicture(aResult({ missing: ['failed: "<&>" \u0007'] }))

  expect(unbalanced(picture)).toEqual([])
  expect(picture).not.toMatch(/NaN|undefined|&(?!amp;|lt;|gt;|quot;)/)
  expect(picture).not.toContain('\u0007')
})

/** Tags that are not closed in their order. Attributes and texts of ours hold no `<` or `>`. */
function unbalanced(xml: string): string[] {
  const open: string[] = []
  for (const [, isEnd, name = '', isEmpty] of xml.matchAll(/<(\/)?([a-z]+)(?:\s[^<>]*?)?(\/)?>/g)) {
    if (isEnd === undefined && isEmpty === undefined) open.push(name)
    if (isEnd !== undefined && open.pop() !== name) return [name]
  }
  const leftOver = xml.replaceAll(/<\/?[a-z]+(?:\s[^<>]*?)?\/?>/g, '').match(/[<>]/g) ?? []
  return [...open, ...leftOver]
}
