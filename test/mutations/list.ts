/**
 * The lines that the safety of the storage rests on, each with what it becomes when it is taken out, and the sweep
 * that notices (sweeps by name: mutant.ts). A line that was changed in the source has to be changed here.
 *
 * What a missing frame held is missed a second time by the index that the next segment begins with: the line that
 * compares a segment's end alone is not on the list. Nor are checks that bytes pass behind a stronger one.
 */

export interface Mutation {
  readonly name: string
  /** In src. */
  readonly file: string
  /** Every occurrence is replaced; there must be one. */
  readonly from: string
  readonly to: string
  /** The sweep that notices. */
  readonly caughtBy: string
}

const FRAMES: readonly Mutation[] = [
  {
    name: 'the CRC of a payload is not checked',
    file: 'storage/frames.ts',
    from: 'if (crc32(padded, frameSeed(segmentSeed, header.offset)) !== header.crc) return null',
    to: '',
    caughtBy: 'bit flips',
  },
  {
    name: 'the check of a frame header is not checked',
    file: 'storage/frames.ts',
    from: 'if (crc32(bytes.subarray(at, at + 28), frameSeed(segmentSeed, offset)) !== check) return null',
    to: '',
    caughtBy: 'bit flips',
  },
  {
    name: 'checksums do not know the place of their frame',
    file: 'storage/frames.ts',
    from: 'return crc32(seedBytes, segmentSeed)',
    to: 'return segmentSeed',
    caughtBy: 'misdirected writes',
  },
  {
    name: 'the chain of frames is not checked',
    file: 'storage/segment.ts',
    from: "if (header.previous !== check) yield { kind: 'foreign', end: offset }",
    to: '',
    caughtBy: 'splices',
  },
  {
    name: 'the chain of segments is not checked',
    file: 'storage/segment.ts',
    from: 'offset === known.end && check !== known.check',
    to: 'false',
    caughtBy: 'splices',
  },
  {
    name: 'the checksum of a segment header is not checked',
    file: 'storage/segment.ts',
    from: "if (crc32(copy) !== seed) throw damaged('the header of the segment is damaged (checksum)')",
    to: '',
    caughtBy: 'bit flips',
  },
]

const TORN_OR_ROTTEN: readonly Mutation[] = [
  {
    name: 'a sealed segment may have a torn tail',
    file: 'storage/segment.ts',
    from: 'const wasDurable = known !== null || (offset === size && decoded.header.bornWithFrame)',
    to: 'const wasDurable = false',
    caughtBy: 'lost sectors',
  },
  {
    name: 'a torn tail is taken for rot',
    file: 'storage/frames.ts',
    from: "if (isBlank(bytes, offset, sectorEnd)) return { kind: 'torn' }",
    to: '',
    caughtBy: 'crash: large frames over many sectors',
  },
  {
    name: 'a torn payload is taken for rot',
    file: 'storage/frames.ts',
    from: "if (isBlank(bytes, from, Math.min(from + SECTOR_BYTES, header.end))) return { kind: 'torn' }",
    to: '',
    caughtBy: 'crash: large frames over many sectors',
  },
  {
    name: 'rot in a header is taken for a torn tail',
    file: 'storage/frames.ts',
    from: "if (isBlank(bytes, offset, sectorEnd)) return { kind: 'torn' }",
    to: "if (sectorEnd > 0) return { kind: 'torn' }",
    caughtBy: 'bit flips',
  },
  {
    name: 'rot in a payload is taken for a torn tail',
    file: 'storage/frames.ts',
    from: "if (isBlank(bytes, from, Math.min(from + SECTOR_BYTES, header.end))) return { kind: 'torn' }",
    to: "return { kind: 'torn' }",
    caughtBy: 'bit flips',
  },
  {
    name: 'a later frame is no proof that the one before was durable',
    file: 'storage/frames.ts',
    from: 'if (laterWrite(bytes, behind, segmentSeed)) {',
    to: 'if (behind < 0) {',
    caughtBy: 'lost sectors',
  },
  {
    name: 'frames may have sectors of zeros',
    file: 'storage/frames.ts',
    from: 'if (!zeros) return 0',
    to: 'if (zeros || !zeros) return 0',
    caughtBy: 'bit flips',
  },
  {
    name: 'the header of a frame may lie across two sectors',
    file: 'storage/frames.ts',
    from: 'export const FRAME_ALIGNMENT = 32',
    to: 'export const FRAME_ALIGNMENT = 4',
    caughtBy: 'crash: frames of many lengths',
  },
]

