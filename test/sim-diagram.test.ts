/**
 * Sequence diagrams of runs (test/sim/draw.ts): a known story drawn as text is what one would draw by hand, and as SVG
 * it is well-formed, with a line for every message and a life line for every life.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { nodeId } from '../src/vocabulary.ts'
import { drawSvg } from './sim/diagram-svg.ts'
import { drawText, drawingOf } from './sim/diagram.ts'
import { traceOf } from './sim/story.ts'
import { Trace } from './sim/trace.ts'

const story = (name: string) =>
  traceOf(readFileSync(join(import.meta.dirname, `scripts/consensus/${name}.txt`), 'utf8')).last(Infinity)

/** A node that is killed while a message is on its way to it, and another one that is paused. */
function fall(): Trace {
  const trace = new Trace(100)
  const [one, two, three] = [nodeId(1), nodeId(2), nodeId(3)]
  const beacon = { kind: 'beacon', end: 7 }
  for (const node of [one, two, three]) trace.add({ kind: 'node', at: 0, node, mark: 'start', what: 'START' })
  trace.add({ kind: 'message', at: 1, from: one, to: two, message: beacon, arrives: [2] })
  trace.add({ kind: 'message', at: 1, from: one, to: three, message: beacon, arrives: [] })
  trace.add({ kind: 'message', at: 3, from: one, to: two, message: beacon, arrives: [5] })
  trace.add({ kind: 'node', at: 4, node: two, mark: 'crash', what: 'CRASH' })
  trace.add({ kind: 'node', at: 6, node: three, mark: 'pause', what: 'PAUSE 3 ms' })
  trace.add({
    kind: 'message',
    at: 5.5,
    from: three,
    to: one,
    message: { kind: 'a-kind-with-a-long-name' },
    arrives: [8],
  })
  trace.add({ kind: 'node', at: 9, node: three, mark: 'resume', what: 'RESUME' })
  trace.add({ kind: 'node', at: 10, node: two, mark: 'start', what: 'START' })
  trace.add({ kind: 'world', at: 11, what: 'PEACE' })
  return trace
}

const plain = { columns: 90, colour: false }

describe('sequence diagrams', () => {
  it('show messages where they arrive, lost ones where they left, and lives with their ends', () => {
    expect(`\n${drawText(drawingOf(fall().last(Infinity), 100), plain)}\n`).toMatchInlineSnapshot(`
      "
             ms      node 1          node 2          node 3
            0.0         ○                                        1 START
            0.0         │               ○                        2 START
            0.0         │               │               ○        3 START
            1.0         ├╌╌╌╌╌╌╌╌╌╌╌ beacon ╌╌╌╌╌╌╌╌╌╌╌✕│        LOST 1→3 beacon end 7
            2.0         ├─── beacon ───▶│               │        1→2 beacon end 7 (1.0 ms)
            4.0         │               ✖               │        2 CRASH
            5.0         ├╌╌╌ beacon ╌╌╌✕                │        LOST 1→2 beacon end 7
            6.0         │                               ‖        3 PAUSE 3 ms
            8.0         │◀── a-kind-with-a-long-name ───┤        3→1 a-kind-with-a-long-name (2…
            9.0         │                               ▸        3 RESUME
           10.0         │               ○               │        2 START
           11.0 ········│···············│···············│······· PEACE
      "
    `)
  })

  it('draw a known story', () => {
    const text = drawText(drawingOf(story('lost-message'), 16), plain)
    expect(`\n${text}\n`).toMatchInlineSnapshot(`
      "
             ms      node 1          node 2          node 3
          370.0         │               ✓               │        2 decided index 4
          370.0 ········│···············│···············│······· tick 120
          410.0         │◀────────── beacon ────────────┤        3→1 beacon ballot 1.1.3 decide…
          410.0         │               │◀── beacon ────┤        3→2 beacon ballot 1.1.3 decide…
          410.0         ├─────────── resend ───────────▶│        1→3 resend ballot 1.1.3 from 4
          410.0         ├────────── accepted ──────────▶│        1→3 accepted ballot 1.1.3 inde…
          410.0         │               ├── accepted ──▶│        2→3 accepted ballot 1.1.3 inde…
          410.0         │◀─────── accept-decide ────────┤        3→1 accept-decide ballot 1.1.3…
          410.0         ■               │               │        1 decided index 3; entries 4…4
          410.0         ✓               │               │        1 decided index 4
          410.0         ├────────── accepted ──────────▶│        1→3 accepted ballot 1.1.3 inde…
          460.0         │◀────────── beacon ────────────┤        3→1 beacon ballot 1.1.3 decide…
          460.0         │               │◀── beacon ────┤        3→2 beacon ballot 1.1.3 decide…
          460.0         ├────────── accepted ──────────▶│        1→3 accepted ballot 1.1.3 inde…
          460.0         │               ├── accepted ──▶│        2→3 accepted ballot 1.1.3 inde…
          490.0 ········│···············│···············│······· show
      "
    `)
  })

  it('fit a narrow terminal, and colours change nothing but colours', () => {
    const drawing = drawingOf(story('quorum-loss'), 200)
    const narrow = drawText(drawing, { columns: 80, colour: false })
    for (const line of narrow.split('\n')) expect(line.length).toBeLessThanOrEqual(82)
    // oxlint-disable-next-line no-control-regex
    const stripped = drawText(drawing, { columns: 80, colour: true }).replaceAll(/\u001B\[[\d;]*m/g, '')
    expect(stripped.replaceAll(/ +$/gm, '')).toBe(narrow)
  })

  it('are well-formed SVG with everything in it', () => {
    const svg = drawSvg(drawingOf(fall().last(Infinity), 100))
    expect(openElements(svg)).toEqual([])
    expect(svg.match(/class="message"/g)).toHaveLength(2)
    expect(svg.match(/class="message lost"/g)).toHaveLength(2)
    expect(svg.match(/class="life paused"/g)).toHaveLength(1)
    // Node 2 has two lives, node 3 one before its pause and one after it.
    expect(svg.match(/class="life up"/g)).toHaveLength(5)
    expect(svg).toContain('prefers-color-scheme: dark')
    expect(openElements(drawSvg(drawingOf(story('leavers-too-early'), 500, true)))).toEqual([])
  })
})

/** Elements that are not closed, or closed by another's end. */
function openElements(svg: string): string[] {
  const open: string[] = []
  for (const [, slash, name, end] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
    if (slash === '/') expect(open.pop()).toBe(name)
    else if (end !== '/') open.push(name!)
  }
  return open
}
