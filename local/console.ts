/**
 * The terminal: a picture that is drawn over itself while things come up, and sentences below it; where there is
 * no terminal, sentences alone. Colours only where they are wanted (NO_COLOR, no terminal: none).
 */
import type { Paint } from './view.ts'

const CODES = { green: 32, yellow: 33, red: 31, cyan: 36, dim: 2, bold: 1 } as const

export class Console {
  readonly #out: NodeJS.WriteStream
  readonly live: boolean
  readonly paint: Paint
  #drawn = 0

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out
    this.live = out.isTTY && process.env.TERM !== 'dumb'
    const colour = this.live && (process.env.NO_COLOR ?? '') === ''
    this.paint = (text, name) => (colour ? `\x1b[${CODES[name]}m${text}\x1b[0m` : text)
    // A terminal that has gone away is no reason to fall over before the nodes are stopped.
    out.on('error', () => {})
  }

  /** Draws the picture over the last one. */
  draw(lines: readonly string[]): void {
    if (!this.live) return
    const width = this.#out.columns || 80
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : ''
    this.#out.write(`${up}${lines.map((line) => `\x1b[2K${clip(line, width)}\n`).join('')}\x1b[J`)
    this.#drawn = lines.length
  }

  /** Leaves the picture as it is; what comes next goes below it. */
  leave(): void {
    this.#drawn = 0
  }

  say(text: string): void {
    this.leave()
    this.#out.write(`${text}\n`)
  }
}

/** Cuts a line to the width of the terminal, colours aside: a line that wraps would break the picture. */
function clip(line: string, width: number): string {
  let [shown, length] = ['', 0]
  // oxlint-disable-next-line no-control-regex -- the escape sequences of colours are control characters
  for (const part of line.split(/(\x1b\[\d+m)/)) {
    if (part.startsWith('\x1b')) shown += part
    else {
      const rest = Array.from(part).slice(0, Math.max(0, width - 1 - length))
      shown += rest.join('')
      length += rest.length
    }
  }
  return shown
}