const LOG: readonly Mutation[] = [
  {
    name: 'a start takes what it has read for durable',
    file: 'storage/storage.ts',
    from: '  await makeDurable(disk, [walDirectory, checkpointDirectory], replayed.tail)\n',
    to: '',
    caughtBy: 'kill, then a power cut: first start, identity, entries',
  },
  {
    name: 'what a failed sync has lost is synced again, and not written again',
    file: 'storage/unsynced.ts',
    from: '      if (tail.bytes.length > 0) await file.write(tail.bytes, tail.offset)\n',
    to: '',
    caughtBy: 'a failure, then a power cut: first start, identity, entries',
  },
  {
    name: 'a promise is written once only',
    file: 'storage/wal.ts',
    from: 'if (!taken.vital) return\n',
    to: 'if (taken) return\n',
    caughtBy: 'damaged promises',
  },
  {
    name: 'the second word of a promise shares its sectors',
    file: 'storage/wal.ts',
    from: 'writePadding(writer, alignUp(end, SECTOR_BYTES) - end)',
    to: '',
    caughtBy: 'damaged promises',
  },
  {
    name: 'an append is not waited for',
    file: 'storage/wal.ts',
    from: 'await segment.file.write(bytes, segment.offset)',
    to: 'void segment.file.write(bytes, segment.offset).catch(() => {})',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'a failed write is forgotten by the next',
    file: 'storage/wal.ts',
    from: 'this.#failed = true\n      this.#queue = []',
    to: 'this.#queue = []',
    caughtBy: 'a failed write',
  },
  {
    name: 'a segment is not synced',
    file: 'storage/wal.ts',
    from: "disk.open(`${directory}/${temporary}`, 'create-durable')",
    to: "disk.open(`${directory}/${temporary}`, 'create')",
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'a prepared segment is not synced',
    file: 'storage/prepared-segment.ts',
    from: "disk.open(`${directory}/${PREPARED_FILE}`, 'create-durable')",
    to: "disk.open(`${directory}/${PREPARED_FILE}`, 'create')",
    caughtBy: 'crash: bursts and rolling segments',
  },
  {
    name: 'the directory is not synced for a new segment',
    file: 'storage/wal.ts',
    from: 'await disk.syncDirectory(directory)\n    this.#segment = segment',
    to: 'this.#segment = segment',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'a segment has its name before its first frame',
    file: 'storage/wal.ts',
    from: 'const temporary = prepared === null ? `${name}.tmp` : PREPARED_FILE',
    to: 'const temporary = prepared === null ? name : PREPARED_FILE',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'doubt is forgotten at the next start',
    file: 'storage/wal.ts',
    from: 'doubtfulFrom: position.doubtfulFrom,',
    to: 'doubtfulFrom: null,',
    caughtBy: 'bit flips',
  },
  {
    name: 'a state that damage may have outdated is believed',
    file: 'storage/recovery.ts',
    from: 'this.stateLostAt ??= logIndex(this.next)',
    to: '',
    caughtBy: 'bit flips',
  },
  {
    name: 'that promises may be lost is forgotten at the next start',
    file: 'storage/wal.ts',
    from: 'promiseLost: position.promiseLost,',
    to: 'promiseLost: false,',
    caughtBy: 'bit flips',
  },
  {
    name: 'what is read back is bounded as it is on the disk',
    file: 'storage/log-reader.ts',
    from: "left -= AROUND_BYTES + (entry.kind === 'commands' ? entry.payload.length : 0)",
    to: 'left -= header.length / record.entries.length',
    caughtBy: 'read back',
  },
  {
    name: 'where a configuration began that a node was told of is not taken from the checkpoint',
    file: 'storage/judgement.ts',
    from: 'if (state.configurationStart === 0 && checkpoint',
    to: 'if (state.configurationStart < 0 && checkpoint',
    caughtBy: 'gaps and checkpoints',
  },
  {
    name: 'what a checkpoint covers stays in the log of a start',
    file: 'storage/judgement.ts',
    from: '    entries = dropBelow(entries, first)\n',
    to: '',
    caughtBy: 'gaps and checkpoints',
  },
  {
    name: 'what a checkpoint covers of damage stays in the log of a start',
    file: 'storage/judgement.ts',
    from: '  if (first > log.first) entries = dropBelow(entries, first)\n',
    to: '',
    caughtBy: 'gaps and checkpoints',
  },
  {
    name: 'a log that an earlier start cut below a checkpoint stays as it is',
    file: 'storage/judgement.ts',
    from: ' || next <= covered)',
    to: ')',
    caughtBy: 'gaps and checkpoints',
  },
  {
    name: 'a log is cut below its checkpoint where the state is lost',
    file: 'storage/judgement.ts',
    from: 'log.stateLostAt <= covered',
    to: 'log.stateLostAt <= 0',
    caughtBy: 'gaps and checkpoints',
  },
  {
    name: 'a cut of the log keeps what it replaces',
    file: 'storage/recovery.ts',
    from: 'while (this.entries.length > 0 && this.entries.at(-1)!.index >= base) this.entries.pop()',
    to: '',
    caughtBy: 'crash: a suffix is replaced, twice',
  },
]

