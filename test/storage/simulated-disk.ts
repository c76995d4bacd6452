/**
 * A disk in memory that loses what a disk may lose. Everything happens in microtasks, in the order of the calls,
 * so that a run is a function of its inputs.
 *
 * - Every call that changes something is a step. `crashAt`: that step begins and does not end; from then on
 *   every call fails with `Crash`.
 * - `survivor(choose)` is the disk after the crash: of every file any subset of the sectors that were written and
 *   not synced, its new size with or without them, of every directory any subset of the changes that were not
 *   synced. A sector is old or new, and so is a name: a rename happens or does not, between directories too.
 * - `capacity` bounds the bytes of all files: ENOSPC. `failAt`: that step fails with EIO. What a failed sync was to
 *   make durable is lost, although the process still reads it: a sync that is tried again does not bring it back.
 * - `misdirectAt`: that write goes 4096 bytes further, and is reported as done. `loseAt`: it goes nowhere.
 * - `writesBlocks`: files that are opened `create-durable` are written in whole blocks, as past the page cache. A sector
 *   that is written as it is on the platter is not a sector that was written.
 * - `peek`, `poke`, `snapshot`: to damage files, and to compare disks.
 */
import type { Disk, DiskFile, OpenMode } from '../../src/storage/disk.ts'
import { BLOCK_BYTES, WholeBlocks } from '../../src/storage/whole-blocks.ts'

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
  /** Path to identity: a change inside a directory is one wherever the directory is by then, or was before. */
  readonly directories: Map<string, number>
}

