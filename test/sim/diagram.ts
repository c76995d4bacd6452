/**
 * A trace as a sequence diagram in text: a column for each node, time downwards. A message is a row at the time it
 * arrives, a lost one at the time it left; what nodes did, and what was done to them, are signs in their columns:
 *
 *   ○ starts   ✖ crashes   ‖ is paused   ▸ goes on   ■ made durable   ✓ decided   ★ leads   • anything else
 *
 * A life line is drawn while a node is up, dotted while it is paused, and not at all while it is down.
 */
import { styleText } from 'node:util'
import type { NodeId } from '../../src/vocabulary.ts'
import { type Mark, type Note, type Tagged, describe, wordsOf } from './trace.ts'

export type Life = 'up' | 'paused' | 'down'

/** Something to draw, in the order of time. `lives`: how each node is at that time. */
export type Row = { readonly at: number; readonly lives: ReadonlyMap<NodeId, Life> } & (
  | { readonly kind: 'arrival'; readonly from: NodeId; readonly to: NodeId; readonly sent: number; readonly of: Tagged }
  /** It came to nobody: lost on its way, or the other side was down. */
  | { readonly kind: 'lost'; readonly from: NodeId; readonly to: NodeId; readonly of: Tagged }
  | { readonly kind: 'mark'; readonly node: NodeId; readonly mark: Mark; readonly what: string }
  | { readonly kind: 'world'; readonly what: string }
)

export const SIGNS: Readonly<Record<Mark, string>> = {
  start: '○',
  crash: '✖',
  pause: '‖',
  resume: '▸',
  durable: '■',
  decided: '✓',
  leads: '★',
  other: '•',
}

/** Messages of which there are so many that a picture says more without them. */
const CHATTER = new Set(['heartbeat-request', 'heartbeat-reply', 'lease-request', 'lease-grant'])

export interface Drawing {
  readonly nodes: readonly NodeId[]
  readonly rows: readonly Row[]
}

type Happening = { readonly at: number; readonly note: Note; readonly arrives: boolean }

/** The last `count` rows of what the notes tell. `chatter`: with heartbeats and leases. */
export function drawingOf(notes: readonly Note[], count: number, chatter = false): Drawing {
  const nodes = new Set<NodeId>()
  const happenings: Happening[] = []
  for (const note of notes) {
    if (note.kind === 'node') nodes.add(note.node)
    if (note.kind !== 'message') happenings.push({ at: note.at, note, arrives: false })
    else if (chatter || !CHATTER.has(note.message.kind)) {
      if (note.arrives.length === 0) happenings.push({ at: note.at, note, arrives: false })
      for (const at of note.arrives) happenings.push({ at, note, arrives: true })
    }
  }
  happenings.sort((a, b) => a.at - b.at)
  const end = notes.at(-1)?.at ?? 0
  const lives = new Map<NodeId, Life>()
  const first = new Map<NodeId, Mark>()
  for (const note of notes) if (note.kind === 'node' && !first.has(note.node)) first.set(note.node, note.mark)
  for (const [node, mark] of first) lives.set(node, mark === 'start' ? 'down' : 'up')
  const rows: Row[] = []
  for (const { at, note, arrives } of happenings) {
    if (at > end) break
    if (note.kind === 'node') live(lives, note.node, note.mark)
    rows.push(rowOf({ at, note, arrives }, new Map(lives)))
  }
  return { nodes: [...nodes].toSorted((a, b) => a - b), rows: rows.slice(-count) }
}

function live(lives: Map<NodeId, Life>, node: NodeId, mark: Mark): void {
  if (mark === 'start') lives.set(node, 'up')
  else if (mark === 'crash') lives.set(node, 'down')
  else if (mark === 'pause' && lives.get(node) === 'up') lives.set(node, 'paused')
  else if (mark === 'resume' && lives.get(node) === 'paused') lives.set(node, 'up')
}

function rowOf({ at, note, arrives }: Happening, lives: ReadonlyMap<NodeId, Life>): Row {
  switch (note.kind) {
    case 'world':
      return { kind: 'world', at, lives, what: wordsOf(note.what) }
    case 'node':
      return { kind: 'mark', at, lives, node: note.node, mark: note.mark, what: wordsOf(note.what) }
    case 'message': {
      const { from, to, message: of } = note
      if (!arrives || lives.get(to) === 'down') return { kind: 'lost', at, lives, from, to, of }
      return { kind: 'arrival', at, lives, from, to, sent: note.at, of }
    }
  }
}

