/**
 * A disk in memory that loses what a disk may lose. Everything happens in microtasks, in the order of the calls,
 * so that a run is a function of its inputs.
 *
 * - Every call that changes something is a step. `crashAt`: that step begins and does not end; from then on
 *   every call fails with `Crash`.
 * - `survivor(choose)` is the disk after the crash: of every file any subset of the sectors that were written and
 *   not synced, of every directory any subset of the changes that were not synced. A sector is old or new.
 * - `capacity` bounds the bytes of all files: ENOSPC. `failAt`: that step fails with EIO, and again if asked.
 * - `misdirectAt`: that write goes 4096 bytes further, and is reported as done. `loseAt`: it goes nowhere.
 * - `peek`, `poke`, `snapshot`: to damage files, and to compare disks.
 */
import type { Disk, DiskFile, OpenMode } from '../../src/storage/disk.ts'

export class Crash extends Error {
  override name = 'Crash'
}

const SECTOR = 512

interface Inode {
  /** As it is on the platter. */
  durable: Buffer
  /** As the process sees it. */
  current: Buffer
  /** Sectors that were written since the last sync, each with its contents after every write. */
  dirty: Map<number, Buffer[]>
  /** Was cut short since the last sync: what is dirty does not tell all that has changed. */
  isCut?: boolean
}

interface Tree {
  readonly files: Map<string, Inode>
  readonly directories: Set<string>
}

interface DirectoryChange {
  /** Directories that must be synced for it to be durable. */
  readonly waitsFor: Set<string>
  readonly apply: (tree: Tree) => void
}

/** Says whether a unit (a dirty sector, a change of a directory) survives; 0 lost, 1 kept, between for versions. */
export type Choose = (unit: string) => number

const parent = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'

function grown(bytes: Buffer, size: number): Buffer {
  if (bytes.length >= size) return bytes
  const larger = Buffer.alloc(size)
  bytes.copy(larger)
  return larger
}

function moveTree(tree: Tree, from: string, to: string): void {
  for (const [path, inode] of Array.from(tree.files)) {
    if (path !== from && !path.startsWith(`${from}/`)) continue
    tree.files.delete(path)
    tree.files.set(to + path.slice(from.length), inode)
  }
  for (const path of Array.from(tree.directories)) {
    if (path !== from && !path.startsWith(`${from}/`)) continue
    tree.directories.delete(path)
    tree.directories.add(to + path.slice(from.length))
  }
}

