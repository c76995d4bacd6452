#!/usr/bin/env node
/**
 * A small client for those without redis-cli: `node local/cli.mjs [-p port] SET hello world` sends one command to
 * a node of this machine and prints the answer the way redis-cli does. Plain JavaScript: runs on any Node.js.
 * The exit code is 0 for an answer, 1 for an error answer, 2 where no node can be reached.
 */
import { existsSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const words = process.argv.slice(2)
const port = words[0] === '-p' ? Number(words.splice(0, 2)[1]) : null

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

if (words.length === 0) {
  console.error('usage: node local/cli.mjs [-p port] COMMAND [argument …], for example: SET hello world')
  process.exit(64)
}
let failure = new Error('no node is known; is `npm start` running?')
for (const to of candidates()) {
  try {
    const answer = await send(to)
    console.log(answer.text)
    process.exit(answer.error === true ? 1 : 0)
  } catch (error) {
    failure = error
  }
}
console.error(`No node answers: ${failure.message}`)
process.exit(2)
