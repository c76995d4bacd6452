/**
 * Glob patterns of KEYS and SCAN: `*`, `?`, `[a-z]`, `[^x]`, `\` before a character that means itself. PURE.
 *
 * Works on strings of one character a byte. Compared with a recursive matcher, a star only ever falls back to
 * the last one, so that the time is at most pattern times text: a pattern cannot hold the node up.
 */
export function globMatches(pattern: string, text: string): boolean {
  if (pattern === '*') return true
  let p = 0
  let t = 0
  let starPattern = -1
  let starText = 0
  while (t < text.length) {
    if (pattern[p] === '*') {
      starPattern = ++p
      starText = t
      continue
    }
    const next = p < pattern.length ? matchOne(pattern, p, text.charCodeAt(t)) : -1
    if (next >= 0) {
      p = next
      t++
    } else if (starPattern >= 0) {
      p = starPattern
      t = ++starText
    } else return false
  }
  while (pattern[p] === '*') p++
  return p >= pattern.length
}

/** Where the pattern goes on after matching one character, or -1. */
function matchOne(pattern: string, at: number, code: number): number {
  const head = pattern[at]
  if (head === '?') return at + 1
  if (head === '[') return matchClass(pattern, at + 1, code)
  const literal = head === '\\' && at + 1 < pattern.length ? at + 1 : at
  return pattern.charCodeAt(literal) === code ? literal + 1 : -1
}

function matchClass(pattern: string, start: number, code: number): number {
  let at = start
  const negated = pattern[at] === '^'
  if (negated) at++
  let found = false
  while (at < pattern.length && pattern[at] !== ']') {
    if (pattern[at] === '\\' && at + 1 < pattern.length) at++
    let low = pattern.charCodeAt(at)
    let high = low
    if (pattern[at + 1] === '-' && at + 2 < pattern.length) {
      high = pattern.charCodeAt(at + 2)
      at += 2
    }
    if (low > high) [low, high] = [high, low]
    if (code >= low && code <= high) found = true
    at++
  }
  // A class without its end means what Redis makes of it: it ends with the pattern.
  return found === negated ? -1 : Math.min(at + 1, pattern.length)
}
