/**
 * Lines of the algorithm and of the shell, each broken on purpose: every one of them must be noticed, by a golden story
 * or by an invariant of the simulators within a bounded number of seeds. mutate.ts does it; the table in docs/SPEC.md
 * says what noticed each.
 *
 * What is not in this list although it looks like a safety line, and why:
 * - "reads behind a stop-sign" (reads.ts): a read's index is at least `known` and what was adopted; wherever the next
 *   configuration may have decided something before the read came, that is the stop-sign's index or more, and such a
 *   read waits until this node starts the next configuration itself, where reads are confirmed anew. The line keeps
 *   that argument from being needed, and leases do need it: theirs is in the list.
 * - "what is known to be decided survives another ballot" (state.ts, promise): it was decided, so every later leader's
 *   log holds it, too. The line keeps the log's rule simple: above `decided` everything may be replaced.
 * - "entries are taken without AcceptSync" (follower.ts): a leader sends them only to who has accepted in its ballot,
 *   durably; only rot can take that away, and a log in doubt is not adopted.
 * - "a node in doubt is brought to the end of the log" (leader.ts, synchronize) and "what answers a promise of before ends
 *   no doubt" (follower.ts): without them something is lost only where an Accepted, or an AcceptSync, from before a start
 *   arrives behind a whole exchange with the process that was started. Connections end with a process; the lines keep
 *   the argument from resting on that.
 * - "a read shows a key that came since it was asked and was due by then" (turn.ts): seeds found it and find it hardly any
 *   more; test/read-queue.test.ts does.
 * - "a due key is read while its expiry cannot be logged" (turn.ts): such a read would only ask again, and again at once.
 * - "a release takes back what was granted since" (leases.ts): it is one, but no seed and no story has a release that
 *   comes after a grant of a later question; a connection keeps their order.
 * - "a lost entry is not asked for" (follower.ts): the leader's beacon, which shows the end of its log, brings it.
 */
export interface Mutation {
  readonly name: string
  /** The simulator that has to notice. */
  readonly simulator: 'core' | 'shell'
  readonly file: string
  readonly from: string
  readonly to: string
}

const core = (name: string, file: string, from: string, to: string): Mutation => ({
  name,
  simulator: 'core',
  file: `src/consensus/${file}.ts`,
  from,
  to,
})

const shell = (name: string, file: string, from: string, to: string): Mutation => ({
  name,
  simulator: 'shell',
  file: `src/${file}.ts`,
  from,
  to,
})