interface DirectoryChange {
  /** Identities of directories that must be synced for it to be durable. */
  readonly waitsFor: Set<number>
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

/** Whether a sector is on the platter as it is now; behind the end there are zeros as soon as the file is longer. */
function isOnPlatter({ durable }: Inode, now: Buffer, sector: number): boolean {
  const before = grown(durable.subarray(sector * SECTOR, (sector + 1) * SECTOR), now.length)
  return before.equals(now)
}

interface Widened {
  readonly bytes: Buffer
  readonly offset: number
}

/** What a write of a file is on the way to the disk. */
export type Append = (bytes: Uint8Array, offset: number) => Widened

export const asItIs: Append = (bytes, offset) => ({ bytes: Buffer.from(bytes), offset })

/** Appends to one new file in whole blocks. */
export function wholeBlocks(): Append {
  const blocks = new WholeBlocks()
  return (bytes, offset) => {
    // What is larger goes as it is.
    const memory = Buffer.alloc(2 * BLOCK_BYTES, 0xff)
    const found = blocks.append(bytes, offset, memory)
    return found === null ? asItIs(bytes, offset) : { bytes: memory.subarray(0, found.length), offset: found.offset }
  }
}

function moveTree(tree: Tree, from: string, to: string): void {
  for (const [path, inode] of Array.from(tree.files)) {
    if (path !== from && !path.startsWith(`${from}/`)) continue
    tree.files.delete(path)
    tree.files.set(to + path.slice(from.length), inode)
  }
  for (const [path, identity] of Array.from(tree.directories)) {
    if (path !== from && !path.startsWith(`${from}/`)) continue
    tree.directories.delete(path)
    tree.directories.set(to + path.slice(from.length), identity)
  }
}

/** Where a name of a directory is in a tree; null if the directory is not there. */
function placeOf(tree: Tree, directory: number, name: string): string | null {
  for (const [path, identity] of tree.directories)
    if (identity === directory) return `${path === '/' ? '' : path}/${name}`
  return null
}

function removeTree(tree: Tree, path: string): void {
  for (const name of Array.from(tree.files.keys())) {
    if (name === path || name.startsWith(`${path}/`)) tree.files.delete(name)
  }
  for (const name of Array.from(tree.directories.keys())) {
    if (name === path || name.startsWith(`${path}/`)) tree.directories.delete(name)
  }
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${path}`), { code })
}

export class SimulatedDisk implements Disk {
  readonly #current: Tree = { files: new Map(), directories: new Map([['/', 0]]) }
  readonly #durable: Tree = { files: new Map(), directories: new Map([['/', 0]]) }
  #identities = 0
  #changes: DirectoryChange[] = []
  steps = 0
  crashAt = Number.POSITIVE_INFINITY
  failAt = Number.POSITIVE_INFINITY
  misdirectAt = Number.POSITIVE_INFINITY
  loseAt = Number.POSITIVE_INFINITY
  capacity = Number.POSITIVE_INFINITY
  crashed = false
  /** A durable write that fails may have been made in memory only; so that every subset is seen, it is not by default. */
  losesFailedWrites = false
  writesBlocks = false
  /** What each step was, for messages. */
  readonly journal: string[] = []
  /** Called with the step's name before it happens. */
  onStep: (step: string) => void = () => {}

  /**
   * Begins a step: `pending` is what has happened when the step is cut short by a crash, `failed` what has happened
   * where it fails.
   */
  async #step(
    name: string,
    pending: () => void,
    finish: () => void = () => {},
    failed: () => void = () => {},
  ): Promise<void> {
    await Promise.resolve()
    if (this.crashed) throw new Crash(name)
    this.steps++
    this.journal.push(name)
    this.onStep(name)
    if (this.steps === this.failAt) {
      failed()
      throw systemError('EIO', name)
    }
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

  #directory(path: string): number {
    const identity = this.#current.directories.get(path)
    if (identity === undefined) throw systemError('ENOENT', path)
    return identity
  }

  /** Changes what is at `path`; `apply` is told where that is in a tree. */
  #change(path: string, apply: (tree: Tree, place: string) => void): void {
    const directory = this.#directory(parent(path))
    const name = path.slice(path.lastIndexOf('/') + 1)
    this.#note([directory], (tree) => {
      const place = placeOf(tree, directory, name)
      if (place !== null) apply(tree, place)
    })
  }

  #note(waitsFor: number[], apply: (tree: Tree) => void): void {
    apply(this.#current)
    this.#changes.push({ waitsFor: new Set(waitsFor), apply })
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    if (mode === 'create' || mode === 'create-durable') {
      await this.#step(`create ${path}`, () => {
        if (this.#current.files.has(path)) throw systemError('EEXIST', path)
        const inode: Inode = { durable: Buffer.alloc(0), current: Buffer.alloc(0), dirty: new Map() }
        this.#change(path, (tree, place) => tree.files.set(place, inode))
      })
    } else {
      await Promise.resolve()
      this.#alive()
    }
    return this.#file(path, this.#inode(path), mode)
  }

  #file(path: string, inode: Inode, mode: OpenMode): DiskFile {
    // Only what was written: what a failed sync has lost stays lost. Whole files are copied only where they were cut.
    const settle = (): void => {
      if (inode.isCut) inode.durable = Buffer.from(inode.current)
      inode.durable = grown(inode.durable, inode.current.length)
      for (const sector of inode.dirty.keys()) {
        inode.current.copy(inode.durable, sector * SECTOR, sector * SECTOR, (sector + 1) * SECTOR)
      }
      inode.dirty.clear()
      inode.isCut = false
    }
    const write = (what: string, bytes: Buffer, offset: number): Promise<void> =>
      this.#step(
        `write ${path} ${what}`,
        () => this.#write(inode, path, bytes, offset),
        mode === 'create-durable' ? settle : () => {},
        () => {
          this.#write(inode, path, bytes, offset)
          if (mode === 'create-durable' && this.losesFailedWrites) inode.dirty.clear()
        },
      )
    const append = this.writesBlocks && mode === 'create-durable' ? wholeBlocks() : asItIs
    return {
      write: (bytes, offset) => {
        const widened = append(bytes, offset)
        return write(`${bytes.length}@${offset}`, widened.bytes, widened.offset)
      },
      writeZeros: (offset, length) => write(`${length} zeros@${offset}`, Buffer.alloc(length), offset),
      read: async (offset, length) => {
        await Promise.resolve()
        this.#alive()
        return Buffer.from(inode.current.subarray(offset, offset + length))
      },
      sync: () =>
        this.#step(
          `sync ${path}`,
          () => {},
          settle,
          () => inode.dirty.clear(),
        ),
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
      const now = inode.current.subarray(sector * SECTOR, (sector + 1) * SECTOR)
      if (versions.length === 0 && !inode.isCut && isOnPlatter(inode, now, sector)) continue
      versions.push(Buffer.from(now))
      inode.dirty.set(sector, versions)
    }
  }

  rename(from: string, to: string): Promise<void> {
    return this.#step(`rename ${from} ${to}`, () => {
      if (!this.#current.files.has(from) && !this.#current.directories.has(from)) throw systemError('ENOENT', from)
      if (this.#children(to).length > 0) throw systemError('ENOTEMPTY', to)
      const directories = [this.#directory(parent(from)), this.#directory(parent(to))] as const
      const [oldName, newName] = [from, to].map((path) => path.slice(path.lastIndexOf('/') + 1))
      // It is this file that gets the name, whatever has the old name on a disk that lost other changes.
      const inode = this.#current.files.get(from)
      const identity = this.#current.directories.get(from)
      this.#note([...directories], (tree) => {
        const target = placeOf(tree, directories[1], newName!)
        if (target !== null) removeTree(tree, target)
        if (inode !== undefined) {
          const source = placeOf(tree, directories[0], oldName!)
          if (source !== null) tree.files.delete(source)
          if (target !== null) tree.files.set(target, inode)
          return
        }
        const source = [...tree.directories].find((entry) => entry[1] === identity)?.[0]
        if (source === undefined) return
        if (target === null) removeTree(tree, source)
        else moveTree(tree, source, target)
      })
    })
  }

  unlink(path: string): Promise<void> {
    return this.#step(`unlink ${path}`, () => {
      this.#inode(path)
      this.#change(path, (tree, place) => tree.files.delete(place))
    })
  }

  async makeDirectory(path: string): Promise<void> {
    if (this.#current.directories.has(path)) return
    if (parent(path) !== '/') await this.makeDirectory(parent(path))
    const identity = ++this.#identities
    await this.#step(`mkdir ${path}`, () => this.#change(path, (tree, place) => tree.directories.set(place, identity)))
    await this.syncDirectory(parent(path))
  }

  /** File by file, as the real one: a crash may leave any part of it. */
  async removeDirectory(path: string): Promise<void> {
    if (!this.#current.directories.has(path)) return
    for (const child of this.#children(path)) {
      if (this.#current.directories.has(child)) await this.removeDirectory(child)
      else await this.unlink(child)
    }
    await this.#step(`rmdir ${path}`, () => this.#change(path, (tree, place) => removeTree(tree, place)))
  }

  async list(path: string): Promise<string[] | null> {
    await Promise.resolve()
    this.#alive()
    if (!this.#current.directories.has(path)) return null
    return this.#children(path).map((name) => name.slice(name.lastIndexOf('/') + 1))
  }

  #children(path: string): string[] {
    const all = [...this.#current.files.keys(), ...this.#current.directories.keys()]
    return all.filter((name) => parent(name) === path && name !== '/').sort()
  }

  syncDirectory(path: string): Promise<void> {
    return this.#step(
      `sync-directory ${path}`,
      () => {},
      () => {
        // A change that concerns two directories (a move to the archive) is durable when both are synced; one in a
        // directory that is gone for good can be seen by nobody.
        const identity = this.#directory(path)
        for (const change of this.#changes) change.waitsFor.delete(identity)
        this.#changes = this.#changes.filter((change) => {
          if (change.waitsFor.size > 0) return true
          change.apply(this.#durable)
          return false
        })
        const visible = new Set([...this.#durable.directories.values(), ...this.#current.directories.values()])
        this.#changes = this.#changes.filter(({ waitsFor }) => Array.from(waitsFor).some((each) => visible.has(each)))
      },
    )
  }

  async space(): Promise<{ readonly free: number; readonly total: number }> {
    await Promise.resolve()
    const total = Number.isFinite(this.capacity) ? this.capacity : 2 ** 40
    return { free: total - this.used(), total }
  }

  /** The process was killed and the system lives: the next process reads what this one wrote, synced or not. */
  revive(): void {
    this.crashed = false
    this.crashAt = Number.POSITIVE_INFINITY
    this.failAt = Number.POSITIVE_INFINITY
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
      if (inode.isCut || inode.current.length > inode.durable.length) units.push(`size ${this.#number(inode)}`)
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
    next.writesBlocks = this.writesBlocks
    const tree: Tree = {
      files: new Map(this.#durable.files),
      directories: new Map(this.#durable.directories),
    }
    for (const [at, change] of this.#changes.entries()) {
      if (choose(`change ${at}`) > 0) change.apply(tree)
    }
    for (const path of tree.directories.keys()) next.#addDirectory(path, tree)
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
    this.#hasDirectory(path)
  }

  #hasDirectory(path: string): void {
    if (this.#durable.directories.has(path)) return
    const identity = this.#current.directories.get(path) ?? ++this.#identities
    for (const tree of [this.#current, this.#durable]) tree.directories.set(path, identity)
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
    const { length } = inode.current
    const hasNewSize = (inode.isCut || length > inode.durable.length) && choose(`size ${this.#number(inode)}`) > 0
    return hasNewSize ? grown(bytes.subarray(0, length), length) : bytes
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
      for (let up = parent(path); up !== '/'; up = parent(up)) this.#hasDirectory(up)
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
