#!/usr/bin/env node
/**
 * A small client for those without redis-cli: `node local/cli.mjs [-p port] SET hello world` sends one command to
 * a node of this machine and prints the answer the way redis-cli does. Plain JavaScript: runs on any Node.js.
 * The exit code is 0 for an answer, 1 for an error answer, 2 where no node answers, 64 for a wrong use. A command is
 * never sent twice: the next node is tried only where nothing could be sent.
 */
import { existsSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const USAGE = `usage: node local/cli.mjs [-p port] COMMAND [argument …]

Sends one command to a node of this machine, for example: node local/cli.mjs SET hello world
Without -p: to the first node of \`npm start\` that takes connections.`

const words = process.argv.slice(2)
const port = words[0] === '-p' ? Number(words.splice(0, 2)[1]) : null
if (words[0] === '--help' || words[0] === '-h') {
  console.log(USAGE)
  process.exit(0)
}
if (words.length === 0 || (port !== null && !(Number.isInteger(port) && port > 0 && port < 65_536))) {
  console.error(words.length === 0 ? USAGE : `-p: a port from 1 to 65535 expected\n\n${USAGE}`)
  process.exit(64)
}

/** Client ports of the nodes that `npm start` runs, from the address book. */
function candidates() {
  if (port !== null) return [port]
  const book = join(dirname(dirname(fileURLToPath(import.meta.url))), '.lokikv', 'address-book.json')
  if (!existsSync(book)) return [6379]
  return Object.entries(JSON.parse(readFileSync(book, 'utf8')))
    .filter(([name]) => name.endsWith(':6379'))
    .map(([, address]) => Number(address.split(':')[1]))
}

/** Reads one RESP2 value at `offset`; null where bytes are missing. Gives the text lines and the next offset. */
function read(bytes, offset, indent = '') {
  const end = bytes.indexOf('\r\n', offset)
  if (end < 0) return null
  const line = bytes.toString('utf8', offset + 1, end)
  const next = end + 2
  switch (bytes[offset]) {
    case 43:
      return { text: line, next }
    case 45:
      return { text: `(error) ${line}`, next, error: true }
    case 58:
      return { text: `(integer) ${line}`, next }
    case 36: {
      if (line === '-1') return { text: '(nil)', next }
      const stop = next + Number(line)
      return bytes.length < stop + 2 ? null : { text: `"${bytes.toString('utf8', next, stop)}"`, next: stop + 2 }
    }
    case 42: {
      if (Number(line) <= 0) return { text: line === '-1' ? '(nil)' : '(empty array)', next }
      const lines = []
      let at = next
      for (let position = 1; position <= Number(line); position++) {
        const item = read(bytes, at, `${indent}   `)
        if (item === null) return null
        lines.push(`${position > 1 ? indent : ''}${position}) ${item.text}`)
        at = item.next
      }
      return { text: lines.join('\n'), next: at }
    }
    default:
      return { text: `(error) this is no Redis answer: ${line}`, next, error: true }
  }
}

function send(to) {
  return new Promise((resolve, reject) => {
    const socket = connect(to, '127.0.0.1')
    let bytes = Buffer.alloc(0)
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the node has closed the connection')))
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk])
      const answer = read(bytes, 0)
      if (answer === null) return
      resolve(answer)
      socket.destroy()
    })
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
    socket.write(`*${words.length}\r\n${parts.join('')}`)
  })
}

let failure = new Error('no node is known; is `npm start` running?')
for (const to of candidates()) {
  try {
    const answer = await send(to)
    console.log(answer.text)
    process.exit(answer.error === true ? 1 : 0)
  } catch (error) {
    failure = error
    if (error.code !== 'ECONNREFUSED') break
  }
}
console.error(`No node answers: ${failure.message}`)
process.exit(2)