function removeTree(tree: Tree, path: string): void {
  for (const name of Array.from(tree.files.keys())) {
    if (name === path || name.startsWith(`${path}/`)) tree.files.delete(name)
  }
  for (const name of Array.from(tree.directories)) {
    if (name === path || name.startsWith(`${path}/`)) tree.directories.delete(name)
  }
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${path}`), { code })
}

export class SimulatedDisk implements Disk {
  readonly #current: Tree = { files: new Map(), directories: new Set(['/']) }
  readonly #durable: Tree = { files: new Map(), directories: new Set(['/']) }
  #changes: DirectoryChange[] = []
  steps = 0
  crashAt = Number.POSITIVE_INFINITY
  failAt = Number.POSITIVE_INFINITY
  misdirectAt = Number.POSITIVE_INFINITY
  loseAt = Number.POSITIVE_INFINITY
  capacity = Number.POSITIVE_INFINITY
  crashed = false
  /** What each step was, for messages. */
  readonly journal: string[] = []
  /** Called with the step's name before it happens. */
  onStep: (step: string) => void = () => {}

  /** Begins a step: `pending` is what has happened when the step is cut short by a crash. */
  async #step(name: string, pending: () => void, finish: () => void = () => {}): Promise<void> {
    await Promise.resolve()
    if (this.crashed) throw new Crash(name)
    this.steps++
    this.journal.push(name)
    this.onStep(name)
    if (this.steps === this.failAt) throw systemError('EIO', name)
    pending()
    if (this.steps >= this.crashAt) {
      this.crashed = true
      throw new Crash(name)
    }
    finish()
  }

  #alive(): void {
    if (this.crashed) throw new Crash('dead')
  }

  #inode(path: string): Inode {
    const inode = this.#current.files.get(path)
    if (inode === undefined) throw systemError('ENOENT', path)
    return inode
  }

  #change(waitsFor: string[], apply: (tree: Tree) => void): void {
    apply(this.#current)
    this.#changes.push({ waitsFor: new Set(waitsFor), apply })
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    if (mode === 'create' || mode === 'create-durable') {
      await this.#step(`create ${path}`, () => {
        if (this.#current.files.has(path)) throw systemError('EEXIST', path)
        if (!this.#current.directories.has(parent(path))) throw systemError('ENOENT', path)
        const inode: Inode = { durable: Buffer.alloc(0), current: Buffer.alloc(0), dirty: new Map() }
        this.#change([parent(path)], (tree) => tree.files.set(path, inode))
      })
    } else {
      await Promise.resolve()
      this.#alive()
    }
    return this.#file(path, this.#inode(path), mode)
  }

  #file(path: string, inode: Inode, mode: OpenMode): DiskFile {
    const settle = (): void => {
      // Whole files are copied only where their size has changed: logs are written into files that are there.
      if (inode.isCut || inode.durable.length !== inode.current.length) inode.durable = Buffer.from(inode.current)
      else {
        for (const sector of inode.dirty.keys()) {
          inode.current.copy(inode.durable, sector * SECTOR, sector * SECTOR, (sector + 1) * SECTOR)
        }
      }
      inode.dirty.clear()
      inode.isCut = false
    }
    return {
      write: (bytes, offset) => {
        const copy = Buffer.from(bytes)
        return this.#step(
          `write ${path} ${copy.length}@${offset}`,
          () => this.#write(inode, path, copy, offset),
          mode === 'create-durable' ? settle : () => {},
        )
      },
      read: async (offset, length) => {
        await Promise.resolve()
        this.#alive()
        return Buffer.from(inode.current.subarray(offset, offset + length))
      },
      sync: () => this.#step(`sync ${path}`, () => {}, settle),
      size: async () => {
        await Promise.resolve()
        this.#alive()
        return inode.current.length
      },
      truncate: (size) =>
        this.#step(`truncate ${path} ${size}`, () => {
          inode.isCut = true
          inode.current = grown(Buffer.from(inode.current.subarray(0, size)), size)
        }),
      close: () => Promise.resolve(),
    }
  }

  #write(inode: Inode, path: string, bytes: Buffer, offset: number): void {
    if (this.steps === this.loseAt) return
    const at = this.steps === this.misdirectAt ? offset + 4096 : offset
    const end = at + bytes.length
    if (this.used() + Math.max(0, end - inode.current.length) > this.capacity) throw systemError('ENOSPC', path)
    inode.current = grown(inode.current, end)
    bytes.copy(inode.current, at)
    for (let sector = Math.floor(at / SECTOR); sector * SECTOR < end; sector++) {
      const versions = inode.dirty.get(sector) ?? []
      versions.push(Buffer.from(inode.current.subarray(sector * SECTOR, (sector + 1) * SECTOR)))
      inode.dirty.set(sector, versions)
    }
  }

  rename(from: string, to: string): Promise<void> {
    return this.#step(`rename ${from} ${to}`, () => {
      if (!this.#current.files.has(from) && !this.#current.directories.has(from)) throw systemError('ENOENT', from)
      this.#change([parent(from), parent(to)], (tree) => {
        if (!tree.files.has(from) && !tree.directories.has(from)) return
        removeTree(tree, to)
        moveTree(tree, from, to)
      })
    })
  }

  unlink(path: string): Promise<void> {
    return this.#step(`unlink ${path}`, () => {
      this.#inode(path)
      this.#change([parent(path)], (tree) => tree.files.delete(path))
    })
  }

  async makeDirectory(path: string): Promise<void> {
    if (this.#current.directories.has(path)) return
    if (parent(path) !== '/') await this.makeDirectory(parent(path))
    await this.#step(`mkdir ${path}`, () => this.#change([parent(path)], (tree) => tree.directories.add(path)))
    await this.syncDirectory(parent(path))
  }

  async removeDirectory(path: string): Promise<void> {
    if (!this.#current.directories.has(path)) return
    await this.#step(`rmdir ${path}`, () => this.#change([parent(path)], (tree) => removeTree(tree, path)))
  }

  async list(path: string): Promise<string[] | null> {
    await Promise.resolve()
    this.#alive()
    if (!this.#current.directories.has(path)) return null
    const all = [...this.#current.files.keys(), ...this.#current.directories]
    return all
      .filter((name) => parent(name) === path && name !== '/')
      .map((name) => name.slice(name.lastIndexOf('/') + 1))
      .sort()
  }

  syncDirectory(path: string): Promise<void> {
    return this.#step(
      `sync-directory ${path}`,
      () => {},
      () => {
        // A change that concerns two directories (a move to the archive) is durable when both are synced.
        for (const change of this.#changes) change.waitsFor.delete(path)
        this.#changes = this.#changes.filter((change) => {
          if (change.waitsFor.size > 0) return true
          change.apply(this.#durable)
          return false
        })
      },
    )
  }

  async space(): Promise<{ readonly free: number; readonly total: number }> {
    await Promise.resolve()
    const total = Number.isFinite(this.capacity) ? this.capacity : 2 ** 40
    return { free: total - this.used(), total }
  }

  used(): number {
    let bytes = 0
    for (const inode of this.#current.files.values()) bytes += inode.current.length
    return bytes
  }

  /** Names of everything that a crash may or may not keep. */
  units(): string[] {
    const units = this.#changes.map((_, at) => `change ${at}`)
    for (const inode of new Set(this.#inodes())) {
      for (const sector of inode.dirty.keys()) units.push(`sector ${this.#number(inode)}/${sector}`)
    }
    return units
  }

  *#inodes(): Generator<Inode> {
    yield* this.#durable.files.values()
    yield* this.#current.files.values()
  }

  readonly #numbers = new Map<Inode, number>()
  #number(inode: Inode): number {
    const number = this.#numbers.get(inode) ?? this.#numbers.size
    this.#numbers.set(inode, number)
    return number
  }

  /** The disk as the next process finds it. This one is left as it is. */
  survivor(choose: Choose): SimulatedDisk {
    const next = new SimulatedDisk()
    const tree: Tree = {
      files: new Map(this.#durable.files),
      directories: new Set(this.#durable.directories),
    }
    for (const [at, change] of this.#changes.entries()) {
      if (choose(`change ${at}`) > 0) change.apply(tree)
    }
    for (const path of tree.directories) next.#addDirectory(path, tree)
    const contents = new Map<Inode, Buffer>()
    for (const [path, inode] of tree.files) {
      if (!tree.directories.has(parent(path))) continue
      const bytes = contents.get(inode) ?? this.#contentAfter(inode, choose)
      contents.set(inode, bytes)
      next.poke(path, bytes)
    }
    return next
  }

  #addDirectory(path: string, tree: Tree): void {
    for (let up = path; up !== '/'; up = parent(up)) if (!tree.directories.has(up)) return
    this.#current.directories.add(path)
    this.#durable.directories.add(path)
  }

  #contentAfter(inode: Inode, choose: Choose): Buffer {
    let bytes: Buffer = Buffer.from(inode.durable)
    for (const [sector, versions] of inode.dirty) {
      const version = Math.ceil(choose(`sector ${this.#number(inode)}/${sector}`) * versions.length)
      if (version === 0) continue
      const content = versions[version - 1]!
      bytes = grown(bytes, sector * SECTOR + content.length)
      content.copy(bytes, sector * SECTOR)
    }
    return bytes
  }

  /** Contents of a file, or null. */
  peek(path: string): Buffer | null {
    const inode = this.#current.files.get(path)
    return inode === undefined ? null : Buffer.from(inode.current)
  }

  /** Puts a file there, durable; or takes it away. */
  poke(path: string, bytes: Buffer | null): void {
    for (const tree of [this.#current, this.#durable]) {
      if (bytes === null) {
        tree.files.delete(path)
        continue
      }
      const inode: Inode = { durable: Buffer.from(bytes), current: Buffer.from(bytes), dirty: new Map() }
      tree.files.set(path, inode)
      for (let up = parent(path); up !== '/'; up = parent(up)) tree.directories.add(up)
    }
    if (bytes !== null) this.#current.files.set(path, this.#durable.files.get(path)!)
  }

  paths(): string[] {
    return [...this.#current.files.keys()].sort()
  }

  /** Every file with its contents, to compare two moments. */
  snapshot(): Record<string, string> {
    return Object.fromEntries(this.paths().map((path) => [path, this.peek(path)!.toString('base64')]))
  }
}

/** A small seeded generator (mulberry32): numbers from 0 up to 1. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}
