/** Text in columns: the first to the left, the others to the right. A line of one cell stands by itself. */
export function table(lines: readonly (readonly string[])[]): string {
  const columns = Math.max(...lines.map(line => line.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...lines.map(line => (line.length === 1 ? 0 : (line[column]?.length ?? 0)))),
  )
  const toText = (line: readonly string[]) =>
    line.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
  return lines.map(line => toText(line).join('   ').trimEnd()).join('\n')
}

/** Three digits that count, whatever the size; "-" for what is not known. */
export function figure(value: number): string {
  if (Number.isNaN(value)) return '-'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  if (Math.abs(value) >= 10) return value.toFixed(1)
  return Math.abs(value) >= 1 ? value.toFixed(2) : value.toFixed(3)
}
