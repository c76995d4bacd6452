/**
 * The settings of a node, `spec.config` of the manifest: names, defaults and ranges in one table, and their parser.
 * The schema of the custom resource says the same (a test compares). All of them need a restart.
 */
import { LokiError } from './errors.ts'

interface SettingRow {
  readonly default: number
  readonly least: number
  readonly most: number
  /** What the schema of the custom resource says about it. */
  readonly what: string
}

/** Every setting of a node that a manifest may change. All of them need a restart. Units are last in the name. */
export const SETTINGS = {
  electionTimeoutMilliseconds: {
    default: 300,
    least: 50,
    most: 60_000,
    what: 'how long a leader may be out of sight before another node takes over',
  },
  leaseMilliseconds: {
    default: 0,
    least: 0,
    most: 5000,
    what: 'for so long a leader answers reads alone after a quorum has agreed, never longer than electionTimeoutMilliseconds; the rates of all clocks must agree within 5 %; 0: it asks a quorum for each turn of reads',
  },
  acceptQuorum: {
    default: 0,
    least: 0,
    most: 5,
    what: 'of three voters or more, how many must hold a write, from 2 to a majority; fewer make writes quicker and elections need more; 0: a majority',
  },
  staleReadsMostMilliseconds: {
    default: 0,
    least: 0,
    most: 86_400_000,
    what: 'how old a state may be that READONLY connections are answered from; older, and the leader is asked; 0: no bound',
  },
  checkpointIntervalSeconds: {
    default: 300,
    least: 1,
    most: 86_400,
    what: 'a checkpoint is taken at the latest after this time, if there is something new',
  },
  checkpointLogBytes: {
    default: 67_108_864,
    least: 1_048_576,
    most: 4_294_967_296,
    what: 'a checkpoint is taken at the latest after this many bytes of log',
  },
  walSegmentBytes: {
    default: 67_108_864,
    least: 1_048_576,
    most: 1_073_741_824,
    what: 'size of a segment of the write-ahead log',
  },
  maxMemoryBytes: {
    default: 0,
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    what: 'writes that grow the data are refused above this; 0: no limit',
  },
  maxClients: { default: 10_000, least: 1, most: 65_000, what: 'client connections a node takes' },
  maxValueBytes: {
    default: 8_388_608,
    least: 1024,
    // A little less than what V8 makes one text of, which a key is.
    most: 536_869_888,
    what: 'largest key, value or argument of a command',
  },
  shutdownForwardMilliseconds: {
    default: 5000,
    least: 0,
    most: 60_000,
    what: 'how long a stopping node goes on taking commands, so that endpoints can notice',
  },
} as const satisfies Record<string, SettingRow>

/** The settings that are words. */
export const TEXT_SETTINGS = {
  walCompression: {
    default: 'none',
    pattern: '^(none|zstd)$',
    what: 'compression of the write-ahead log: none, or zstd, which saves disk and costs time',
  },
  encryptionKeyId: {
    default: '',
    pattern: '^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$',
    what: 'id of the key that encrypts what is written to the volumes from now on; empty: it is not encrypted',
  },
} as const satisfies Record<string, { readonly default: string; readonly pattern: string; readonly what: string }>

export type SettingName = keyof typeof SETTINGS
export type Settings = Readonly<Record<SettingName, number>> & {
  readonly walCompression: 'none' | 'zstd'
  readonly encryptionKeyId: string
}

/** Fills in defaults; throws `CONFIGURATION_INVALID` for a name or a value that is not in the table. */
export function parseSettings(value: unknown): Settings {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LokiError('CONFIGURATION_INVALID', 'settings: an object expected')
  }
  const given = value as Record<string, unknown>
  const settings: Record<string, number | string> = {}
  for (const name of Object.keys(given)) {
    if (name in SETTINGS || name in TEXT_SETTINGS) continue
    const known = [...Object.keys(SETTINGS), ...Object.keys(TEXT_SETTINGS)].join(', ')
    throw new LokiError('CONFIGURATION_INVALID', `unknown setting '${name}'; known: ${known}`)
  }
  for (const [name, row] of Object.entries(SETTINGS) as [SettingName, SettingRow][]) {
    const wanted = given[name] ?? row.default
    if (!Number.isSafeInteger(wanted) || (wanted as number) < row.least || (wanted as number) > row.most) {
      throw new LokiError(
        'CONFIGURATION_INVALID',
        `${name}: an integer from ${row.least} to ${row.most} expected, got ${JSON.stringify(wanted)}`,
      )
    }
    settings[name] = wanted as number
  }
  for (const [name, row] of Object.entries(TEXT_SETTINGS)) {
    const wanted = given[name] ?? row.default
    if (typeof wanted !== 'string' || !new RegExp(row.pattern).test(wanted)) {
      const message = `${name}: text of the form ${row.pattern} expected, got ${JSON.stringify(wanted)}`
      throw new LokiError('CONFIGURATION_INVALID', message)
    }
    settings[name] = wanted
  }
  checkTogether(settings as unknown as Settings)
  return settings as unknown as Settings
}

/** What no setting shows by itself. */
function checkTogether({ leaseMilliseconds, electionTimeoutMilliseconds, acceptQuorum }: Settings): void {
  if (leaseMilliseconds > electionTimeoutMilliseconds) {
    const message = `at most electionTimeoutMilliseconds (${electionTimeoutMilliseconds}), got ${leaseMilliseconds}`
    throw new LokiError('CONFIGURATION_INVALID', `leaseMilliseconds: ${message}`)
  }
  if (acceptQuorum === 1) throw new LokiError('CONFIGURATION_INVALID', 'acceptQuorum: 0, or 2 and more, got 1')
}
