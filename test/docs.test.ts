/**
 * What the pages say can be followed: links lead somewhere, npm scripts and files exist, manifests pass the schema,
 * every command that README names as spoken is there. (docs/SPEC.md, ERRORS.md, FORMAT.md have tests of their own.)
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { applyManifest, readManifest } from '../local/manifest.ts'
import type { Fields } from '../local/objects.ts'
import { Registry } from '../local/registry.ts'
import { builtIn } from '../local/resources.ts'
import { Store } from '../local/store.ts'
import { LIMITS } from '../src/config.ts'
import { DEFAULT_OPTIONS } from '../src/consensus/state.ts'
import { SETTINGS, TEXT_SETTINGS } from '../src/settings.ts'

const root = join(import.meta.dirname, '..')
const markdownIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name))
const PAGES = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...['docs', 'operator', 'local', 'charts'].flatMap(markdownIn),
]
const pages = PAGES.map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
const scripts = Object.keys(
  (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }).scripts,
)

it('links lead to files, and to headings that are there', () => {
  const broken = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target!)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => {
        const [file = '', heading] = target.split('#')
        const full = file === '' ? join(root, path) : join(root, dirname(path), file)
        if (!existsSync(full)) return true
        if (heading === undefined) return false
        const headings = [...readFileSync(full, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
          title!
            .toLowerCase()
            .replace(/[^\w\- ]/g, '')
            .replaceAll(' ', '-'),
        )
        return !headings.includes(heading)
      })
      .map((target) => `${path}: ${target}`),
  )
  expect(broken).toEqual([])
})

it('npm scripts and files that are named exist', () => {
  const missing = pages.flatMap(({ path, text }) =>
    [
      ...[...text.matchAll(/npm run ([\w-]+)/g)].filter(([, name]) => !scripts.includes(name!)),
      ...[
        ...text.matchAll(/[\s`(]((?:src|operator|local|test|docs|crds|charts|examples|bench)\/[\w./-]*[\w/])/g),
      ].filter(([, file]) => !existsSync(join(root, file!)) && !existsSync(join(root, dirname(path), file!))),
    ].map(([, name]) => `${path}: ${name}`),
  )
  expect(missing).toEqual([])
})

it('ARCHITECTURE names every file of src/, src/node/ and src/turn/', () => {
  const page = readFileSync(join(root, 'docs/ARCHITECTURE.md'), 'utf8')
  const files = readdirSync(join(root, 'src')).filter((name) => name.endsWith('.ts'))
  expect(files.filter((name) => !page.includes(`src/${name}`))).toEqual([])
  const parts = ['node', 'turn'].flatMap((room) => readdirSync(join(root, 'src', room)))
  expect(parts.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
})

it('CONTRIBUTING names every script that a person types', () => {
  const page = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8')
  const named = (script: string): boolean => ['start', 'test'].includes(script) || page.includes(`npm run ${script}`)
  expect(scripts.filter((script) => !named(script))).toEqual([])
})

it('manifests on the pages and in examples/ pass the schema', () => {
  const blocks = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/```yaml\n([\s\S]*?)```/g)]
      .filter(([, yaml]) => yaml!.includes('kind: LokiCluster'))
      .map(([, yaml]) => ({ path, yaml: yaml! })),
  )
  expect(blocks.map(({ path }) => path)).toContain('README.md')
  const examples = readdirSync(join(root, 'examples')).map((name) => {
    const path = join('examples', name)
    return { path, yaml: readFileSync(join(root, path), 'utf8') }
  })
  const refused: string[] = []
  for (const { path, yaml } of [...blocks, ...examples]) {
    const registry = new Registry(new Store(':memory:'))
    registry.add(builtIn('namespaces'), { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } })
    const definition = 'crds/lokiclusters.lokikv.dev.yaml'
    for (const manifest of readManifest(join(root, definition), definition))
      applyManifest(registry, manifest, definition)
    for (const document of parseAllDocuments(yaml)) {
      try {
        applyManifest(registry, document.toJS() as Fields, path)
      } catch (error) {
        refused.push(`${path}: ${(error as Error).message}`)
      }
    }
  }
  expect(refused).toEqual([])
})

it('OPERATIONS names every limit of a node', () => {
  const { text } = pages.find(({ path }) => path === join('docs', 'OPERATIONS.md'))!
  const limits = text.slice(text.indexOf('\n### Limits'))
  const sizes = ['maxBatchBytes', 'maxInFlightBytes', 'maxUndecidedBytes'].filter((name) => name in DEFAULT_OPTIONS)
  expect(sizes).toHaveLength(3)
  expect([...Object.keys(LIMITS), ...sizes].filter((name) => !limits.includes(`\`${name}\``))).toEqual([])
})

it('settings that the pages name are settings', () => {
  const names = new Set([...Object.keys(SETTINGS), ...Object.keys(TEXT_SETTINGS)])
  const unknown = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/spec\.config\.(\w+)/g)]
      .filter(([, name]) => !names.has(name!))
      .map(([, name]) => `${path}: ${name}`),
  )
  expect(unknown).toEqual([])
})
