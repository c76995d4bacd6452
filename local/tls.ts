/**
 * The keys to the API: a certificate for the loopback address and a bearer token, made once and kept, and the
 * kubeconfig that names both. All of it is readable by its owner only.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { stringify } from 'yaml'

export interface Credentials {
  readonly key: string
  readonly certificate: string
  readonly token: string
}

const VALID_DAYS = 3650

/** Replaces a file so that readers see the old or the new one, never a part. */
export function replaceFile(path: string, content: string, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, content, { mode })
  chmodSync(temporary, mode)
  renameSync(temporary, path)
}

/** Reads the credentials of the folder, or makes them. */
export async function credentials(folder: string): Promise<Credentials> {
  const file = join(folder, 'credentials.json')
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Credentials
  const made = await generate([{ name: 'commonName', value: 'lokikv-local' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notAfterDate: new Date(Date.now() + VALID_DAYS * 86_400_000),
    extensions: [
      { name: 'basicConstraints', cA: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  })
  const credentials = { key: made.private, certificate: made.cert, token: randomBytes(24).toString('hex') }
  replaceFile(file, JSON.stringify(credentials))
  return credentials
}

/** Writes the kubeconfig for the API on this port. */
export function writeKubeconfig(file: string, port: number, { certificate, token }: Credentials): void {
  const name = 'lokikv-local'
  replaceFile(
    file,
    stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name,
          cluster: {
            server: `https://127.0.0.1:${port}`,
            'certificate-authority-data': Buffer.from(certificate).toString('base64'),
          },
        },
      ],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: 'default' } }],
      'current-context': name,
    }),
  )
}
