/** A word is meant when at most this share of it has to change. */
const MAX_CHANGED = 0.4

/** Which of the names somebody meant who wrote `word`; null when none is close. */
export function nearestName(word: string, names: readonly string[]): string | null {
  let nearest: string | null = null
  let fewest = Number.POSITIVE_INFINITY
  for (const name of names) {
    const changes = editDistance(word.toLowerCase(), name.toLowerCase())
    if (changes < fewest) {
      fewest = changes
      nearest = name
    }
  }
  return nearest !== null && fewest <= Math.max(1, MAX_CHANGED * nearest.length) ? nearest : null
}

/** How many characters have to be put in, taken out, replaced, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      let changes = Math.min(replaced, (last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1)
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (isSwap) changes = Math.min(changes, (beforeLast[j - 2] ?? 0) + 1)
      row.push(changes)
    }
    beforeLast = last
    last = row
  }
  return last[b.length] ?? 0
}
