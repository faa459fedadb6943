/* As much of SVG as a chart needs: text, boxes, lines. Colours are classes, so that one style sheet knows dark mode. */

export interface TextPlace {
  x: number
  y: number
  className: string
  anchor?: 'start' | 'middle' | 'end'
}

export function text(content: string, { x, y, className, anchor = 'start' }: TextPlace): string {
  return `<text x="${round(x)}" y="${round(y)}" class="${className}" text-anchor="${anchor}">${escapeXml(content)}</text>`
}

export function box(place: { x: number; y: number; width: number; height: number; className: string }): string {
  const { x, y, width, height, className } = place
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="2" class="${className}"/>`
}

export function line(place: { x: number; y: number; width: number }): string {
  const { x, y, width } = place
  return `<line x1="${round(x)}" y1="${round(y)}" x2="${round(x + width)}" y2="${round(y)}" class="rule"/>`
}

/** A whole picture, readable by itself and for who cannot see it. */
export function document(given: {
  width: number
  height: number
  title: string
  style: string
  parts: readonly string[]
}): string {
  const { width, height, title, style, parts } = given
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(title)}">`
  return `${[head, `<title>${escapeXml(title)}</title>`, `<style>${style}</style>`, ...parts, '</svg>'].join('\n')}\n`
}

export function escapeXml(content: string): string {
  // XML has no way to write most control characters.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const printable = content.replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '')
  return printable.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
