/**
 * A CPU profile of V8 as a flame graph: SVG, no library. A box is a function, as wide as the time in it and in what it
 * called; its callers are below it. Hover over a box for name, place and share.
 */

interface CallFrame {
  readonly functionName: string
  readonly url: string
  readonly lineNumber: number
}

/** As the profiler of V8 gives it; times in microseconds. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: CallFrame
    readonly children?: readonly number[]
  }[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

const WIDTH = 1400
const ROW = 17
const TITLE = 30
/** Narrower boxes are left out. */
const LEAST_WIDTH = 0.6
const CHARACTER_WIDTH = 6.4
/** What waits is no work. */
const IDLE = new Set(['(idle)', '(program)'])

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

/** Where a function is, in a few words. */
export function placeOf({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName === '' ? '(anonymous)' : functionName
  if (url === '') return name
  return `${name}  ${url.replace(/^.*\/(src|node_modules)\//, '$1/')}:${lineNumber + 1}`
}

/** Ours, Node's, or the machine's. */
function colourOf({ functionName, url }: CallFrame): string {
  if (functionName === '(garbage collector)') return '#8e6bbf'
  if (url.includes('/src/')) return '#e8833a'
  return url.startsWith('node:') ? '#5a9e6f' : '#8d99a6'
}

interface Box {
  readonly frame: CallFrame
  readonly depth: number
  readonly from: number
  readonly time: number
}

/** The boxes of a profile, without what waits, and their whole time in microseconds. */
function boxesOf(profile: CpuProfile): { readonly boxes: readonly Box[]; readonly total: number } {
  const self = new Map<number, number>()
  for (const [at, id] of profile.samples.entries()) self.set(id, (self.get(id) ?? 0) + (profile.timeDeltas[at] ?? 0))
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const boxes: Box[] = []
  const place = (id: number, depth: number, from: number): number => {
    const node = nodes.get(id)!
    if (IDLE.has(node.callFrame.functionName)) return 0
    let time = self.get(id) ?? 0
    for (const child of node.children ?? []) time += place(child, depth + 1, from + time)
    boxes.push({ frame: node.callFrame, depth, from, time })
    return time
  }
  const [root] = profile.nodes
  const total = root === undefined ? 0 : place(root.id, 0, 0)
  return { boxes, total }
}

export function drawFlames(title: string, profile: CpuProfile): string {
  const { boxes, total } = boxesOf(profile)
  const scale = (WIDTH - 20) / Math.max(1, total)
  const shown = boxes.filter((box) => box.time * scale >= LEAST_WIDTH)
  const deepest = shown.reduce((most, box) => Math.max(most, box.depth), 0)
  const height = TITLE + (deepest + 1) * ROW + 12
  const parts = [`<text x="10" y="20" font-size="14">${escaped(title)}</text>`]
  for (const { frame, depth, from, time } of shown) {
    const x = 10 + from * scale
    const y = height - 10 - (depth + 1) * ROW
    const width = time * scale
    const letters = Math.floor((width - 4) / CHARACTER_WIDTH)
    const label = letters < 3 ? '' : escaped(placeOf(frame).slice(0, letters))
    const share = ((100 * time) / total).toFixed(1)
    parts.push(
      `<g><title>${escaped(placeOf(frame))}, ${share} %, ${Math.round(time / 1000)} ms</title>`,
      `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 1}" rx="1" fill="${colourOf(frame)}"/>`,
      `<text x="${(x + 2).toFixed(1)}" y="${y + 12}">${label}</text></g>`,
    )
  }
  const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="monospace" font-size="10.5">`
  return [open, '<rect width="100%" height="100%" fill="#fbfaf7"/>', ...parts, '</svg>', ''].join('\n')
}
