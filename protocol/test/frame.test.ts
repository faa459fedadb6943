import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeFrame, type Frame, FrameReader, LIMITS, signHeaders, verify } from '../src/index.ts'
import { readVectors } from './vectors.ts'

interface FrameVector {
  id: string
  timestamp: string
  signature: string
  body: string
}

const vectors = readVectors<{
  cases: { name: string; hex: string; frames: FrameVector[] }[]
  refused: { name: string; hex: string }[]
  incomplete: { name: string; hex: string }[]
}>('frames.json')

const KEY = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const NOW_MS = 1_767_225_600_000

function vectorOf({ headers, body }: Frame): FrameVector {
  const { id, timestamp, signature } = headers
  return { id: id ?? '', timestamp: timestamp ?? '', signature: signature ?? '', body: body.toString() }
}

function encode({ id, timestamp, signature, body }: FrameVector): Buffer {
  return encodeFrame({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature }, body)
}

/** Cuts bytes into pieces of the given lengths, again and again. */
function cut(bytes: Buffer, lengths: number[]): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0, n = 0; at < bytes.length; n += 1) {
    const end = at + (lengths[n % lengths.length] ?? 1)
    chunks.push(bytes.subarray(at, end))
    at = end
  }
  return chunks
}

describe('the vectors of frames', () => {
  test.each(vectors.cases)('$name', ({ hex, frames }) => {
    const bytes = Buffer.from(hex, 'hex')

    const read = new FrameReader().read(bytes)
    const written = Buffer.concat(frames.map(encode))

    expect(read.map(vectorOf)).toEqual(frames)
    expect(written.toString('hex')).toBe(hex)
  })

  test.each(vectors.refused)('is no frame: $name', ({ hex }) => {
    const read = () => new FrameReader().read(Buffer.from(hex, 'hex'))

    expect(read).toThrow(RangeError)
  })

  test.each(vectors.incomplete)('is waited for: $name', ({ hex }) => {
    expect(new FrameReader().read(Buffer.from(hex, 'hex'))).toEqual([])
  })
})

test('however the bytes are cut, the frames are the same', () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_,=+/-]{1,40}$/)
  const frame = fc.record({ id: word, timestamp: word, signature: word, body: fc.string({ unit: 'grapheme' }) })
  fc.assert(
    fc.property(fc.array(frame), fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }), (frames, lengths) => {
      const reader = new FrameReader()
      const bytes = Buffer.concat(frames.map(encode))

      const read = cut(bytes, lengths).flatMap(chunk => reader.read(chunk))

      expect(read.map(vectorOf)).toEqual(frames)
    }),
  )
})

test('any bytes are frames, or the beginning of one, or a RangeError', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), chunks => {
      const reader = new FrameReader()
      let error: unknown = null

      try {
        for (const chunk of chunks) reader.read(Buffer.from(chunk))
      } catch (thrown) {
        error = thrown
      }

      expect(error === null || error instanceof RangeError).toBe(true)
    }),
    { numRuns: 1_000 },
  )
})

test('a body of the largest size passes, and its signature holds', () => {
  const body = 'x'.repeat(LIMITS.bodyBytes)
  const sent = signHeaders({ id: 'msg_1', nowMs: NOW_MS, payload: body, secrets: [KEY, KEY, KEY] })
  const reader = new FrameReader()

  const [frame] = cut(encodeFrame(sent, body), [65_536]).flatMap(chunk => reader.read(chunk))

  if (frame === undefined) throw new Error('no frame')
  const verified = verify({ headers: frame.headers, payload: frame.body, secrets: [KEY], nowMs: NOW_MS })
  expect(verified).toEqual({ ok: true, id: 'msg_1' })
})

test('a first line over its limit is refused', () => {
  const frame = encode({ id: 'msg_1', timestamp: '1', signature: 'v1,'.padEnd(5_000, 'A'), body: '{}' })

  expect(() => new FrameReader().read(frame)).toThrow(RangeError)
})
