import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type ControlFile,
  parseControlFile,
  readControlFile,
  renderControlFile,
  replaceControlFile,
} from '../src/node/control-file.ts'
import { RealDisk } from '../src/storage/real-disk.ts'

const file: ControlFile = {
  clusterId: '5f0c'.repeat(8),
  selfIdentifier: 2,
  volumeId: 'b1d2'.repeat(8),
  configurationId: 4,
  currentLeaderValue: 3,
  lastWalTimeline: 5,
  lastCheckpointId: 3,
  walDirectoryPath: '/var/lib/lokikv/wal',
  checkpointDirectoryPath: '/var/lib/lokikv/checkpoints',
  peers: [{ identifier: 3, address: 'orders-2.orders-peers.default.svc:7400', role: 'voter' }],
}

describe('control file', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'lokikv-control-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('reads what it renders', () => {
    expect(parseControlFile(renderControlFile(file), 'control.toml')).toEqual(file)
  })

  it('keeps the names that LokiKV users know', () => {
    const text = renderControlFile(file)
    for (const name of ['self_identifier', 'current_leader_value', 'last_wal_timeline', 'last_checkpoint_id']) {
      expect(text).toMatch(new RegExp(`^${name} = \\d+$`, 'm'))
    }
  })

  it('is replaced atomically, over what a crash left behind', async () => {
    const disk = new RealDisk()
    const path = join(folder, 'control.toml')
    expect(await readControlFile(disk, path)).toBeNull()
    writeFileSync(`${path}.new`, 'torn')
    await replaceControlFile(disk, path, file)
    await replaceControlFile(disk, path, { ...file, configurationId: 5 })
    expect(await readControlFile(disk, path)).toEqual({ ...file, configurationId: 5 })
    expect(readdirSync(folder)).toEqual(['control.toml'])
    expect(readFileSync(path, 'utf8')).toContain('configuration_id = 5')
  })

  it.each([
    ['a torn line', 'cluster_id = "5f0', /CONTROL_FILE_INVALID: c\.toml: line 1/],
    ['an unknown key', `${renderControlFile(file)}\n`.replace('cluster_id', 'clusterid'), /unknown key 'clusterid'/],
    ['a missing key', renderControlFile(file).replace(/^volume_id.*$/m, ''), /volume_id: a string expected/],
    ['an id that is none', renderControlFile(file).replace('= 2', '= -2'), /self_identifier: an integer from 1/],
    ['a cluster id that is none', renderControlFile(file).replace('5f0c', 'xyzz'), /cluster_id: 32 hexadecimal/],
    ['a role that is none', renderControlFile(file).replace('voter', 'boss'), /role: voter or learner/],
  ])('refuses %s and says where', (_name, text, message) => {
    expect(() => parseControlFile(text, 'c.toml')).toThrow(message)
  })
})
