/**
 * Lines of the algorithm and of the shell, each broken on purpose: every one of them must be noticed, by a golden story
 * that is broken, or by an invariant of the simulators within a bounded number of seeds. mutate.ts does it; the table in
 * docs/SPEC.md says what noticed each.
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
 * - "who lost the beginning of its configuration has a say in it" (state.ts, votes): no seed shows it, because what it
 *   tells others is another matter (lost-beginning in the list), and so is who joins (joins-behind-checkpoint).
 * - "a node in doubt grants a lease" (leases.ts): who is in the accept phase is in no doubt. What it granted before is
 *   another matter (test/consensus/leases.test.ts, and lease-doubt in the list).
 * - "a session that has ended is forgotten" (sessions.ts): it takes a block that opens it, from before the first reply,
 *   and comes when the session is over; test/relay.test.ts has those.
 * - "a node has caught up with what a leader knew that was out of date" (state.ts, promise): one variation in 40,000 and no
 *   seed has such a leader just when somebody starts; test/consensus/learned.test.ts.
 * - "of two Promises of a turn the older one leaves" (frames-in-flight.ts), "every Prepare that stood in line is answered"
 *   (follower.ts): who asked last asks again, so no more than time and bytes are lost; test/turn.test.ts counts them.
 * - "a large message that moves excuses nobody" (election.ts): leaders change more often; test/consensus/moving.test.ts.
 * - "what waits to be applied has no bound" (backlog.ts): shows as memory, and in no answer; test/turn.test.ts.
 */
import type { Mutation } from './mutation.ts'
import { CORE_MUTATIONS } from './mutations-core.ts'
import { SHELL_MUTATIONS } from './mutations-shell.ts'

export const MUTATIONS: readonly Mutation[] = [...CORE_MUTATIONS, ...SHELL_MUTATIONS]