const META: readonly Mutation[] = [
  {
    name: 'meta is not synced',
    file: 'storage/meta.ts',
    from: 'await this.#file.sync()',
    to: '',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'meta is written to one slot only',
    file: 'storage/meta.ts',
    from: 'await this.#file.write(bytes, this.#slot * SLOT_BYTES)',
    to: '',
    caughtBy: 'damaged checkpoints',
  },
  {
    name: 'the checksum of a meta slot is not checked',
    file: 'storage/meta.ts',
    from: 'if (crc32(copy) !== bytes.readUInt32LE(12)) return null',
    to: '',
    caughtBy: 'bit flips',
  },
  {
    name: 'segments go before meta says so',
    file: 'storage/storage.ts',
    from: 'await this.#meta.update({ first, timeline: this.timeline })\n      await this.moveHead(first)',
    to: 'await this.moveHead(first)\n      await this.#meta.update({ first, timeline: this.timeline })',
    caughtBy: 'crash: checkpoints and head truncation',
  },
  {
    name: 'the log is cut to the newest checkpoint, not to the one before',
    file: 'storage/storage.ts',
    from: 'logIndex(Math.min(index, fallback) + 1)',
    to: 'logIndex(index + 1 + fallback * 0)',
    caughtBy: 'damaged checkpoints',
  },
  {
    name: 'a published file is not synced before its rename',
    file: 'storage/disk.ts',
    from: 'await file.sync()',
    to: '',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'a published file is renamed without a directory sync',
    file: 'storage/disk.ts',
    from: 'await disk.syncDirectory(directory)',
    to: '',
    caughtBy: 'crash: first start, identity, entries',
  },
  {
    name: 'a first start reads the checkpoints of another life',
    file: 'storage/storage.ts',
    from: 'volumes.fresh ? { good: [], damage: [] } :',
    to: '',
    caughtBy: 'damaged checkpoints',
  },
  {
    name: 'the old stamp is moved aside before what it stamps',
    file: 'storage/stamp.ts',
    from: 'for (const name of [...ours, STAMP_FILE]) {',
    to: 'for (const name of [STAMP_FILE, ...ours]) {',
    caughtBy: 'checkpoints set aside',
  },
]

