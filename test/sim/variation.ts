/**
 * Variations on the golden stories: a seed takes one of test/scripts/consensus, changes a few of its lines (left out,
 * doubled, swapped, of another node, with something else in between, all nodes renamed, the end of another story), and
 * tells it with nothing expected of it but what must always hold; then peace, in which it must settle. So states that
 * somebody had to think of, and that chance alone hardly ever reaches, are looked at from all sides.
 *
 * What cannot be done as things are is left out; what may not be asked for (rot in two storages, a clock that is worse
 * than promised, a member that is deleted, a node that comes back without its disk) is not done. `shortest` takes away
 * from a variation that fails what it does not need: what is left is a story.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { CLOCK_RATE_ERROR } from '../../src/consensus/leases.ts'
import { quorumProblem } from '../../src/consensus/quorum.ts'
import { isLeader } from '../../src/consensus/replica.ts'
import { type Configuration, compareBallots, configurationId, nodeId } from '../../src/vocabulary.ts'
import { isDispensable } from './operator.ts'
import { Random } from './random.ts'
import { Story } from './story.ts'
import { Cannot } from './story-world.ts'
import { member } from './world.ts'

const folder = join(import.meta.dirname, '../scripts/consensus')
/** What a story shows and expects is of no interest. */
const SILENT = /^(expect|show|messages|decided)\b/
const MESSAGES = [
  'prepare',
  'promise',
  'accept-sync',
  'accept-decide',
  'accepted',
  'decide',
  'decided-entries',
  'sealed',
]

/** More is only slow: messages to a node that is paused wait, and come all at once. */
const FILL_MOST = 500

interface Tale {
  readonly name: string
  readonly lines: readonly string[]
}

/** In the order of their names: a seed is a function of what is there. */
const TALES: readonly Tale[] = readdirSync(folder)
  .toSorted()
  .map((name) => ({ name: name.replace('.txt', ''), lines: commandsOf(readFileSync(join(folder, name), 'utf8')) }))

function commandsOf(text: string): string[] {
  const lines = text.split('\n').filter((line) => line.startsWith('> '))
  const commands = lines.map((line) => line.slice(2).replace(/^expect stale read/, 'read'))
  return commands.filter((line) => !SILENT.test(line) && !line.startsWith('peace'))
}

// ---- what a seed makes of a story ----

const idsIn = (line: string): string[] => line.match(/(?<![\w.=]|accept )\d(?![\w.=])/g) ?? []

/** Something else that happens; `N` stands for a node, `L` for who leads by then, `A` for all who take themselves to. */
function somethingElse(random: Random): string {
  const message = random.pick(MESSAGES)!
  const often = [
    'propose L x',
    'propose L y',
    'read L',
    'crash N',
    'restart N',
    'cut N>N',
    'cut N-N',
    'isolate N',
    'mend',
  ]
  const more = ['hold N', 'release N', 'pause N', 'wake N', 'crash N with 1', 'kill N', 'checkpoint N', 'checkpoint L']
  const rare = ['transfer L N', 'reconfigure L to N N', 'reconfigure L to N', 'reconfigure L to N N N', 'withdraw L']
  const late = [
    `late ${message} N>N`,
    `double ${message} N>N`,
    'arrive N>N',
    'arrive N>N',
    `lose ${message} N>N`,
    `lose ${message} N>N 3`,
  ]
  const last = [
    'rot N 2',
    'rot N log 1',
    'rot N entries',
    'delete N',
    'join 8',
    'clock N 1.05',
    'clock N 0.95',
    'open N-N',
  ]
  return random.pick(random.pick([often, often, more, late, rare, last])!)!
}

