/**
 * `npm start` from end to end, with the real operator and the real nodes: it becomes Ready, says what to type,
 * serves Redis commands, stops without leaving a process, and brings the data back. And what goes wrong says so.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { isAlive, until } from './local-plane.ts'

const ROOT = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'lokikv-start-'))
const folder = join(scratch, 'state')
/** The example, with nodes that close at once: this test stops many. */
const manifest = join(scratch, 'orders.yaml')
writeFileSync(
  manifest,
  `${readFileSync(join(ROOT, 'examples', 'orders.yaml'), 'utf8').trimEnd()}\n  config: {shutdownForwardMilliseconds: 0}\n`,
)
const started: ChildProcess[] = []

interface Start {
  readonly child: ChildProcess
  said: string
  readonly ended: Promise<number | null>
}

/** What `npm start -- …` runs, without npm. */
function start(...given: string[]): Start {
  const child = spawn(process.execPath, ['local/launch.mjs', 'local/main.ts', '--folder', folder, ...given], {
    cwd: ROOT,
  })
  started.push(child)
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)))
  const run: Start = { child, said: '', ended }
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (run.said += String(chunk)))
  return run
}

async function ready(run: Start): Promise<void> {
  await until('Ready', () => {
    if (run.child.exitCode !== null) throw new Error(run.said)
    return run.said.includes('Ready in')
  })
}

/** Types the line that `npm start` offers, with other words at its end. */
function type(run: Start, ...words: string[]): Promise<string> {
  const line = /node (local\/cli\.mjs) -p (\d+)/.exec(run.said)!
  const child = spawn(process.execPath, [line[1]!, '-p', line[2]!, ...words], { cwd: ROOT })
  let said = ''
  child.stdout.on('data', (chunk) => (said += String(chunk)))
  return new Promise((resolve) => child.on('close', () => resolve(said.trim())))
}

/** Nodes, the operator and the control plane itself, by the notes in the folder. */
function processes(): number[] {
  return ['run', 'instance'].flatMap((name) =>
    (existsSync(join(folder, name)) ? readdirSync(join(folder, name)) : []).map((file) => {
      return (JSON.parse(readFileSync(join(folder, name, file), 'utf8')) as { pid: number }).pid
    }),
  )
}

/** Ends what a failed test has left. */
function endAll(): void {
  for (const child of started.splice(0)) {
    if (child.exitCode === null) child.kill('SIGTERM')
  }
}

afterEach(endAll)
afterAll(() => {
  for (const pid of processes()) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})

describe('npm start', () => {
  test('becomes Ready, serves, stops without a trace, brings the data back; kill -9 too; --fresh forgets', async () => {
    const first = start(manifest)
    await ready(first)
    expect(first.said).toMatch(/orders-\d leads/)
    expect(first.said).toMatch(/redis-cli -p \d+ SET hello world/)
    expect(first.said).toContain(`export KUBECONFIG="${join(folder, 'kubeconfig')}"`)
    expect(first.said).toContain('kubectl get lokiclusters')
    expect(await type(first, 'SET', 'hello', 'world')).toBe('OK')
    const nodes = processes()
    expect(nodes).toHaveLength(5)

    const other = start(manifest)
    expect(await other.ended).toBe(1)
    expect(other.said).toContain('LOCAL_RUNNING')

    first.child.kill('SIGTERM')
    expect(await first.ended).toBe(0)
    expect(first.said).toContain('Stopped.')
    await until('they are gone', () => nodes.every((pid) => !isAlive(pid)))

    const second = start(manifest)
    await ready(second)
    expect(await type(second, 'GET', 'hello')).toBe('"world"')
    const left = processes()
    // The control plane dies, its nodes and operator are orphans: the next start ends them.
    process.kill(Number(left.at(-1)), 'SIGKILL')
    await second.ended
    const third = start(manifest)
    await ready(third)
    expect(third.said).toContain('that an earlier run had left behind')
    // Who ended an orphan does not reap it: its new parent does, when it comes to it.
    await until('they are gone', () => left.every((pid) => !isAlive(pid)))
    expect(await type(third, 'GET', 'hello')).toBe('"world"')
    third.child.kill('SIGTERM')
    await third.ended

    const fresh = start('--fresh', manifest)
    await ready(fresh)
    expect(await type(fresh, 'GET', 'hello')).toBe('(nil)')
    fresh.child.kill('SIGTERM')
    expect(await fresh.ended).toBe(0)
  }, 400_000)

  test('help, unknown arguments, bad manifests and taken ports say what to do', async () => {
    const help = start('--help')
    expect([await help.ended, help.said]).toEqual([0, expect.stringContaining('--fresh')])
    const unknown = start('--bogus')
    expect([await unknown.ended, unknown.said]).toEqual([
      64,
      expect.stringMatching(/LOCAL_USAGE.*--bogus[\s\S]*what to do/),
    ])
    const missing = start('/nowhere/orders.yaml')
    expect([await missing.ended, missing.said]).toEqual([1, expect.stringContaining('there is no such file')])
    const bad = join(scratch, 'bad.yaml')
    const spec = 'spec: {replicas: -1, storage: {wal: {size: 1Gi}, checkpoints: {size: 1Gi}}}'
    writeFileSync(bad, `apiVersion: lokikv.dev/v1alpha1\nkind: LokiCluster\nmetadata: {name: orders}\n${spec}\n`)
    const refused = start('--fresh', bad)
    expect([await refused.ended, refused.said]).toEqual([
      1,
      expect.stringMatching(/LOCAL_MANIFEST[\s\S]*replicas is a number of nodes/),
    ])
    expect(processes()).toEqual([])
    const server = createServer()
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
    })
    const taken = start('--port', String(port))
    expect([await taken.ended, taken.said]).toEqual([1, expect.stringContaining(`LOCAL_PORT: port ${port}`)])
    server.close()
    const file = start('--folder', bad)
    expect([await file.ended, file.said]).toEqual([1, expect.stringMatching(/LOCAL_FOLDER: .*EEXIST/)])
    expect(processes()).toEqual([])
  }, 400_000)
})