export const MUTATIONS: readonly Mutation[] = [
  core('a promise leaves before it is durable', 'follower', "    'after-sync',\n", "    'now',\n"),
  core('Prepare leaves before the ballot is durable', 'leader', "accepted }, 'after-sync')", "accepted }, 'now')"),
  core(
    'an accept quorum off by one',
    'leader',
    'reachedBy(reached, acceptQuorum(replica.configuration))',
    'reachedBy(reached, Math.max(1, acceptQuorum(replica.configuration) - 1))',
  ),
  core(
    'a prepare quorum off by one',
    'quorum',
    'configuration.voters.length - acceptQuorum(configuration) + 1)',
    'configuration.voters.length - acceptQuorum(configuration) + 1) - 1',
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
    'a promise in doubt counts like any other',
    'leader',
    'filter((one) => one.doubtfulFrom === 0).length',
    'filter((one) => one.doubtfulFrom >= 0).length',
  ),
  core(
    'a node that may have forgotten a promise gives one at once',
    'doubt',
    'replica.recall = forgets ?',
    'replica.recall = forgets && replica.now < 0 ?',
  ),
  core(
    'a node that may have forgotten a promise asks one other only',
    'doubt',
    'recall.heard.size < peers(replica).length',
    'recall.heard.size < 1',
  ),
  core(
    'a node that may have forgotten a promise takes nothing upon itself',
    'doubt',
    'if (compareBallots(recall.floor, replica.promise) > 0) promise',
    'if (compareBallots(recall.floor, replica.promise) > 9e9) promise',
  ),
  core(
    'the log of a doubtful promise is adopted',
    'leader',
    'if (message.doubtfulFrom > 0) continue',
    'if (message.doubtfulFrom < 0) continue',
  ),
  core('a node in doubt takes over', 'leader', 'replica.doubtfulFrom === null && mayLead', 'mayLead'),
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
  core('a smaller ballot is promised', 'follower', 'if (order < 0) return refuse(replica, from, message.ballot)\n', ''),
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
  core(
    'a node that was removed and is a learner again is not told',
    'catch-up',
    'isVoter(configuration, from) || isLearner(configuration, from)',
    'isVoter(configuration, from)',
  ),
  core(
    'who lost the beginning of its configuration has a say in it',
    'state',
    'replica.decided >= replica.configurationStart',
    'replica.decided >= 0',
  ),
  core(
    'a leader that left counts itself happy',
    'election',
    'if (leadership === null) return false',
    'if (leadership === null) return true',
  ),
  core(
    'nobody says that a configuration is over',
    'reconfiguration',
    'if (index > 0 && holdsPrefix',
    'if (index < 0 && holdsPrefix',
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
    'a lease runs from when its grant came',
    'leases',
    'granted.set(from, Math.max(message.sent,',
    'granted.set(from, Math.max(Math.floor(replica.now),',
  ),
  core(
    'a grant ends as early as the lease of a slow clock',
    'leases',
    '(milliseconds * (1 + CLOCK_RATE_ERROR)) / (1 - CLOCK_RATE_ERROR)',
    'milliseconds',
  ),
  core(
    'a voter that starts has granted nothing',
    'leases',
    'if (milliseconds === 0) return NO_GRANT',
    'if (milliseconds >= 0) return NO_GRANT',
  ),
  core('who granted a lease takes over', 'leader', ' && !isBound(replica, replica.self)', ''),
  core(
    'who granted a lease promises to others',
    'follower',
    '} else if (isBound(replica, from)) {',
    '} else if (replica.self < 0) {',
  ),
  core(
    'a leader that hands over keeps its lease',
    'leases',
    '  lease.granted.clear()\n  lease.releasedAt = Math.floor(replica.now)',
    '  lease.releasedAt = -1',
  ),
  core(
    'a lease behind a stop-sign',
    'leases',
    '!isLeading(replica) || pendingConfiguration(replica) !== null) return false',
    '!isLeading(replica)) return false',
  ),
  core(
    'a lease of too few',
    'leases',
    'const others = acceptQuorum(replica.configuration) - 1\n  const since',
    'const others = Math.max(1, acceptQuorum(replica.configuration) - 2)\n  const since',
  ),
  shell(
    'an ack before the sync',
    'turn',
    'if (frame) this.#ports.persist(frame.records, () => this.#durable(frame))',
    'if (!frame) return\n    this.#ports.persist(frame.records, () => {})\n    this.#durable(frame)',
  ),
  shell(
    'messages that wait for the sync leave at once',
    'turn',
    'if (effect.afterSync) this.#frames',
    'if (false) this.#frames',
  ),
  shell(
    'messages do not wait for the frame before them',
    'frames-in-flight',
    'if (newest) newest.sends.push(...held)',
    'if (newest && newest === null) newest.sends.push(...held)',
  ),
  shell(
    'a sync confirms what was handed over after it',
    'turn',
    'position: frame.position }',
    'position: position(this.replica) }',
  ),
  shell(
    'a read is answered before its index is applied',
    'read-queue',
    'if (!group || group.index > applied) return null',
    'if (!group) return null',
  ),
  shell(
    'the leader reads without a confirmation',
    'turn',
    "this.#step({ kind: 'read', now: this.#ports.now(), id: this.#reads.ask(atLeast, this.#time()) })",
    'this.#reads.confirm(this.#reads.ask(atLeast, this.#time()), this.machine.applied)',
  ),
  shell(
    'a read does not log the expiry that it meets',
    'turn',
    'if (due !== null && due <= this.#time()) {',
    'if (due === -1) {',
  ),
  shell(
    'reads are confirmed by what confirms earlier ones',
    'read-queue',
    'this.#asked.length > 0 && this.#asked[0]!.id <= id',
    'this.#asked.length > 0',
  ),
  shell('a local read goes back behind what was shown', 'local-reads', 'if (applied < this.#shown) return false', ''),
  shell(
    'nodes outside the configuration get no replies',
    'turn',
    'if (!isLeader(this.replica)) return\n    if (!dup',
    'return\n    if (!dup',
  ),
  shell(
    'what waited when the leader changed is not sent again',
    'relay',
    '    this.#nextToSend = this.#base + this.#head\n    this.#inFlightBytes = 0\n',
    '',
  ),
  shell(
    'reads are not asked again',
    'relay',
    'for (const [id, read] of this.#reads) {',
    'for (const [id, read] of [...this.#reads].slice(9999)) {',
  ),
  shell(
    'what is sent again is out of order',
    'relay',
    '    this.#nextToSend = this.#base + this.#head\n    this.#inFlightBytes = 0\n',
    '    this.#nextToSend = this.#base + this.#head\n    this.#inFlightBytes = 0\n    this.#slots.reverse()\n',
  ),
  shell('the session is not opened', 'relay', 'opens: !this.#opened, block', 'opens: false, block'),
  shell(
    'replies are acknowledged before they came',
    'relay',
    'const acknowledged = this.#base + this.#head - 1\n    return { opens',
    'const acknowledged = this.#nextToSend - 1\n    return { opens',
  ),
  shell(
    'a command that was applied is applied again',
    'machine/machine',
    'if (sequence < session.next) {',
    'if (sequence < session.next - 1) {',
  ),
  shell(
    'a gap in a session is passed over',
    'machine/machine',
    'if (sequence > session.next) return',
    'if (sequence > session.next) session.next = sequence',
  ),
  shell(
    'a session that is opened again begins anew',
    'machine/sessions',
    'known.incarnation >= id.incarnation',
    'known.incarnation > id.incarnation',
  ),
  shell(
    'replies are not remembered',
    'machine/machine',
    'if (sequence > block.acknowledged) session.replies.add(sequence, reply)',
    '',
  ),
  shell(
    'sessions are lost at a checkpoint',
    'machine/checkpoint',
    'writeSessions(out, state.sessions)',
    'writeSessions(out, new Map())',
  ),
  shell('a change overtakes the checkpoint', 'machine/store', 'else store.checkpoint.keep(buckets, hash, key)', ''),
  shell('an id is given twice', 'machine/machine', '++state.lastId)', 'state.lastId + 1)'),
  shell(
    'time of the log goes back',
    'machine/machine',
    'store.timeMilliseconds = Math.max(before, time)',
    'store.timeMilliseconds = time',
  ),
  shell(
    'what a checkpoint holds is asked for in the log',
    'machine/machine',
    'return new Machine(this.#options, this.#state)',
    'this.#state.store.version++\n    return new Machine(this.#options, this.#state)',
  ),
  shell(
    'the log is not synced',
    'storage/wal',
    "`${directory}/${temporary}`, 'create-durable'",
    "`${directory}/${temporary}`, 'create'",
  ),
  shell('a new segment is not in its directory', 'storage/wal', '    await disk.syncDirectory(directory)\n', ''),
  shell(
    'a checkpoint is there before its directory is durable',
    'storage/checkpoint',
    '  await disk.rename(`${directory}/${work}`, `${directory}/${id}`)\n  await disk.syncDirectory(directory)',
    '  await disk.rename(`${directory}/${work}`, `${directory}/${id}`)',
  ),
  shell(
    'the log says done before it is',
    'storage/wal',
    '    const taken = this.#take(finished)\n',
    '    const taken = this.#take(finished)\n    for (const item of finished.splice(0)) item.done()\n',
  ),
]
