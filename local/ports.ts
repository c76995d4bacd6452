/**
 * Ports on the loopback address in place of addresses: every pod name gets ports of its own, kept across
 * restarts, and an address book that names them takes the place of DNS (src/contract.ts, `AddressBook`).
 */
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { PORTS, type PortName } from '../src/contract.ts'
import { replaceFile } from './tls.ts'

export type PodPorts = Readonly<Record<PortName, number>>

/** Where the search for a free port begins: what people know, and what is out of the way. */
export const FIRST_PORTS: PodPorts = { client: 6379, http: 8080, admin: 18_081, peer: 17_400 }
const NAMES = Object.keys(PORTS) as PortName[]

/** Whether nobody listens there. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)))
  })
}

export class Ports {
  readonly #file: string
  readonly #first: PodPorts
  /** The file that `LOKIKV_ADDRESS_BOOK` names. */
  readonly book: string
  #allotted: Record<string, PodPorts>
  /** One allotment at a time, or two pods would find the same port free. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(folder: string, first: PodPorts = FIRST_PORTS) {
    this.#first = first
    this.#file = join(folder, 'ports.json')
    this.book = join(folder, 'address-book.json')
    this.#allotted = existsSync(this.#file)
      ? (JSON.parse(readFileSync(this.#file, 'utf8')) as Record<string, PodPorts>)
      : {}
    this.#write()
  }

  /** `host`: as `names.host()` of the contract. */
  of(host: string): PodPorts | null {
    return this.#allotted[host] ?? null
  }

  /**
   * Ports of a pod that is about to run: those it had, unless somebody else took one in the meantime. The pod
   * of the smallest name gets the ports that people expect, where they are free.
   */
  allot(host: string): Promise<PodPorts> {
    const next = this.#last.then(() => this.#allot(host))
    this.#last = next.catch(() => {})
    return next
  }

  async #allot(host: string): Promise<PodPorts> {
    const before = this.of(host)
    const taken = new Set(
      Object.entries(this.#allotted).flatMap(([other, ports]) => (other === host ? [] : Object.values(ports))),
    )
    const ports: Partial<Record<PortName, number>> = {}
    for (const name of NAMES) {
      let port = before?.[name] ?? this.#first[name]
      while (taken.has(port) || !(await isFree(port))) port++
      ports[name] = port
      taken.add(port)
    }
    this.#allotted[host] = ports as PodPorts
    this.#write()
    return ports as PodPorts
  }

  #write(): void {
    const book = Object.entries(this.#allotted).flatMap(([host, ports]) =>
      NAMES.map((name) => [`${host}:${PORTS[name]}`, `127.0.0.1:${ports[name]}`]),
    )
    replaceFile(this.#file, `${JSON.stringify(this.#allotted, null, 2)}\n`)
    replaceFile(this.book, `${JSON.stringify(Object.fromEntries(book), null, 2)}\n`)
  }
}
