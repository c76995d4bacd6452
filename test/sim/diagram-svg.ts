/**
 * A trace as a sequence diagram in SVG, for a browser: the rows of diagram.ts, with every message as a line from where
 * it left to where it came. Legible in light and dark; the whole of every message is in its tooltip.
 */
import type { NodeId } from '../../src/vocabulary.ts'
import { type Drawing, type Life, type Row, SIGNS, clip } from './diagram.ts'
import { describe } from './trace.ts'

const LEFT = 90
const COLUMN = 210
const TOP = 60
const ROW = 22
const LABEL_LETTERS = 30

const STYLE = `
  svg { background: #ffffff; color: #1b1f24; font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  text { fill: currentColor; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  .time { fill: #6e7781; text-anchor: end } .head { font-weight: bold; text-anchor: middle; font-size: 14px }
  .life { stroke: #8c959f; stroke-width: 1.5 } .paused { stroke-dasharray: 2 5 }
  .message { stroke: #0969da; stroke-width: 1.2 } .arrow { fill: #0969da }
  .lost { stroke: #cf222e; stroke-dasharray: 5 4 } .bad { fill: #cf222e; font-weight: bold }
  .durable, .decided { fill: #1a7f37 } .leads { fill: #9a6700; font-weight: bold } .world { fill: #8250df }
  .band { fill: #8250df; opacity: 0.08 }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; color: #e6edf3 } text { stroke: #0d1117 }
    .time { fill: #8b949e } .life { stroke: #6e7681 } .message { stroke: #58a6ff } .arrow { fill: #58a6ff }
    .lost { stroke: #ff7b72 } .bad { fill: #ff7b72 } .durable, .decided { fill: #56d364 } .leads { fill: #e3b341 }
    .world { fill: #d2a8ff } .band { fill: #d2a8ff }
  }`

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const titled = (element: string, title: string): string => `<g><title>${escape(title)}</title>${element}</g>`

const text = (style: string, x: number, y: number, words: string, anchor = 'start'): string =>
  `<text class="${style}" x="${x}" y="${y}" text-anchor="${anchor}">${escape(words)}</text>`

class Picture {
  readonly #drawing: Drawing
  readonly #parts: string[] = []

  constructor(drawing: Drawing) {
    this.#drawing = drawing
  }

  #x(node: NodeId): number {
    return LEFT + COLUMN / 2 + COLUMN * this.#drawing.nodes.indexOf(node)
  }

  #y(row: number): number {
    return TOP + ROW * (row + 1)
  }

  /** Where a time lies between the rows: messages leave there. */
  #height(time: number): number {
    const { rows } = this.#drawing
    const after = rows.findIndex(({ at }) => at >= time)
    return this.#y(after < 0 ? rows.length : after) - (rows[after]?.at === time ? 0 : ROW / 2)
  }

  draw(): string {
    const { nodes, rows } = this.#drawing
    const width = LEFT + COLUMN * nodes.length + 40
    const height = this.#y(rows.length) + 40
    for (const node of nodes) this.#lifeLine(node)
    for (const [at, row] of rows.entries()) {
      if (rows[at - 1]?.at.toFixed(1) !== row.at.toFixed(1)) {
        this.#parts.push(text('time', LEFT - 14, this.#y(at) + 4, row.at.toFixed(1), 'end'))
      }
      this.#parts.push(this.#row(row, this.#y(at), width))
    }
    for (const node of nodes) {
      for (const y of [TOP - 22, height - 12])
        this.#parts.push(text('head', this.#x(node), y, `node ${node}`, 'middle'))
    }
    const size = `viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"`
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>\n<style>${STYLE}\n</style>\n${this.#parts.join('\n')}\n</svg>\n`
  }

  /** Solid while it is up, dotted while it is paused, away while it is down. */
  #lifeLine(node: NodeId): void {
    const { rows } = this.#drawing
    const x = this.#x(node)
    const lifeAt = (row: number): Life => rows[row]?.lives.get(node) ?? 'down'
    for (let from = 0; from < rows.length;) {
      let to = from
      while (to < rows.length && lifeAt(to) === lifeAt(from)) to++
      const life = lifeAt(from)
      if (life !== 'down') {
        const ends = `x1="${x}" y1="${this.#y(from) - ROW / 2}" x2="${x}" y2="${this.#y(to) - ROW / 2}"`
        this.#parts.push(`<line class="life ${life}" ${ends}/>`)
      }
      from = to
    }
  }

  #row(row: Row, y: number, width: number): string {
    switch (row.kind) {
      case 'world': {
        const band = `<rect class="band" x="${LEFT - 8}" y="${y - 10}" width="${width - LEFT}" height="20"/>`
        return titled(band + text('world', LEFT, y + 4, clip(row.what, 110)), row.what)
      }
      case 'mark': {
        const x = this.#x(row.node)
        const style = row.mark === 'crash' ? 'bad' : row.mark
        const sign = text(style, x, y + 5, SIGNS[row.mark], 'middle')
        return titled(sign + text(style, x + 12, y + 4, clip(row.what, LABEL_LETTERS)), row.what)
      }
      case 'lost':
        return this.#lost(row.from, row.to, y, describe(row.of))
      case 'arrival':
        return this.#message(row.from, row.to, [this.#height(row.sent), y], describe(row.of))
    }
  }

  #message(from: NodeId, to: NodeId, [y1, y2]: readonly [number, number], words: string): string {
    const [x1, x2] = [this.#x(from), this.#x(to)]
    const back = x1 < x2 ? -1 : 1
    const line = `<line class="message" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`
    const head = `<path class="arrow" d="M${x2} ${y2} l${9 * back} -4 v8 z"/>`
    const label = text('', x2 + 14 * back, y2 - 3, clip(words, LABEL_LETTERS), back < 0 ? 'end' : 'start')
    return titled(line + head + label, words)
  }

  #lost(from: NodeId, to: NodeId, y: number, words: string): string {
    const x1 = this.#x(from)
    const x2 = x1 + (this.#x(to) - x1) * 0.6
    const line = `<line class="message lost" x1="${x1}" y1="${y}" x2="${x2}" y2="${y}"/>`
    const label = text('bad', (x1 + x2) / 2, y - 4, clip(words, LABEL_LETTERS - 8), 'middle')
    return titled(`${line}${text('bad', x2, y + 4, '✕', 'middle')}${label}`, `lost: ${words}`)
  }
}

export const drawSvg = (drawing: Drawing): string => new Picture(drawing).draw()
