/**
 * The house rules that no compiler knows: who may import whom, what a PURE file may not touch, and how long a
 * file may get. (Length of functions: oxlint, see .oxlintrc.json.)
 */
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { RUNTIME_ENVIRONMENT } from '../src/contract.ts'

const root = join(import.meta.dirname, '..')
const MAX_LINES = 500

interface Source {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

function sources(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const path = join(folder, name)
      const text = readFileSync(join(root, path), 'utf8')
      const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!)
      return { path, text, imports }
    })
}

const all = ['src', 'operator', 'local'].flatMap(sources)

/** The room of a file: a folder of src, `src` itself (by file), operator or local. */
function room(path: string): string {
  const [top, second, third] = path.split('/')
  if (top !== 'src') return top!
  return third === undefined ? second!.replace('.ts', '') : second!
}

const WORDS = ['vocabulary', 'bytes', 'errors', 'invariant']
/** Room -> rooms it may import (itself is allowed). What is not here may import every room of src. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  vocabulary: [],
  invariant: [],
  errors: [],
  bytes: ['errors', 'vocabulary'],
  contract: ['errors'],
  settings: ['errors'],
  consensus: WORDS,
  storage: WORDS,
  machine: WORDS,
  front: ['machine'],
  turn: [...WORDS, 'machine', 'consensus', 'front'],
  // The edges speak commands and messages, and know the limits of the node.
  edge: [...WORDS, 'machine', 'consensus', 'contract', 'config', 'front', 'turn'],
  operator: ['contract', 'errors'],
  local: ['contract', 'errors'],
}

const PURE_ROOMS = ['consensus', 'machine', 'vocabulary', 'bytes', 'invariant', 'errors', 'turn']
const PURE_OPERATOR = ['resource', 'plan', 'rules', 'manifests', 'status'].map((name) => `operator/${name}.ts`)
const isPure = (path: string): boolean =>
  PURE_OPERATOR.includes(path) || (path.startsWith('src/') && PURE_ROOMS.includes(room(path)))

const IMPURE: readonly [string, RegExp][] = [
  ['Date', /\bDate\b\s*[.(]|new Date\b/],
  ['Math.random', /Math\.random/],
  ['performance', /performance\.now/],
  ['timers', /\bset(?:Timeout|Interval|Immediate)\b/],
  ['async', /\basync\b|\bawait\b|new Promise/],
  ['process', /\bprocess\./],
]

const withoutComments = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/\/\/.*$/gm, '')

describe('tidy', () => {
  it('imports follow the arrows', () => {
    const wrong: string[] = []
    for (const source of all) {
      const allowed = ALLOWED[room(source.path)]
      for (const specifier of source.imports.filter((name) => name.startsWith('.'))) {
        const target = normalize(join(dirname(source.path), specifier))
        const targetRoom = room(target)
        const mayUseNode = room(source.path) === 'node' || source.path === 'src/main.ts'
        if (targetRoom === 'main' || (targetRoom === 'node' && !mayUseNode)) {
          wrong.push(`${source.path} imports ${target}: nothing imports main, only main imports node`)
        }
        if (allowed && targetRoom !== room(source.path) && !allowed.includes(targetRoom)) {
          wrong.push(`${source.path} imports ${target}: allowed are ${allowed.join(', ') || 'none'}`)
        }
        if (!allowed && (targetRoom === 'operator' || targetRoom === 'local'))
          wrong.push(`${source.path} imports ${target}`)
      }
    }
    expect(wrong).toEqual([])
  })

  it('no files import each other in a circle, types included', () => {
    const imports = new Map(
      all.map(({ path, imports }) => [path, imports.map((name) => normalize(join(dirname(path), name)))]),
    )
    const reachable = (from: string): Set<string> => {
      const seen = new Set<string>()
      const left = [...(imports.get(from) ?? [])]
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        if (seen.has(next)) continue
        seen.add(next)
        left.push(...(imports.get(next) ?? []))
      }
      return seen
    }
    expect([...imports.keys()].filter((path) => reachable(path).has(path))).toEqual([])
  })

  it('pure files touch no clock, chance, timer, promise or Node.js module', () => {
    const wrong: string[] = []
    for (const source of all.filter(({ path }) => isPure(path))) {
      const code = withoutComments(source.text)
      for (const [name, pattern] of IMPURE) if (pattern.test(code)) wrong.push(`${source.path}: ${name}`)
      for (const name of source.imports) if (!name.startsWith('.')) wrong.push(`${source.path}: imports ${name}`)
    }
    expect(wrong).toEqual([])
  })

  it('only operator/kube.ts imports the Kubernetes client', () => {
    const users = all.filter(({ imports }) => imports.includes('@kubernetes/client-node')).map(({ path }) => path)
    expect(users.filter((path) => path.startsWith('operator') || path.startsWith('src'))).toEqual(['operator/kube.ts'])
  })

  it('every file opens with what it is', () => {
    const silent = all.filter(({ text }) => !/^(?:#!.*\n)?\/\*\*/.test(text)).map(({ path }) => path)
    expect(silent).toEqual([])
  })

  it(`no file is longer than ${MAX_LINES} lines`, () => {
    const long = all.filter(({ text }) => text.split('\n').length > MAX_LINES)
    expect(long.map(({ path, text }) => `${path}: ${text.split('\n').length}`)).toEqual([])
  })

  it('the image tells the runtime what src/contract.ts says', () => {
    const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
    for (const [name, value] of Object.entries(RUNTIME_ENVIRONMENT)) {
      expect(dockerfile).toContain(`\nENV ${name}=${value}\n`)
    }
  })

  it('there is no room called utils', () => {
    expect(all.map(({ path }) => relative('.', path)).filter((path) => /util|helper|misc|common/i.test(path))).toEqual(
      [],
    )
  })
})
