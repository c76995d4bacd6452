/**
 * Inline commands, as a person types them: words separated by spaces, "…" with escapes and '…' for words with spaces.
 * As Redis reads them, errors included. PURE.
 */

/** Bytes that mean nothing; what follows them means nothing either. */
export class ProtocolError extends Error {
  override name = 'ProtocolError'
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', a: '\x07' }

/** The words of an inline command; the line has one character a byte. */
export function splitInline(line: string): Uint8Array[] {
  const words: Uint8Array[] = []
  let at = 0
  for (;;) {
    while (at < line.length && isSpace(line, at)) at++
    if (at >= line.length) return words
    let word = ''
    while (at < line.length && !isSpace(line, at)) {
      const quote = line[at]
      if (quote === '"' || quote === "'") {
        const part = readQuoted(line, at + 1, quote)
        word += part.text
        at = part.end
        // A closing quote must end the word.
        if (at < line.length && !isSpace(line, at)) throw new ProtocolError('unbalanced quotes in request')
      } else word += line[at++]
    }
    words.push(Buffer.from(word, 'latin1'))
  }
}

const isSpace = (line: string, at: number): boolean => ' \t\n\r\v\f\0'.includes(line[at]!)

/** The text up to the closing quote, and the position after it. */
function readQuoted(line: string, start: number, quote: string): { text: string; end: number } {
  let text = ''
  let at = start
  while (at < line.length) {
    const char = line[at]!
    if (char === quote) return { text, end: at + 1 }
    if (char !== '\\' || at + 1 >= line.length) {
      text += char
      at++
      continue
    }
    const next = line[at + 1]!
    const hex = /^x[0-9a-fA-F]{2}/.exec(line.slice(at + 1, at + 4))
    if (quote === "'") {
      // Only \' is an escape here.
      text += next === "'" ? "'" : '\\'
      at += next === "'" ? 2 : 1
    } else if (hex !== null) {
      text += String.fromCharCode(Number.parseInt(hex[0].slice(1), 16))
      at += 4
    } else {
      text += ESCAPES[next] ?? next
      at += 2
    }
  }
  throw new ProtocolError('unbalanced quotes in request')
}
