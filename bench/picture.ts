/**
 * Results side by side as a picture: a group of bars for each case, a bar for each peer, each case on a scale of its
 * own (the longest bar is the fastest peer); the thin line is the spread. SVG, no library.
 */

export interface Bar {
  readonly peer: string
  readonly median: number
  readonly least: number
  readonly most: number
}

export interface BarGroup {
  readonly name: string
  readonly bars: readonly Bar[]
}

const COLOURS = ['#1b6ca8', '#7fb4d8', '#c0392b', '#e08e79', '#8a8a8a', '#b8a13c']
const WIDTH = 860
const LEFT = 250
const BAR = 16
const GAP = 26
const SCALE = WIDTH - LEFT - 110

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

export function drawBars(title: string, groups: readonly BarGroup[]): string {
  const peers = [...new Set(groups.flatMap((group) => group.bars.map((bar) => bar.peer)))]
  const parts: string[] = [`<text x="10" y="22" font-size="15">${escaped(title)}</text>`]
  let y = 48
  for (const group of groups) {
    parts.push(`<text x="10" y="${y}" font-weight="bold">${escaped(group.name)}</text>`)
    y += 6
    const longest = Math.max(1, ...group.bars.map((bar) => bar.most))
    for (const bar of group.bars) {
      const length = (value: number): number => Math.round((value / longest) * SCALE)
      const colour = COLOURS[peers.indexOf(bar.peer) % COLOURS.length]
      const middle = y + BAR / 2
      parts.push(
        `<text x="${LEFT - 8}" y="${y + 12}" text-anchor="end">${escaped(bar.peer)}</text>`,
        `<rect x="${LEFT}" y="${y}" width="${length(bar.median)}" height="${BAR - 3}" fill="${colour}"/>`,
        `<line x1="${LEFT + length(bar.least)}" x2="${LEFT + length(bar.most)}" y1="${middle}" y2="${middle}" stroke="#222"/>`,
        `<text x="${LEFT + length(bar.most) + 6}" y="${y + 12}">${Math.round(bar.median).toLocaleString('en')}</text>`,
      )
      y += BAR
    }
    y += GAP
  }
  const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" font-family="sans-serif" font-size="12">`
  return [open, '<rect width="100%" height="100%" fill="white"/>', ...parts, '</svg>', ''].join('\n')
}
