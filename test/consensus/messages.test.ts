/**
 * The bytes of the messages between replicas: every message survives the way there and back, and bytes that
 * are no message give FRAME_MALFORMED and nothing else.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteReader, ByteWriter } from '../../src/bytes.ts'
import { decodeMessage, encodeMessage } from '../../src/consensus/message-codec.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { LokiError } from '../../src/errors.ts'
import { type Entry, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const uint = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const index = uint.map(logIndex)
const node = fc.nat({ max: 1e6 }).map(nodeId)
const configuration = fc.nat({ max: 1e6 }).map(configurationId)
const ballot = fc.record({ configuration, n: uint, priority: fc.nat(), node })
const hex = fc.stringMatching(/^[0-9a-f]{32}$/).map(volumeId)
const member = fc.record({ id: node, volume: hex, address: fc.string({ unit: 'grapheme' }) })
const members = fc.array(member, { maxLength: 5 })
const plain = fc.record({
  id: configuration.filter((id) => id > 0),
  voters: members,
  learners: members,
  preferredLeader: node,
})
const next = fc.oneof(
  plain,
  fc
    .tuple(
      plain,
      uint.filter((milliseconds) => milliseconds > 0),
    )
    .map(([one, leaseMilliseconds]) => ({ ...one, leaseMilliseconds })),
  fc.tuple(plain, fc.nat()).map(([one, accept]) => {
    const majority = Math.floor(one.voters.length / 2) + 1
    return { ...one, acceptQuorum: (accept % majority) + 1 }
  }),
)

type Content = { payload: Uint8Array } | { next: Extract<Entry, { kind: 'stop-sign' }>['next'] }
const content: fc.Arbitrary<Content> = fc.oneof(
  fc.record({ payload: fc.uint8Array({ maxLength: 300 }) }),
  fc.record({ next }),
)

/** Contiguous entries, and the index of the first. */
const entries = fc.tuple(fc.nat({ max: 2 ** 52 }), fc.array(content, { maxLength: 6 })).map(([first, contents]) => ({
  from: logIndex(first),
  entries: contents.map((one, at): Entry => {
    const place = logIndex(first + at)
    return 'payload' in one ? { kind: 'commands', index: place, ...one } : { kind: 'stop-sign', index: place, ...one }
  }),
}))

const of = <K extends Message['kind']>(kind: K): fc.Arbitrary<K> => fc.constant(kind)
const arbitrary: Record<Message['kind'], fc.Arbitrary<Message>> = {
  'heartbeat-request': fc.record({ kind: of('heartbeat-request'), configuration, round: uint }),
  'heartbeat-reply': fc.record({
    kind: of('heartbeat-reply'),
    configuration,
    round: uint,
    ballot,
    leader: ballot,
    happy: fc.boolean(),
  }),
  'prepare-request': fc.record({ kind: of('prepare-request'), configuration }),
  prepare: fc.record({ kind: of('prepare'), ballot, decided: index, acceptedBallot: ballot, accepted: index }),
  promise: fc
    .tuple(entries, fc.record({ ballot, acceptedBallot: ballot, decided: index, accepted: index, doubtfulFrom: index }))
    .map(([some, rest]) => ({ kind: 'promise', ...rest, base: some.from, entries: some.entries })),
  'accept-sync': fc.tuple(entries, ballot, index, fc.option(index)).map(([some, of, decided, doubtfulFrom]) => ({
    kind: 'accept-sync',
    ballot: of,
    decided,
    base: some.from,
    entries: some.entries,
    ...(doubtfulFrom ? { doubtfulFrom } : {}),
  })),
  'ask-promise': fc.record({ kind: of('ask-promise'), configuration, start: uint }),
  'tell-promise': fc.record({ kind: of('tell-promise'), configuration, start: uint, promise: ballot }),
  'accept-decide': fc
    .tuple(entries, ballot, index)
    .map(([some, of, decided]) => ({ kind: 'accept-decide', ballot: of, decided, entries: some.entries })),
  accepted: fc.record({ kind: of('accepted'), ballot, index }),
  decide: fc.record({ kind: of('decide'), ballot, decided: index }),
  beacon: fc.record({ kind: of('beacon'), ballot, decided: index, end: index }),
  resend: fc.record({ kind: of('resend'), ballot, from: index }),
  'not-accepted': fc.record({ kind: of('not-accepted'), ballot, promise: ballot }),
  'read-probe': fc.record({ kind: of('read-probe'), ballot, id: uint }),
  'read-ack': fc.record({ kind: of('read-ack'), ballot, id: uint }),
  'lease-request': fc.record({ kind: of('lease-request'), ballot, sent: uint }),
  'lease-grant': fc.record({ kind: of('lease-grant'), ballot, sent: uint }),
  'lease-release': fc.record({ kind: of('lease-release'), ballot, sent: uint }),
  'take-over': fc.record({ kind: of('take-over'), ballot }),
  'catch-up': fc.record({ kind: of('catch-up'), ballot, decided: index }),
  'fetch-decided': fc.record({ kind: of('fetch-decided'), from: index, upTo: index, decided: index }),
  'decided-entries': fc
    .tuple(entries, index, ballot)
    .map(([some, decided, leader]) => ({ kind: 'decided-entries', decided, leader, ...some })),
  'no-longer-here': fc.record({ kind: of('no-longer-here'), first: index, decided: index }),
  sealed: fc.record({ kind: of('sealed'), index, next }),
  invite: fc.record({ kind: of('invite'), configuration, decided: index }),
}
const message = fc.oneof(...Object.values(arbitrary))

