/** Reads `text/event-stream`. No imports: it runs in browsers. */

/** One event of a stream. */
export interface StreamEvent {
  /** As the stream gave it last; empty for none. */
  id: string
  /** `message` when the stream names none. */
  event: string
  data: string
}

/**
 * Gives a function that takes the text of a stream in pieces of any size and returns the events that are complete. The
 * rules are those of the HTML standard (9.2.6); `retry` is left to whoever reconnects.
 */
export function createEventReader(): (piece: string) => StreamEvent[] {
  let rest = ''
  let id = ''
  let event = ''
  let data: string[] = []

  function takeLine(line: string, events: StreamEvent[]): void {
    if (line === '') {
      if (data.length > 0) events.push({ id, event: event === '' ? 'message' : event, data: data.join('\n') })
      event = ''
      data = []
      return
    }
    const colon = line.indexOf(':')
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'data') data.push(value)
    else if (name === 'event') event = value
    else if (name === 'id' && !value.includes('\0')) id = value
  }

  return piece => {
    const events: StreamEvent[] = []
    rest += piece
    // The second half of a line's end may be in the next piece.
    const whole = rest.endsWith('\r') ? rest.slice(0, -1) : rest
    const lines = whole.split(/\r\n|\n|\r/)
    rest = (lines.pop() ?? '') + rest.slice(whole.length)
    for (const line of lines) takeLine(line, events)
    return events
  }
}
