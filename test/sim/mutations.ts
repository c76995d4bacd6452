/**
 * Whether the simulator bites: each of these lines of the core, broken on purpose, must be caught within a
 * bounded number of seeds. `node test/sim/mutations.ts [--seeds 400] [--only name]` copies core and simulator to
 * a temporary folder, breaks one line after the other, and prints which invariant caught it and at which seed.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

interface Mutation {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
}

const core = (name: string, file: string, from: string, to: string): Mutation => ({
  name,
  file: `src/consensus/${file}.ts`,
  from,
  to,
})

export const MUTATIONS: readonly Mutation[] = [
  core('a promise leaves before it is durable', 'follower', "    'after-sync',\n", "    'now',\n"),
  core('Prepare leaves before the ballot is durable', 'leader', "accepted }, 'after-sync')", "accepted }, 'now')"),
  core(
    'an accept quorum off by one',
    'quorum',
    'number => majority(configuration.voters.length)\n\n/**',
    'number => Math.max(1, majority(configuration.voters.length) - 1)\n\n/**',
  ),
  core(
    'a prepare quorum off by one',
    'quorum',
    'number => majority(configuration.voters.length)\n\n/** Accepted',
    'number => Math.max(1, majority(configuration.voters.length) - 1)\n\n/** Accepted',
  ),
  core('the leader counts itself before its sync', 'leader', '? replica.durable : 0', '? lastIndex(replica.log) : 0'),
  core(
    'the leader counts what it adopted before its sync',
    'leader',
    'sameBallot(replica.durableBallot, leadership.ballot) ? replica.durable : 0',
    'lastIndex(replica.log)',
  ),
  core('accepted before the sync', 'follower', 'index: replica.durable }', 'index: lastIndex(replica.log) }'),
  core('a confirmation that is out of date counts', 'state', 'position.generation !== replica.generation || ', ''),
  core(
    'a follower is not brought to the end of what was adopted',
    'leader',
    'const entries = reaches ?',
    'const entries = reaches || most.length > 0 ?',
  ),
  core('what was accepted in an older ballot counts', 'leader', '? valid : 0', '? valid : valid'),
  core('a read is not confirmed', 'reads', 'acceptQuorum(replica.configuration) - 1', '0'),
  core(
    'a read is confirmed by one too few',
    'reads',
    'acceptQuorum(replica.configuration) - 1',
    'Math.max(0, acceptQuorum(replica.configuration) - 2)',
  ),
  core(
    'a read from before what was adopted',
    'reads',
    'Math.max(replica.known, replica.leadership?.adoptedEnd ?? 0)',
    'replica.known',
  ),
  core(
    'a node that promised more still confirms',
    'reads',
    'if (sameBallot(replica.promise, message.ballot)) {',
    'if (replica.promise.n >= 0) {',
  ),
  core(
    'reads are confirmed behind a stop-sign',
    'reads',
    '  if (pendingConfiguration(replica) !== null) return\n  for',
    '  for',
  ),
  core('proposals behind a stop-sign', 'leader', '  pendingConfiguration(replica) === null &&\n', ''),
  core(
    'the next configuration starts before its stop-sign is durable',
    'reconfiguration',
    'replica.lookedThrough < replica.decided',
    'replica.lookedThrough < replica.known',
  ),
  core(
    'the next configuration starts when the stop-sign is accepted',
    'reconfiguration',
    'replica.lookedThrough < replica.decided',
    'replica.lookedThrough < lastIndex(replica.log)',
  ),
  core(
    'a checkpoint costs what was accepted above it',
    'state',
    'const kept = later ? [] : ',
    'const kept = true ? [] : ',
  ),
  core(
    'a doubtful promise counts like any other',
    'leader',
    'doubts > 0 ? doubtfulQuorum(replica.configuration) : prepareQuorum',
    'doubts > 9 ? doubtfulQuorum(replica.configuration) : prepareQuorum',
  ),
  core(
    'a doubtful promise that comes late is not weighed',
    'leader',
    'else if (isEnough(replica, leadership)) synchronize',
    'else synchronize',
  ),
  core('a node in doubt takes over', 'election', ' && replica.doubtfulFrom === null) takeOver', ') takeOver'),
  core(
    'a restarted leader leads under its old ballot',
    'leader',
    'const n = Math.max(election.leader.n, election.own.n, promised) + 1',
    'const n = Math.max(election.leader.n, election.own.n, promised) + (replica.promise.node === self ? 0 : 1)',
  ),
  core(
    'the longest log is adopted, whatever its ballot',
    'leader',
    'compareBallots(message.acceptedBallot, ballot) || message.accepted - index',
    'message.accepted - index',
  ),
  core(
    'nothing is adopted',
    'leader',
    'adopt(replica, leadership, best?.[1] ?? null)',
    'adopt(replica, leadership, null)',
  ),
  core(
    'entries are taken without AcceptSync',
    'follower',
    "if (replica.phase === 'accept') return true",
    'if (replica.phase) return true',
  ),
  core(
    'what is learned is not compared with what is there',
    'state',
    'return mine === undefined || !sameEntry(mine, entry)',
    'return mine === undefined',
  ),
  core(
    'a suffix that contradicts the leader stays',
    'state',
    '!sameEntry(mine, entries[skip]!)',
    'mine.kind === undefined',
  ),
  core(
    'a smaller ballot is promised',
    'follower',
    'if (order < 0) return refuse(replica, from, message.ballot)\n',
    'if (order < 0) return sendPromise(replica, from, message)\n',
  ),
  core(
    'an older ballot is accepted',
    'follower',
    '  return order === 0\n',
    '  return order === 0 || replica.phase === "accept"\n',
  ),
  core(
    'ballots of an older configuration win',
    'leader',
    'compareBallots(message.acceptedBallot, ballot) ||',
    '(message.acceptedBallot.n - ballot.n) ||',
  ),
  core('nobody says that a configuration is over', 'reconfiguration', 'if (index > 0) send', 'if (index < 0) send'),
  core(
    'a lost entry is not asked for',
    'follower',
    'if (first !== undefined && first.index > lastIndex(replica.log) + 1) askToResend(replica, from)',
    'if (first !== undefined && first.index > lastIndex(replica.log) + 1) return',
  ),
  core(
    'the leader shows no sign of life',
    'leader',
    "if (progress.state === 'replicating') sendBeacon(replica, to)",
    "if (progress.state === 'replicating') continue",
  ),
  core(
    'a lost read probe is not repeated',
    'reads',
    'probe(replica, replica.reads.at(-1)!.id)',
    'replica.reads.at(-1)',
  ),
  core(
    'a transfer that fails holds proposals back for ever',
    'leader',
    '    leadership.transfer = null\n    return',
    '    return',
  ),
  core(
    'what is decided is believed beyond the log',
    'state',
    'const index = logIndex(Math.min(replica.known, replica.durable))',
    'const index = replica.known',
  ),
  core(
    'an unanswered question is never put to another',
    'catch-up',
    'if (now - asked.at < 2 * options.resendMilliseconds) continue',
    'continue',
  ),
  core(
    'known to be decided survives another ballot',
    'state',
    '  replica.known = replica.decided\n  persist',
    '  persist',
  ),
]

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '400' }, only: { type: 'string' } } })
const root = join(import.meta.dirname, '../..')

/** The first seed that fails with the mutation, and how; null: it was not caught. */
function run(mutation: Mutation): { readonly seed: string; readonly how: string } | null {
  const folder = mkdtempSync(join(tmpdir(), 'lokikv-mutation-'))
  try {
    for (const part of [
      'src',
      'test/sim',
      'test/storage/simulated-disk.ts',
      'test/cluster/checker.ts',
      'package.json',
    ]) {
      cpSync(join(root, part), join(folder, part), { recursive: true })
    }
    const path = join(folder, mutation.file)
    const text = readFileSync(path, 'utf8')
    if (!text.includes(mutation.from)) throw new Error(`${mutation.name}: the line is not there any more`)
    writeFileSync(path, text.replace(mutation.from, mutation.to))
    const main = join(folder, 'test/sim/main.ts')
    const options = ['--seeds', values.seeds, '--trace', '0', '--stop']
    const output = execFileSync(process.execPath, [main, ...options], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return output.includes(' 0 failed') ? null : { seed: '?', how: output }
  } catch (error) {
    const output = (error as { stdout?: string }).stdout
    const found = output === undefined ? null : /^seed (\d+): (.*)$/m.exec(output)
    if (!found) throw error
    return { seed: found[1]!, how: found[2]! }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

let missed = 0
for (const mutation of MUTATIONS) {
  if (values.only !== undefined && !mutation.name.includes(values.only)) continue
  const caught = run(mutation)
  if (caught === null) missed++
  console.log(
    `${caught ? `seed ${caught.seed.padStart(4)}` : 'NOT CAUGHT'}  ${mutation.name}${caught ? ` — ${caught.how}` : ''}`,
  )
}
process.exitCode = missed > 0 ? 1 : 0