const encoded = (one: Message): Buffer => {
  const writer = new ByteWriter(16)
  encodeMessage(writer, one)
  return writer.finish()
}

describe('messages', () => {
  for (const [kind, some] of Object.entries(arbitrary)) {
    it(`${kind} survives the way there and back`, () => {
      fc.assert(
        fc.property(some, (one) => {
          const reader = new ByteReader(encoded(one))
          expect(decodeMessage(reader)).toEqual(one)
          expect(reader.remaining).toBe(0)
        }),
        { numRuns: 50 },
      )
    })
  }

  it('a message that is cut short is malformed at every byte', () => {
    fc.assert(
      fc.property(message, (one) => {
        const bytes = encoded(one)
        for (let length = 0; length < bytes.length; length++) {
          expect(() => decodeMessage(new ByteReader(bytes.subarray(0, length)))).toThrow(LokiError)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('any bytes give a message or FRAME_MALFORMED', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeMessage(new ByteReader(bytes))
        } catch (error) {
          expect(error).toBeInstanceOf(LokiError)
          expect((error as LokiError).code).toBe('FRAME_MALFORMED')
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('bytes of a newer version behind a message are left alone', () => {
    const bytes = Buffer.concat([
      encoded({ kind: 'prepare-request', configuration: configurationId(7) }),
      Buffer.from('x'),
    ])
    const reader = new ByteReader(bytes)
    expect(decodeMessage(reader)).toEqual({ kind: 'prepare-request', configuration: 7 })
    expect(reader.remaining).toBe(1)
  })

  it('entries with a gap are malformed', () => {
    const gap: Message = {
      kind: 'accept-decide',
      ballot: { configuration: configurationId(1), n: 1, priority: 0, node: nodeId(1) },
      decided: logIndex(0),
      entries: [1, 3].map((at) => ({ kind: 'commands', index: logIndex(at), payload: new Uint8Array(0) })),
    }
    expect(() => decodeMessage(new ByteReader(encoded(gap)))).toThrow('FRAME_MALFORMED')
  })

  it('short payloads keep nothing of the memory that their frame has, long ones are not copied', () => {
    const leader = { configuration: configurationId(1), n: 1, priority: 0, node: nodeId(1) }
    for (const length of [3, Buffer.poolSize / 2 - 1, Buffer.poolSize / 2, 100_000]) {
      const entry: Entry = { kind: 'commands', index: logIndex(1), payload: new Uint8Array(length).fill(7) }
      const frame = encoded({ kind: 'accept-decide', ballot: leader, decided: logIndex(0), entries: [entry] })
      const read = decodeMessage(new ByteReader(frame))
      if (!('entries' in read) || read.entries[0]?.kind !== 'commands') throw new Error('another message')
      const { payload } = read.entries[0]
      expect(Buffer.compare(payload, entry.payload)).toBe(0)
      expect(payload.buffer === frame.buffer).toBe(length >= Buffer.poolSize / 2)
      if (length < Buffer.poolSize / 2) expect(payload.buffer.byteLength).toBe(length)
    }
  })
})