const CHECKPOINTS: readonly Mutation[] = [
  {
    name: 'the data of a checkpoint is not synced',
    file: 'storage/checkpoint.ts',
    from: 'if (writer.length > 0) await flush()\n    await file.sync()',
    to: 'if (writer.length > 0) await flush()',
    caughtBy: 'crash: checkpoints and head truncation',
  },
  {
    name: 'the directory is not synced for a checkpoint',
    file: 'storage/checkpoint.ts',
    from: '`${directory}/${id}`)\n  await disk.syncDirectory(directory)',
    to: '`${directory}/${id}`)',
    caughtBy: 'crash: checkpoints and head truncation',
  },
  {
    name: 'the chunks of a checkpoint are not checked',
    file: 'storage/checkpoint.ts',
    from: 'return piece.length === bytes && crc32(piece) === crc ? piece : null',
    to: 'return piece.length === bytes ? piece : null',
    caughtBy: 'damaged checkpoints',
  },
  {
    name: 'the manifest of a checkpoint is not checked',
    file: 'storage/checkpoint.ts',
    from: "if (crc32(copy) !== bytes.readUInt32LE(12)) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: checksum`)",
    to: '',
    caughtBy: 'damaged checkpoints',
  },
  {
    name: 'a checkpoint is removed under the name of a whole one',
    file: 'storage/checkpoint.ts',
    from: 'await disk.rename(`${directory}/${name}`, removing)\n  await disk.syncDirectory(directory)\n  await disk.removeDirectory(removing)',
    to: 'await disk.removeDirectory(`${directory}/${name}`)',
    caughtBy: 'crash: checkpoints and head truncation',
  },
  {
    name: 'a checkpoint is removed before it has lost its name',
    file: 'storage/checkpoint.ts',
    from: 'await disk.rename(`${directory}/${name}`, removing)\n  await disk.syncDirectory(directory)',
    to: 'await disk.rename(`${directory}/${name}`, removing)',
    caughtBy: 'crash: checkpoints and head truncation',
  },
  {
    name: 'a whole checkpoint is replaced by the same one',
    file: 'storage/checkpoint.ts',
    from: 'if (whole !== null) {',
    to: 'if (whole === undefined) {',
    caughtBy: 'crash: a checkpoint of a peer comes in pieces, over restarts',
  },
  {
    name: 'what a peer sent is not synced',
    file: 'storage/checkpoint-receiver.ts',
    from: 'await this.#withData((file) => file.sync())',
    to: '',
    caughtBy: 'crash: a checkpoint of a peer is installed',
  },
  {
    name: 'chunks from before a restart are not checked',
    file: 'storage/checkpoint-receiver.ts',
    from: 'if (plain === null || crc32(plain) !== chunks[number]!.crc) continue',
    to: 'if (plain === null) continue',
    caughtBy: 'a checkpoint on its way',
  },
  {
    name: 'chunks from before a restart are not written again',
    file: 'storage/checkpoint-receiver.ts',
    from: '        await file.write(bytes, piece.offset)\n',
    to: '',
    caughtBy: 'a checkpoint whose sync failed, and a kill',
  },
  {
    name: 'chunks of a peer are not checked',
    file: 'storage/checkpoint-receiver.ts',
    from: 'if (wanted === undefined || bytes.length !== wanted.bytes || crc32(bytes) !== wanted.crc) {',
    to: 'if (wanted === undefined) {',
    caughtBy: 'a damaged chunk of a peer',
  },
]

const BESIDE: readonly Mutation[] = [
  {
    name: 'the control file is not synced before its rename',
    file: 'node/control-file.ts',
    from: 'await file.sync()',
    to: '',
    caughtBy: 'control file',
  },
  {
    name: 'the control file is renamed without a directory sync',
    file: 'node/control-file.ts',
    from: 'await disk.syncDirectory(directory)',
    to: '',
    caughtBy: 'control file',
  },
  {
    name: 'the marker of a reset is not durable when the first file moves',
    file: 'storage/reset.ts',
    from: 'await disk.syncDirectory(walDirectory)\n  await finishReset(disk, walDirectory, checkpointDirectory)',
    to: 'await finishReset(disk, walDirectory, checkpointDirectory)',
    caughtBy: 'reset',
  },
  {
    name: 'the marker of a reset goes before the files have moved',
    file: 'storage/reset.ts',
    from: 'await disk.syncDirectory(aside)\n  await disk.syncDirectory(directory)',
    to: '',
    caughtBy: 'reset',
  },
  {
    name: 'a reset meets the generation before',
    file: 'storage/reset.ts',
    from: 'for (const directory of [walDirectory, checkpointDirectory]) {\n    await disk.removeDirectory(join(directory, ASIDE))',
    to: 'for (const directory of [walDirectory]) {\n    await disk.removeDirectory(join(directory, ASIDE))',
    caughtBy: 'reset',
  },
]