function edit(lines: string[], ids: readonly string[], random: Random): void {
  // The first line is the beginning of the cluster.
  const at = random.integer(1, lines.length - 1)
  const other = random.integer(1, lines.length - 1)
  const node = (): string => random.pick(ids)!
  switch (random.integer(0, 9)) {
    case 0:
    case 1:
      if (lines.length > 2) lines.splice(at, 1)
      return
    case 2:
      ;[lines[at], lines[other]] = [lines[other]!, lines[at]!]
      return
    case 3:
      lines.splice(at, 0, lines[other]!)
      return
    case 4:
      lines.splice(at, 0, `tick ${random.integer(1, 60) * 10}`)
      return
    case 5: {
      // Of another node.
      const [old] = random.shuffle(idsIn(lines[at]!))
      if (old !== undefined) lines[at] = lines[at]!.replace(old, node())
      return
    }
    case 6: {
      // For another while, or so many.
      const factor = 3 * random.next()
      lines[at] = lines[at]!.replace(/(?<=[a-z>\d] )\d+$/, (digits) => String(Math.ceil(Number(digits) * factor)))
      return
    }
    default:
      lines.splice(at, 0, somethingElse(random).replaceAll('N', node))
  }
}

/** The commands of a variation, and the story they come from. */
export function variationOf(seed: number): Tale {
  const random = new Random(seed ^ 0x7a1e)
  const { name, lines } = TALES[seed % TALES.length]!
  let told = [...lines]
  if (random.chance(0.1)) {
    const second = random.pick(TALES)!.lines.slice(1)
    const cut = random.integer(1, told.length)
    told = [...told.slice(0, cut), ...second.slice(random.integer(0, second.length - 1))]
  }
  const ids = [...new Set(told.flatMap(idsIn))].filter((id) => id !== '0')
  for (let edits = random.pick([1, 1, 2, 3, 6, 12])!; edits > 0; edits--) edit(told, ids, random)
  if (random.chance(0.1)) told.splice(1, 0, `disorder ${seed}`)
  if (random.chance(0.05)) told.splice(random.integer(1, told.length), 0, `loss ${random.integer(1, 30)} seed ${seed}`)
  if (random.chance(0.1)) {
    const others = new Map(random.shuffle(ids).map((id, at) => [id, ids[at]!]))
    told = told.map((line) => line.replaceAll(/(?<![\w=]|accept )[1-9](?![\w=])/g, (id) => others.get(id) ?? id))
  }
  if (random.chance(0.3)) {
    const since = random.integer(1, told.length)
    told = [...told.slice(0, since), ...told.slice(since).flatMap(withWork)]
  }
  if (random.chance(0.3) && ids.length > 0) told.push(`peace without ${random.pick(ids)}`)
  return { name, lines: told }
}

/** The same with clients: who leads is asked again and again, whoever else leads, and written to. */
function withWork(line: string, at: number): string[] {
  const milliseconds = Number(/^tick (\d+)$/.exec(line)?.[1] ?? 0)
  const step = 50
  if (milliseconds <= step) return [line, `propose L w${at}`, 'read A']
  return [`tick ${step}`, `propose L w${at}`, 'read A', ...withWork(`tick ${milliseconds - step}`, at)]
}

// ---- telling it ----

class Variation extends Story {
  /** What was tried. */
  readonly done: string[] = []
  /** How much of that could be done. */
  steps = 0
  readonly #ordered: Configuration[] = []

  /** Does what can and may be done. */
  try(line: string): void {
    for (const one of this.#permitted(line)) {
      this.done.push(one)
      try {
        this.run(one)
        this.steps++
      } catch (error) {
        if (!(error instanceof Cannot)) throw error
      }
    }
  }

