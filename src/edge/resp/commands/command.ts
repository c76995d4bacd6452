/** COMMAND: the table of commands, as clients and tools ask for it. */
import { type Command, wrongArity } from '../../../machine/command.ts'
import { COMMANDS, INTERNAL_PREFIX, arityFits, findCommand } from '../../../machine/commands.ts'
import { type Arguments, type Reply, err } from '../../../machine/reply.ts'
import { bulk, unknownSubcommand, word } from './context.ts'

const VISIBLE = COMMANDS.filter(({ name }) => !name.startsWith(INTERNAL_PREFIX))

export function answerCommand(args: Arguments): Reply {
  if (args.length === 1) return VISIBLE.map(describe)
  const named = (): (Command | null)[] => args.slice(2).map((name) => visible(name))
  switch (word(args[1])) {
    case 'COUNT':
      return args.length === 2 ? VISIBLE.length : wrongArity('command|count')
    case 'LIST':
      return VISIBLE.map(({ name }) => bulk(name))
    case 'INFO':
      return args.length === 2
        ? VISIBLE.map(describe)
        : named().map((command) => (command === null ? null : describe(command)))
    case 'DOCS': {
      const wanted = args.length === 2 ? VISIBLE : named().filter((command) => command !== null)
      return { kind: 'map', pairs: wanted.map((command) => [bulk(command.name), document(command)]) }
    }
    case 'GETKEYS':
      return args.length === 2 ? wrongArity('command|getkeys') : keysOf(args.slice(2))
    default:
      return unknownSubcommand('COMMAND', args)
  }
}

function visible(name: Uint8Array): Command | null {
  const command = findCommand(name)
  return command?.name.startsWith(INTERNAL_PREFIX) ? null : command
}

function describe(command: Command): Reply {
  const [first, last, step] = command.keys
  const categories = [
    `@${command.group}`,
    ...(command.kind === 'local' ? [] : [command.kind === 'write' ? '@write' : '@read']),
  ]
  return [bulk(command.name), command.arity, [...command.flags], first, last, step, categories, [], [], []]
}

function document(command: Command): Reply {
  const pairs: [Reply, Reply][] = [
    [bulk('summary'), bulk(command.summary)],
    [bulk('group'), bulk(command.group)],
  ]
  return { kind: 'map', pairs }
}

function keysOf(args: Arguments): Reply {
  const command = args.length === 0 ? null : visible(args[0]!)
  if (command === null) return err('Invalid command specified')
  const [first, last, step] = command.keys
  if (first === 0) return err('The command has no key arguments')
  if (!arityFits(command, args.length)) return err('Invalid number of arguments specified for command')
  const end = last < 0 ? args.length + last : last
  const keys: Reply[] = []
  for (let i = first; i <= end && i < args.length; i += step) keys.push(args[i]!)
  return keys
}
