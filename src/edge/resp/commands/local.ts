/**
 * Commands that the edge answers itself: about the connection, the node, the cluster. Texts are those of Redis 7
 * where Redis has one.
 */
import { type Command, NOT_AN_INTEGER, SYNTAX_ERROR, wrongArity } from '../../../machine/command.ts'
import { printable } from '../../../machine/commands.ts'
import { globMatches } from '../../../machine/glob.ts'
import { parseSafeInteger } from '../../../machine/numbers.ts'
import { type Arguments, type Reply, OK, err } from '../../../machine/reply.ts'
import { answerClient } from './client.ts'
import { answerCluster, answerRole } from './cluster.ts'
import { answerCommand } from './command.ts'
import { type LocalContext, bulk, isCleanName, unknownSubcommand, word } from './context.ts'
import { REDIS_VERSION, infoText } from './info.ts'

export function answerLocally(context: LocalContext, command: Command, args: Arguments): Reply {
  switch (command.name) {
    case 'ping':
      if (args.length > 2) return wrongArity('ping')
      return args[1] ?? 'PONG'
    case 'echo':
      return args[1]!
    case 'hello':
      return hello(context, args)
    case 'auth':
      return auth(args)
    case 'select':
      return select(args)
    case 'reset':
      return reset(context)
    case 'readonly':
    case 'readwrite':
      context.client.readonlyMode = command.name === 'readonly'
      return OK
    case 'client':
      return answerClient(context, args)
    case 'command':
      return answerCommand(args)
    case 'config':
      return config(context, args)
    case 'info':
      return info(context, args)
    case 'role':
      return answerRole(context.front.facts())
    case 'cluster':
      return answerCluster(context.front.facts(), args)
    case 'wait':
      return wait(context, args)
    case 'time':
      return time()
    case 'debug':
      return err('DEBUG command not allowed. LokiKV has no debug commands.')
    default:
      return err(`'${command.name}' is not allowed here`)
  }
}

function hello(context: LocalContext, args: Arguments): Reply {
  const { client, front } = context
  let { protocol } = client
  let name: string | null = null
  if (args.length > 1) {
    const version = parseSafeInteger(args[1]!)
    if (version === null) return err('Protocol version is not an integer or out of range')
    if (version !== 2 && version !== 3) {
      return { kind: 'error', prefix: 'NOPROTO', message: 'unsupported protocol version' }
    }
    protocol = version
  }
  for (let i = 2; i < args.length; i++) {
    const option = word(args[i])
    if (option === 'AUTH' && i + 2 < args.length) {
      const refusal = auth([args[i]!, args[i + 1]!, args[i + 2]!])
      if (refusal !== OK) return refusal
      i += 2
    } else if (option === 'SETNAME' && i + 1 < args.length) {
      name = printable(args[++i]!, 256)
      if (!isCleanName(name)) return err('Client names cannot contain spaces, newlines or special characters.')
    } else return err(`Syntax error in HELLO option '${printable(args[i]!, 64)}'`)
  }
  client.protocol = protocol
  if (name !== null) client.name = name
  // Every node takes every command, so to a client each is a master; CLUSTER and ROLE tell who leads.
  const pairs: [Reply, Reply][] = [
    [bulk('server'), bulk('redis')],
    [bulk('version'), bulk(REDIS_VERSION)],
    [bulk('proto'), protocol],
    [bulk('id'), client.id],
    [bulk('mode'), bulk('standalone')],
    [bulk('role'), bulk('master')],
    [bulk('modules'), []],
    [bulk('lokikv_version'), bulk(front.facts().version)],
  ]
  return { kind: 'map', pairs }
}

/** As a Redis without a password. */
function auth(args: Arguments): Reply {
  if (args.length > 3) return SYNTAX_ERROR
  if (args.length === 2) {
    return err(
      'AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
    )
  }
  if (Buffer.from(args[1]!).toString('latin1') === 'default') return OK
  return { kind: 'error', prefix: 'WRONGPASS', message: 'invalid username-password pair or user is disabled.' }
}

function select(args: Arguments): Reply {
  const index = parseSafeInteger(args[1]!)
  if (index === null) return NOT_AN_INTEGER
  return index === 0 ? OK : err('DB index is out of range')
}

function reset({ client }: LocalContext): Reply {
  client.transaction.reset()
  client.readonlyMode = false
  client.protocol = 2
  client.name = ''
  return 'RESET'
}

/**
 * The reply leaves after those of all writes before it, each durable on an accept quorum. So many others hold them
 * at least; more may, but the node does not wait for that.
 */
function wait({ front }: LocalContext, args: Arguments): Reply {
  const wanted = parseSafeInteger(args[1]!)
  const timeout = parseSafeInteger(args[2]!)
  if (wanted === null || timeout === null) return NOT_AN_INTEGER
  if (timeout < 0) return err('timeout is negative')
  return front.facts().acceptQuorum - 1
}

function time(): Reply {
  const now = Date.now()
  return [bulk(String(Math.floor(now / 1000))), bulk(String((now % 1000) * 1000))]
}

function info(context: LocalContext, args: Arguments): Reply {
  const sections = args.slice(1).map((section) => word(section).toLowerCase())
  const { clients } = context
  return { kind: 'text', text: infoText(context.front.facts(), sections, clients.size, clients.maxClients) }
}

/** Settings that tools look for before they start. The real ones are in the manifest. */
function config(context: LocalContext, args: Arguments): Reply {
  const sub = word(args[1])
  if (sub === 'RESETSTAT') return OK
  if (sub === 'SET' || sub === 'REWRITE') {
    return err(`CONFIG ${sub} is not allowed: change spec.config of the LokiCluster`)
  }
  if (sub !== 'GET') return unknownSubcommand('CONFIG', args)
  if (args.length < 3) return wrongArity('config|get')
  const settings: Record<string, string> = {
    appendfsync: 'always',
    appendonly: 'yes',
    databases: '1',
    maxclients: String(context.clients.maxClients),
    'maxmemory-policy': 'noeviction',
    'proto-max-bulk-len': String(context.maxValueBytes),
    save: '',
    timeout: '0',
  }
  const patterns = args.slice(2).map((pattern) => Buffer.from(pattern).toString('latin1').toLowerCase())
  const names = Object.keys(settings).filter((name) => patterns.some((pattern) => globMatches(pattern, name)))
  return { kind: 'map', pairs: names.map((name) => [bulk(name), bulk(settings[name]!)]) }
}