  #permitted(line: string): string[] {
    const leaders = [...this.nodes.values()].filter(({ replica }) => replica !== null && isLeader(replica))
    leaders.sort((a, b) => compareBallots(b.replica!.promise, a.replica!.promise))
    if (line === 'read A') return leaders.map(({ id }) => `read ${id}`)
    const words = line.replaceAll(/\bL\b/g, String(leaders[0]?.id)).split(/\s+/)
    const [command, first] = words
    switch (command) {
      case 'start':
        return this.checker === null ? [line] : []
      case 'join':
        return words.slice(1).map((id) => `join ${id}`)
      case 'clock':
        return [`clock ${first} ${Math.min(1 + CLOCK_RATE_ERROR, Math.max(1 - CLOCK_RATE_ERROR, Number(words[2])))}`]
      case 'fill':
        return [`fill ${first} ${Math.min(FILL_MOST, Number(words[2]))}`]
      case 'rot':
        return this.#mayRot(words) ? [words.join(' ')] : []
      case 'delete':
        return [isDispensable(this.#cluster, this.#ordered, nodeId(Number(first))) ? line : `crash ${first}`]
      case 'peace':
        return first === undefined || this.mayLack(nodeId(Number(words[2]))) ? [line] : []
      case 'reconfigure':
        return this.#mayReconfigure(words) ? [words.join(' ')] : []
      default:
        return [words.join(' ')]
    }
  }

  get #cluster(): { readonly nodes: Story['nodes']; readonly checker: NonNullable<Story['checker']> } {
    return { nodes: this.nodes, checker: this.checker! }
  }

  /** One storage is damaged at a time, and none that votes alone and knows it. */
  #mayRot([, id, what, count]: readonly string[]): boolean {
    const node = this.nodes.get(nodeId(Number(id)))
    if (node === undefined) return false
    // Where rot takes the configuration, too, a start does not know that it votes alone.
    const { state, log } = node.disk.image
    if (what === 'log' && (state.configuration?.voters.length === 1 || Number(count) >= log.entries.length))
      return false
    const before = this.damaged === null ? undefined : this.nodes.get(this.damaged)
    return before === undefined || before === node || (before.up && before.disk.doubtfulFrom === null)
  }

  #mayReconfigure(words: readonly string[]): boolean {
    const leader = this.nodes.get(nodeId(Number(words[1])))
    const end = words.findIndex((word, at) => at > 2 && !/^\d+$/.test(word))
    const voters = words.slice(3, end < 0 ? undefined : end)
    const learners = words.includes('learners') ? words.slice(words.indexOf('learners') + 1) : []
    const named = [...voters, ...learners].filter((word) => /^\d+$/.test(word)).map((word) => nodeId(Number(word)))
    const accept = words.includes('accept') ? Number(words[words.indexOf('accept') + 1]) : null
    if (!leader?.up || voters.length === 0 || new Set(named).size < named.length) return false
    if (named.some((id) => this.gone.has(id))) return false
    if (accept !== null && quorumProblem(voters.length, accept) !== null) return false
    const id = configurationId(leader.replica!.configuration.id + 1)
    this.#ordered.push({ id, voters: named.map(member), learners: [], preferredLeader: nodeId(0) })
    return true
  }
}

export interface VariationOutcome {
  readonly seed: number
  readonly story: string
  /** What was tried, as a story. */
  readonly text: string
  readonly steps: number
  readonly violation: string | null
}

function tellVariation(lines: readonly string[]): Omit<VariationOutcome, 'seed' | 'story'> {
  const variation = new Variation()
  let violation: string | null = null
  try {
    for (const line of [...lines, 'peace']) variation.try(line)
  } catch (error) {
    violation = (error as Error).name === 'Violation' ? (error as Error).message : (error as Error).stack!
  }
  return { text: variation.done.map((line) => `> ${line}\n`).join('\n'), steps: variation.steps, violation }
}

export function runVariation(seed: number): VariationOutcome {
  const { name, lines } = variationOf(seed)
  return { seed, story: name, ...tellVariation(lines) }
}

/** Takes away, line by line, what the violation does not need. */
export function shortest(seed: number): VariationOutcome {
  const kind = (violation: string | null): string | undefined => violation?.replaceAll(/\d+/g, '').slice(0, 40)
  let best = runVariation(seed)
  if (best.violation === null) return best
  for (let shorter = true; shorter;) {
    shorter = false
    const lines = best.text.split('\n').filter((line) => line !== '')
    for (let at = lines.length - 2; at > 0; at--) {
      const fewer = lines.toSpliced(at, 1).map((line) => line.slice(2))
      const told = tellVariation(fewer.slice(0, -1))
      if (kind(told.violation) !== kind(best.violation)) continue
      lines.splice(at, 1)
      best = { ...best, ...told }
      shorter = true
    }
  }
  return best
}
