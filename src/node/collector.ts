/**
 * How V8 collects garbage in a node: what of it can be set while a process runs (`RUNTIME_ENVIRONMENT` in contract.ts
 * has the rest). What lives long is outside its heap (machine/string-table.ts), what is on it is small and dies young.
 *
 * - By itself it begins a full collection as soon as the young generation could fill what is left to its limit. With a
 *   heap as small as ours that is always so: twice a second under load, 10 ms of this thread and more of others each.
 *   Here it begins when 60 % of the way to the limit is behind it, and must have begun at 80.
 * - What is left on the heap by a full collection, 20 MiB of code and names, says when the next one comes: by itself when
 *   it has doubled, here when it is four times as much. Each stops this thread for 15 to 25 ms, once in 15 s and not in 5.
 * - A young collection takes half a millisecond; to wake helpers for it takes more than they take off.
 */
import { setFlagsFromString } from 'node:v8'

export function tuneCollector(): void {
  setFlagsFromString('--incremental-marking-soft-trigger=60')
  setFlagsFromString('--incremental-marking-hard-trigger=80')
  setFlagsFromString('--heap-growing-percent=300')
  setFlagsFromString('--no-parallel-scavenge')
}
