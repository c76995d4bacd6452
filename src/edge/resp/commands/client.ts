/** CLIENT: what a connection may know and say about itself and the others. Texts are those of Redis 7. */
import { NOT_AN_INTEGER, SYNTAX_ERROR, wrongArity } from '../../../machine/command.ts'
import { printable } from '../../../machine/commands.ts'
import { parseSafeInteger } from '../../../machine/numbers.ts'
import { type Arguments, type Reply, OK, err } from '../../../machine/reply.ts'
import type { Client } from '../client.ts'
import { type LocalContext, bulk, isCleanName, unknownSubcommand } from './context.ts'

const UNCLEAN_NAME = err('Client names cannot contain spaces, newlines or special characters.')

export function answerClient(context: LocalContext, args: Arguments): Reply {
  const { client } = context
  const sub = printable(args[1]!, 64).toLowerCase()
  const exactly = (count: number): boolean => args.length === count
  switch (sub) {
    case 'id':
      return exactly(2) ? client.id : wrongArity('client|id')
    case 'getname':
      if (!exactly(2)) return wrongArity('client|getname')
      return client.name === '' ? null : bulk(client.name)
    case 'setname':
      return exactly(3) ? setName(client, args[2]!) : wrongArity('client|setname')
    case 'setinfo':
      return exactly(4) ? setInfo(client, args) : wrongArity('client|setinfo')
    case 'info':
      return exactly(2) ? { kind: 'text', text: `${describeClient(client)}\n` } : wrongArity('client|info')
    case 'list':
      return list(context, args)
    case 'kill':
      return kill(context, args)
    case 'no-evict':
    case 'no-touch':
      if (!exactly(3)) return wrongArity(`client|${sub}`)
      return /^(on|off)$/i.test(printable(args[2]!, 8)) ? OK : SYNTAX_ERROR
    case 'reply':
      return exactly(3) ? reply(printable(args[2]!, 8).toUpperCase()) : wrongArity('client|reply')
    case 'getredir':
      return -1
    case 'tracking':
      return exactly(3) && /^off$/i.test(printable(args[2]!, 8)) ? OK : err('client-side caching is not supported')
    default:
      return unknownSubcommand('CLIENT', args)
  }
}

function reply(mode: string): Reply {
  if (mode === 'OFF' || mode === 'SKIP') return err('CLIENT REPLY OFF and SKIP are not supported')
  return mode === 'ON' ? OK : SYNTAX_ERROR
}

function setName(client: Client, bytes: Uint8Array): Reply {
  const name = Buffer.from(bytes).toString('latin1')
  if (!isCleanName(name)) return UNCLEAN_NAME
  client.name = name
  return OK
}

function setInfo(client: Client, args: Arguments): Reply {
  const attribute = printable(args[2]!, 64).toLowerCase()
  const value = Buffer.from(args[3]!).toString('latin1')
  if (attribute !== 'lib-name' && attribute !== 'lib-ver') return err(`Unrecognized option '${attribute}'`)
  if (!isCleanName(value)) return err(`${attribute} cannot contain spaces, newlines or special characters.`)
  if (attribute === 'lib-name') client.libraryName = value
  else client.libraryVersion = value
  return OK
}

function describeClient(client: Client): string {
  const { socket } = client
  const seconds = (since: number): number => Math.floor((performance.now() - since) / 1000)
  return [
    `id=${client.id}`,
    `addr=${client.address}`,
    `laddr=${socket.localAddress ?? ''}:${socket.localPort ?? 0}`,
    `name=${client.name}`,
    `age=${seconds(client.connectedAt)}`,
    `idle=${seconds(client.lastActiveAt)}`,
    `flags=${client.readonlyMode ? 'r' : 'N'}`,
    'db=0',
    `multi=${client.transaction.isOpen ? 0 : -1}`,
    `obl=${socket.writableLength}`,
    `cmd=${client.lastCommand || 'NULL'}`,
    'user=default',
    `lib-name=${client.libraryName}`,
    `lib-ver=${client.libraryVersion}`,
    `resp=${client.protocol}`,
  ].join(' ')
}

function list(context: LocalContext, args: Arguments): Reply {
  let wanted: Set<number> | null = null
  if (args.length > 2) {
    const option = printable(args[2]!, 8).toLowerCase()
    if (option === 'id' && args.length > 3) {
      const ids = args.slice(3).map((id) => parseSafeInteger(id))
      if (ids.includes(null)) return err('Invalid client ID')
      wanted = new Set(ids as number[])
    } else if (option !== 'type' || args.length !== 4) return SYNTAX_ERROR
  }
  const lines: string[] = []
  for (const client of context.clients) {
    if (wanted === null || wanted.has(client.id)) lines.push(`${describeClient(client)}\n`)
  }
  return { kind: 'text', text: lines.join('') }
}

/** CLIENT KILL address, or ID and ADDR as filters. A client that ends itself gets its answer first. */
function kill(context: LocalContext, args: Arguments): Reply {
  const victims = [...context.clients].filter((client) => client !== context.client)
  if (args.length === 3) {
    const address = printable(args[2]!, 128)
    const victim = victims.find((client) => client.address === address)
    if (victim === undefined) return err('No such client')
    victim.socket.destroy()
    return OK
  }
  if (args.length < 4 || args.length % 2 !== 0) return SYNTAX_ERROR
  let chosen = victims
  for (let i = 2; i < args.length; i += 2) {
    const filter = printable(args[i]!, 16).toLowerCase()
    if (filter === 'id') {
      const id = parseSafeInteger(args[i + 1]!)
      if (id === null) return NOT_AN_INTEGER
      chosen = chosen.filter((client) => client.id === id)
    } else if (filter === 'addr') {
      const address = printable(args[i + 1]!, 128)
      chosen = chosen.filter((client) => client.address === address)
    } else return SYNTAX_ERROR
  }
  for (const client of chosen) client.socket.destroy()
  return chosen.length
}
