/** What a handler says of its run: status and tags. Said again with the same value, nothing is sent. */
import type { Tags, Turn } from '@stepwell/protocol'

export class Said {
  #status: string | null
  #tags: Tags
  #tagsText: string
  /** As they are recorded, or on the way. Undefined: not known. */
  #sentStatus: string | null | undefined
  #sentTags: string | undefined

  constructor({ status, tags }: Turn) {
    this.#status = status === undefined ? null : JSON.stringify(status)
    this.#tags = tags ?? {}
    this.#sentStatus = this.#status
    this.#tagsText = textOf(this.#tags)
    this.#sentTags = this.#tagsText
  }

  setStatus(text: string | null): void {
    this.#status = text
  }

  /** Adds tags; null takes one away. */
  setTags(tags: { [name: string]: string | null }): void {
    const next = new Map(Object.entries(this.#tags))
    for (const [name, value] of Object.entries(tags)) {
      if (value === null) next.delete(name)
      else next.set(name, value)
    }
    this.#tags = Object.fromEntries(next)
    this.#tagsText = textOf(this.#tags)
  }

  get tags(): Tags {
    return this.#tags
  }

  get isNew(): boolean {
    return this.#status !== this.#sentStatus || this.#tagsText !== this.#sentTags
  }

  /** What is new, as members of a report. */
  take(): string {
    if (!this.isNew) return ''
    const status = this.#status === this.#sentStatus ? '' : `,"status":${this.#status ?? 'null'}`
    const tags = this.#tagsText === this.#sentTags ? '' : `,"tags":${this.#tagsText}`
    this.#sentStatus = this.#status
    this.#sentTags = this.#tagsText
    return status + tags
  }

  /** What was on the way may not have arrived. */
  sayAgain(): void {
    this.#sentStatus = undefined
    this.#sentTags = undefined
  }
}

/** The same for the same tags, whatever their order. */
function textOf(tags: Tags): string {
  return JSON.stringify(Object.fromEntries(Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1))))
}
