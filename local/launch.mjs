/**
 * Runs a script of the project on the project's own Node.js, whatever the machine has (20 or newer).
 *
 *   node local/launch.mjs local/main.ts [arguments]   a TypeScript file, on node_modules/.bin/node
 *   node local/launch.mjs vitest run [arguments]      a tool of node_modules/.bin
 *
 * First it installs what is missing: `npm ci` when node_modules is not there or older than package-lock.json.
 * Plain JavaScript on purpose: this file must run before anything is installed. It guarantees that the child
 * ends before the launcher does, that signals reach it once, and that its exit code is handed on.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, 'node_modules')
const binaries = join(modules, '.bin')
const windows = process.platform === 'win32'

/** npm writes this file last, so its time says whether the last install came to its end. */
const installed = join(modules, '.package-lock.json')
const wanted = join(root, 'package-lock.json')

function fail(message) {
  console.error(message)
  process.exit(1)
}

function stale() {
  if (!existsSync(installed) || !existsSync(join(binaries, windows ? 'node.cmd' : 'node'))) return true
  if (statSync(installed).mtimeMs >= statSync(wanted).mtimeMs) return false
  // A fresh checkout of the same lock file has a new time and the same packages: compare what counts.
  try {
    const have = JSON.parse(readFileSync(installed, 'utf8')).packages
    const want = JSON.parse(readFileSync(wanted, 'utf8')).packages
    return Object.entries(want).some(
      ([path, entry]) => path !== '' && !entry.optional && have[path]?.version !== entry.version,
    )
  } catch {
    return true
  }
}

/** Shows on one line how many packages have arrived; plain lines where there is no terminal. */
function progress() {
  const started = Date.now()
  if (!process.stderr.isTTY) {
    console.error('Installing what is missing (npm ci) …')
    return (code) => {
      if (code === 0) console.error(`Installed in ${Math.round((Date.now() - started) / 1000)} s.`)
    }
  }
  const marks = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
  let turn = 0
  const timer = setInterval(() => {
    const count = existsSync(modules) ? readdirSync(modules).filter((name) => !name.startsWith('.')).length : 0
    const seconds = Math.round((Date.now() - started) / 1000)
    process.stderr.write(
      `\r\x1b[K${marks[turn++ % marks.length]} Installing what is missing (npm ci): ${count} packages, ${seconds} s`,
    )
  }, 100)
  return (code) => {
    clearInterval(timer)
    process.stderr.write('\r\x1b[K')
    if (code === 0) console.error(`Installed in ${Math.round((Date.now() - started) / 1000)} s.`)
  }
}

function install() {
  return new Promise((resolve) => {
    const finished = progress()
    const npm = process.env.npm_execpath
    const child =
      npm !== undefined && /npm-cli\.c?js$/.test(npm)
        ? spawn(process.execPath, [npm, 'ci'], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
        : spawn('npm', ['ci'], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], shell: windows })
    let said = ''
    const keep = (chunk) => (said += chunk)
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.on('error', (error) => fail(`npm could not be started: ${error.message}\nInstall Node.js with npm.`))
    child.on('close', (code) => {
      finished(code)
      if (code !== 0) fail(`${said.trim()}\n\nnpm ci failed (exit code ${code}). Correct what it says, then try again.`)
      resolve()
    })
  })
}

/** `vitest` -> its own JavaScript entry point, so that it runs on the pinned Node and not through a shell. */
function entryPoint(tool) {
  if (/\.[cm]?[jt]s$/.test(tool)) return join(root, tool)
  const manifest = join(modules, tool, 'package.json')
  if (!existsSync(manifest)) fail(`There is no script and no tool '${tool}'.`)
  const { bin } = JSON.parse(readFileSync(manifest, 'utf8'))
  return join(modules, tool, typeof bin === 'string' ? bin : bin[tool])
}

function run(tool, given) {
  const node = join(binaries, windows ? 'node.cmd' : 'node')
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', entryPoint(tool), ...given], {
    cwd: root,
    stdio: 'inherit',
    shell: windows,
    env: { ...process.env, PATH: `${binaries}${delimiter}${process.env.PATH ?? ''}` },
  })
  // Ctrl-C reaches the whole group; a signal sent to the launcher alone is handed on.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => fail(`${node} could not be started: ${error.message}\nRun npm ci, then try again.`))
  child.on('exit', (code, signal) => {
    process.exit(code ?? 128 + (constants.signals[signal] ?? 0))
  })
}

const [tool, ...given] = process.argv.slice(2)
if (tool === undefined) fail('usage: node local/launch.mjs <script.ts | tool> [arguments]')
if (Number(process.versions.node.split('.')[0]) < 20) {
  fail(`Node.js ${process.versions.node} is too old: version 20 or newer is needed (https://nodejs.org).`)
}
if (stale()) await install()
run(tool, given)
