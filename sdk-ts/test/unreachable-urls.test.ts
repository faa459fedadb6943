import { expect, test } from 'vitest'
import { UnreachableUrls } from '../src/unreachable-urls.ts'

test('a URL is unreachable for half a minute, or until it answers', () => {
  const urls = new UnreachableUrls()

  urls.add('http://a/', 1_000)
  urls.add('http://b/', 1_000)
  urls.delete('http://b/')

  expect(urls.has('http://a/', 30_999)).toBe(true)
  expect(urls.has('http://a/', 31_000)).toBe(false)
  expect(urls.has('http://b/', 1_000)).toBe(false)
})

test('only so many are remembered: the oldest is forgotten', () => {
  const urls = new UnreachableUrls()

  for (let n = 0; n <= 100; n += 1) urls.add(`http://${n}/`, 1_000)

  expect(urls.has('http://0/', 1_000)).toBe(false)
  expect(urls.has('http://1/', 1_000)).toBe(true)
  expect(urls.has('http://100/', 1_000)).toBe(true)
})