const SEALED: readonly Mutation[] = [
  {
    name: 'frames are not sealed',
    file: 'storage/wal.ts',
    from: "const cipher = FileCipher.create(keys, 'segment', `${directory}/${name}`)",
    to: 'const cipher = null as FileCipher | null',
    caughtBy: 'what is sealed',
  },
  {
    name: 'the nonce of a piece is not its place',
    file: 'storage/keys.ts',
    from: 'nonce.writeUInt32LE(number % 0x1_0000_0000, 0)',
    to: '',
    caughtBy: 'what is sealed',
  },
  {
    name: 'the header of a frame is not authenticated',
    file: 'storage/keys.ts',
    from: 'setAAD(associated)',
    to: 'setAAD(Buffer.alloc(0))',
    caughtBy: 'what is sealed',
  },
  {
    name: 'a salt is used again',
    file: 'storage/keys.ts',
    from: 'const salt = randomBytes(SALT_BYTES)',
    to: 'const salt = randomBytes(0).length === 0 ? Buffer.alloc(SALT_BYTES) : null!',
    caughtBy: 'salts',
  },
  {
    name: 'a wrong key is not noticed',
    file: 'storage/keys.ts',
    from: 'if (!check.equals(need.check)) {',
    to: 'if (check.length === 0) {',
    caughtBy: 'another key',
  },
  {
    name: 'the manifest of a checkpoint is not sealed',
    file: 'storage/checkpoint.ts',
    from: 'writer.bytes(sealPiece(info.cipher, plain, MANIFEST_NUMBER))',
    to: 'writer.bytes(plain)',
    caughtBy: 'what is sealed',
  },
  {
    name: 'chunks of a peer are stored in the clear',
    file: 'storage/checkpoint-receiver.ts',
    from: 'const sealed = sealPiece(this.info.cipher, bytes, chunk)',
    to: 'const sealed = bytes',
    caughtBy: 'what is sealed',
  },
  {
    name: 'the checksum of an index is not checked',
    file: 'storage/segment-index.ts',
    from: 'crc32(copy, seed) !== bytes.readUInt32LE(12) || ',
    to: '',
    caughtBy: 'flips in an index',
  },
]

const BLOCKS: readonly Mutation[] = [
  {
    name: 'what is in front of a write in its block is not written again',
    file: 'storage/whole-blocks.ts',
    from: 'into.set(this.#front.subarray(0, inFront))',
    to: '',
    caughtBy: 'crash: frames of many lengths, in whole blocks',
  },
  {
    name: 'the rest of a block is not zeros',
    file: 'storage/whole-blocks.ts',
    from: 'into.fill(0, end, length)',
    to: '',
    caughtBy: 'crash: a suffix is replaced, twice, in whole blocks',
  },
  {
    name: 'a block is not known behind a write that was not widened',
    file: 'storage/whole-blocks.ts',
    from: 'this.#remember(bytes, inFront, end)',
    to: 'if (fits) this.#remember(bytes, inFront, end)',
    caughtBy: 'crash: frames of all sizes, in whole blocks',
  },
]

export const MUTATIONS: readonly Mutation[] = [
  ...FRAMES,
  ...TORN_OR_ROTTEN,
  ...LOG,
  ...BLOCKS,
  ...META,
  ...CHECKPOINTS,
  ...SEALED,
  ...BESIDE,
]