const TIME_WIDTH = 10
const LIFE_LINES: Readonly<Record<Life, string>> = { up: '│', paused: '┊', down: ' ' }

interface Style {
  readonly columns: number
  readonly colour: boolean
}

/** The drawing as lines for a terminal that is `columns` wide. */
export function drawText({ nodes, rows }: Drawing, { columns, colour }: Style): string {
  const widest = nodes.length > 4 ? 15 : 18
  const width = Math.max(9, Math.min(widest, Math.floor((columns - TIME_WIDTH - 30) / Math.max(1, nodes.length))))
  const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const place = (node: NodeId): number => Math.floor(width / 2) + width * nodes.indexOf(node)
  const head = nodes
    .map((node) => center(`node ${node}`, width))
    .join('')
    .trimEnd()
  const lines = [paint('bold', `${'ms'.padStart(TIME_WIDTH - 1)} ${head}`)]
  for (const row of rows) {
    const canvas = Array.from({ length: width * nodes.length }, () => ' ')
    for (const node of nodes) canvas[place(node)] = LIFE_LINES[row.lives.get(node) ?? 'down']
    const words = drawRow(canvas, row, place)
    const time = paint('dim', row.at.toFixed(1).padStart(TIME_WIDTH - 1))
    const room = columns - TIME_WIDTH - canvas.length - 1
    const [picture, said] = [canvas.join(''), clip(words, Math.max(room, 20))]
    lines.push(`${time} ${paint(styleOf(row), picture)} ${paint(styleOf(row), said)}`.trimEnd())
  }
  return lines.join('\n')
}

/** Puts the row's signs on the canvas; its words go beside it. */
function drawRow(canvas: string[], row: Row, place: (node: NodeId) => number): string {
  switch (row.kind) {
    case 'world':
      for (const [at, sign] of canvas.entries()) if (sign === ' ') canvas[at] = '·'
      return row.what
    case 'mark':
      canvas[place(row.node)] = SIGNS[row.mark]
      return `${row.node} ${row.what}`
    case 'lost':
    case 'arrival':
      arrow(canvas, row, place(row.from), place(row.to))
      return detail(row)
  }
}

function arrow(canvas: string[], row: Row & { readonly of: Tagged }, from: number, to: number): void {
  const step = from < to ? 1 : -1
  const isLost = row.kind === 'lost'
  for (let at = from + step; at !== to; at += step) canvas[at] = canvas[at] === ' ' ? (isLost ? '╌' : '─') : '┼'
  canvas[from] = canvas[from] === ' ' ? '╶' : step > 0 ? '├' : '┤'
  canvas[to - step] = isLost ? '✕' : step > 0 ? '▶' : '◀'
  // Its name, in the stretch next to the sender, where it fits.
  const name = ` ${row.of.kind} `
  const stretch = Math.abs(to - from) - 3
  if (name.length > stretch) return
  const start = Math.min(from, to) + Math.ceil((Math.abs(to - from) - name.length) / 2)
  for (const [at, letter] of Array.from(name).entries()) canvas[start + at] = letter
}

function detail(row: Row & { readonly kind: 'lost' | 'arrival' }): string {
  if (row.kind === 'lost') return `LOST ${row.from}→${row.to} ${describe(row.of)}`
  const milliseconds = row.at - row.sent
  const travelled = milliseconds < 0.05 ? '' : ` (${milliseconds.toFixed(1)} ms)`
  return `${row.from}→${row.to} ${describe(row.of)}${travelled}`
}

function styleOf(row: Row): Parameters<typeof styleText>[0] {
  if (row.kind === 'lost') return 'red'
  if (row.kind === 'world') return 'magenta'
  if (row.kind === 'arrival') return CHATTER.has(row.of.kind) ? 'dim' : 'reset'
  if (row.mark === 'crash') return ['red', 'bold']
  if (row.mark === 'leads') return ['yellow', 'bold']
  if (row.mark === 'durable' || row.mark === 'decided') return 'green'
  return row.mark === 'other' ? 'cyan' : 'yellow'
}

function center(text: string, width: number): string {
  const left = Math.max(0, Math.floor((width - text.length) / 2))
  return `${' '.repeat(left)}${text}`.padEnd(width).slice(0, width)
}

export const clip = (text: string, most: number): string => (text.length <= most ? text : `${text.slice(0, most - 1)}…`)
