/** What a handler says of its run: status and tags. Said again with the same value, nothing is sent. */
import type { Json, Tags, Turn } from '@stepwell/protocol'
import type { StatusTexts } from './step-said.ts'

export class Said {
  #status: string | null
  /** What the engine gets of it. The same status may be written in many ways. */
  #wireStatus: string | null
  #tags: Tags
  #tagsText: string
  /** As they are recorded, or on the way. Undefined: not known. */
  #sentStatus: string | null | undefined
  #sentTags: string | undefined

  /** @param wireStatus the turn's status as the engine has it, where that is not what the handler said */
  constructor({ status, tags }: Turn, wireStatus: Json | undefined = status) {
    this.#status = status === undefined ? null : JSON.stringify(status)
    this.#wireStatus = wireStatus === undefined ? null : JSON.stringify(wireStatus)
    this.#tags = tags ?? {}
    this.#sentStatus = this.#status
    this.#tagsText = textOf(this.#tags)
    this.#sentTags = this.#tagsText
  }

  setStatus({ text, wireText }: StatusTexts): void {
    this.#status = text
    this.#wireStatus = wireText
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
    const status = this.#status === this.#sentStatus ? '' : `,"status":${this.#wireStatus ?? 'null'}`
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
