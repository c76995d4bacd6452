/**
 * The state of the control plane: objects by resource, namespace and name, each with the revision of its last
 * change, in one SQLite file. It guarantees that a change is in the file before anyone hears of it, that
 * revisions only rise, across restarts too, and that listeners hear every change once and in order.
 *
 * The last changes are kept in memory, so that a watch can go on where it was and a long list can be read in
 * pages of one moment; whoever asks for older ones is told that they are gone.
 */
import { DatabaseSync } from 'node:sqlite'
import type { KubeObject } from './objects.ts'

export interface Change {
  readonly revision: number
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  /** Key of the resource: `group/plural`. */
  readonly resource: string
  readonly object: KubeObject
  readonly previous: KubeObject | null
}

/** How many changes are remembered. */
const REMEMBERED_CHANGES = 8192

const nameOf = (object: KubeObject): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`

export class Store {
  readonly #database: DatabaseSync
  readonly #objects = new Map<string, Map<string, KubeObject>>()
  readonly #changes: Change[] = []
  readonly #listeners = new Set<(change: Change) => void>()
  readonly #insert
  readonly #delete
  readonly #count
  #revision: number
  /** Changes up to here are forgotten. */
  #forgotten: number

  /** Opens or makes the file; `:memory:` keeps nothing. */
  constructor(file: string) {
    this.#database = new DatabaseSync(file)
    this.#database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (resource, name)
      ) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
      INSERT OR IGNORE INTO counters VALUES ('revision', 100);
    `)
    this.#insert = this.#database.prepare('INSERT OR REPLACE INTO objects VALUES (?, ?, ?)')
    this.#delete = this.#database.prepare('DELETE FROM objects WHERE resource = ? AND name = ?')
    this.#count = this.#database.prepare("UPDATE counters SET value = ? WHERE name = 'revision'")
    const counter = this.#database.prepare("SELECT value FROM counters WHERE name = 'revision'").get()
    this.#revision = Number(counter?.value)
    this.#forgotten = this.#revision
    for (const row of this.#database.prepare('SELECT resource, name, body FROM objects').all()) {
      this.#table(String(row.resource)).set(String(row.name), JSON.parse(String(row.body)) as KubeObject)
    }
  }

  #table(resource: string): Map<string, KubeObject> {
    let table = this.#objects.get(resource)
    if (table === undefined) this.#objects.set(resource, (table = new Map()))
    return table
  }

  /** The revision of the last change. */
  get revision(): number {
    return this.#revision
  }

  get(resource: string, namespace: string, name: string): KubeObject | null {
    return this.#objects.get(resource)?.get(`${namespace}/${name}`) ?? null
  }

  /** Sorted by namespace and name; all namespaces where `namespace` is empty. */
  list(resource: string, namespace = ''): KubeObject[] {
    return select(this.#objects.get(resource) ?? new Map<string, KubeObject>(), namespace)
  }

  /** `list` as it was at an earlier revision; null where the changes since then are forgotten. */
  listAt(resource: string, namespace: string, revision: number): KubeObject[] | null {
    const changes = this.since(revision)
    if (changes === null) return null
    const table = new Map(this.#objects.get(resource))
    for (const change of changes.toReversed()) {
      if (change.resource !== resource) continue
      if (change.previous === null) table.delete(nameOf(change.object))
      else table.set(nameOf(change.previous), change.previous)
    }
    return select(table, namespace)
  }

  /** Writes the object under the next revision and gives back what was stored. */
  write(resource: string, object: KubeObject): KubeObject {
    const key = nameOf(object)
    const revision = this.#revision + 1
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
    this.#commit(revision, () => this.#insert.run(resource, key, JSON.stringify(stored)))
    const table = this.#table(resource)
    const previous = table.get(key) ?? null
    table.set(key, stored)
    this.#tell({ revision, type: previous === null ? 'ADDED' : 'MODIFIED', resource, object: stored, previous })
    return stored
  }

  /** Removes the object; what is given back carries the revision of the removal. */
  remove(resource: string, object: KubeObject): KubeObject {
    const key = nameOf(object)
    const revision = this.#revision + 1
    this.#commit(revision, () => this.#delete.run(resource, key))
    const table = this.#table(resource)
    const previous = table.get(key) ?? null
    table.delete(key)
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
    if (previous !== null) this.#tell({ revision, type: 'DELETED', resource, object: last, previous })
    return last
  }

  #commit(revision: number, change: () => void): void {
    this.#database.exec('BEGIN')
    try {
      change()
      this.#count.run(revision)
      this.#database.exec('COMMIT')
    } catch (error) {
      this.#database.exec('ROLLBACK')
      throw error
    }
    this.#revision = revision
  }

  #tell(change: Change): void {
    this.#changes.push(change)
    if (this.#changes.length > REMEMBERED_CHANGES) {
      const dropped = this.#changes.splice(0, REMEMBERED_CHANGES / 4)
      this.#forgotten = dropped[dropped.length - 1]!.revision
    }
    for (const listener of this.#listeners) listener(change)
  }

  /** Changes after `revision`, oldest first; null where some of them are forgotten. */
  since(revision: number): Change[] | null {
    if (revision < this.#forgotten) return null
    let first = this.#changes.length
    while (first > 0 && this.#changes[first - 1]!.revision > revision) first--
    return this.#changes.slice(first)
  }

  /** Hears every change from now on, while it is being made: listeners must be quick. Returns how to stop. */
  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#listeners.clear()
    this.#database.close()
  }
}

function select(table: Map<string, KubeObject>, namespace: string): KubeObject[] {
  const chosen = namespace === '' ? [...table] : [...table].filter(([key]) => key.startsWith(`${namespace}/`))
  return chosen.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, object]) => object)
}
