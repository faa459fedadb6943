/** Prints what happens as it happens: lines only, so that it reads the same in a terminal, a file and a CI log. */
import colors from 'picocolors'

/** How a line is coloured; it means the same without colours. */
export type Tone = 'plain' | 'good' | 'bad' | 'busy' | 'quiet'

export interface Narrator {
  /** A heading, and a sentence that says what to watch for. */
  chapter(title: string, sentence?: string): void
  /** Who, and what happened: `12.3s  #2  done  check-size  0.4 ms`. */
  tell(who: string, text: string, tone?: Tone): void
  /** Text as it is. */
  print(text: string): void
  /** Nothing is printed from now on. */
  hush(): void
}

const WHO_CHARS = 10

/** @param options.nowMs a monotonic clock */
export function createNarrator(options: { write: (text: string) => void; nowMs: () => number }): Narrator {
  const { nowMs } = options
  const startedAtMs = nowMs()
  let write = options.write
  let chapters = 0
  return {
    chapter(title, sentence) {
      chapters += 1
      write(`\n${colors.bold(`${chapters}. ${title}`)}\n`)
      if (sentence !== undefined) write(`   ${colors.dim(sentence)}\n`)
    },
    tell(who, text, tone = 'plain') {
      const seconds = `${((nowMs() - startedAtMs) / 1000).toFixed(1)}s`.padStart(7)
      write(`${colors.dim(seconds)}  ${colors.cyan(who.padEnd(WHO_CHARS))} ${paint(tone, text)}\n`)
    },
    print: text => write(`${text}\n`),
    hush() {
      write = () => {}
    },
  }
}

function paint(tone: Tone, text: string): string {
  switch (tone) {
    case 'plain':
      return text
    case 'good':
      return colors.green(text)
    case 'bad':
      return colors.red(text)
    case 'busy':
      return colors.yellow(text)
    case 'quiet':
      return colors.dim(text)
  }
}
