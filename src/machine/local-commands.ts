/** Rows of the commands that the edge answers itself. PURE: they are told by COMMAND and counted here. */
import type { Command, Flag } from './command.ts'

function local(name: string, arity: number, group: string, summary: string, more: readonly Flag[] = []): Command {
  const flags: readonly Flag[] = ['loading', 'stale', 'fast', ...more]
  return { name, arity, kind: 'local', flags, keys: [0, 0, 0], group, summary, execute: null }
}

export const LOCAL_COMMANDS: readonly Command[] = [
  local('auth', -2, 'connection', 'Authenticates the connection.', ['no_auth']),
  local('client', -2, 'connection', 'Commands about connections.'),
  local('echo', 2, 'connection', 'Returns the given string.'),
  local('hello', -1, 'connection', 'Handshakes with the server.', ['no_auth']),
  local('ping', -1, 'connection', "Returns the server's liveliness response."),
  local('quit', -1, 'connection', 'Closes the connection.', ['no_auth']),
  local('reset', 1, 'connection', 'Resets the connection.', ['no_auth']),
  local('select', 2, 'connection', 'Changes the selected database.'),
  local('command', -1, 'server', 'Returns detailed information about all commands.'),
  local('config', -2, 'server', 'Tells settings.', ['admin']),
  local('debug', -2, 'server', 'Is refused.', ['admin']),
  local('info', -1, 'server', 'Returns information and statistics about the server.'),
  local('role', 1, 'server', 'Returns the replication role.'),
  local('time', 1, 'server', "Returns the node's clock."),
  local('cluster', -2, 'cluster', 'Describes the leader and its replicas.'),
  local('readonly', 1, 'cluster', "Enables reads from this node's own state."),
  local('readwrite', 1, 'cluster', 'Ends what READONLY began.'),
  local('wait', 3, 'generic', 'Tells on how many other nodes every write before it is durable.'),
  local('multi', 1, 'transactions', 'Starts a transaction.'),
  local('exec', 1, 'transactions', 'Executes all commands in a transaction.'),
  local('discard', 1, 'transactions', 'Discards a transaction.'),
  local('watch', -2, 'transactions', 'Monitors changes to keys to determine the execution of a transaction.'),
  local('unwatch', 1, 'transactions', 'Forgets about watched keys of a transaction.'),
]
