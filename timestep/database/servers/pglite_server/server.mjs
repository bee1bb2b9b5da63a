// Serves one PGlite directory on a unix socket, for as long as the process that started it lives.
//
//     node server.mjs DIRECTORY SOCKET PARENT_PID

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketHandler } from '@electric-sql/pglite-socket'

const [directory, socket, parent] = process.argv.slice(2)
const LOOK_EVERY = 100 // milliseconds between two looks whether the parent is there
const CLOSE_WITHIN = 5000 // milliseconds that PGlite has to end cleanly
const FLUSH = 'H'.charCodeAt(0)
const TERMINATE = 'X'.charCodeAt(0)
const EXTENDED = new Set([...'PBDECH'].map((letter) => letter.charCodeAt(0)))

// PGlite is one session. The package's own queue lets connections take turns at every message,
// so the Bind of one would meet the Parse of another. Here a connection's turn lasts from its
// first message until the server is ready for its next query outside a transaction.
class Turns {
  #parts = new Map() // connection to the messages of a query that is not complete yet
  #waiting = []
  #running = false
  #holder = null // whose transaction is open

  async enqueue(connection, message, onData) {
    const kind = message[0]
    if (kind === TERMINATE) return 0
    const parts = this.#parts.get(connection) ?? []
    this.#parts.set(connection, parts)
    parts.push(message)
    if (EXTENDED.has(kind) && kind !== FLUSH) return 0
    this.#parts.delete(connection)
    const whole = Buffer.concat(parts)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ connection, kind, whole, onData, resolve, reject })
      this.#run()
    })
  }

  async #run() {
    if (this.#running) return
    this.#running = true
    for (let next = this.#next(); next; next = this.#next()) {
      let written = 0
      try {
        await db.execProtocolRawStream(next.whole, {
          onRawData: (data) => {
            written += data.length
            next.onData(data)
          },
        })
      } catch (error) {
        fail(error)
      }
      const goesOn = db.isInTransaction() || next.kind === FLUSH
      this.#holder = goesOn ? next.connection : null
      next.resolve(written)
    }
    this.#running = false
  }

  #next() {
    const mine = (one) => this.#holder === null || one.connection === this.#holder
    const index = this.#waiting.findIndex(mine)
    return index < 0 ? undefined : this.#waiting.splice(index, 1)[0]
  }

  // What the socket's handler calls when its connection is gone.
  clearQueueForHandler(connection) {
    this.#parts.delete(connection)
    this.#waiting = this.#waiting.filter((one) => {
      if (one.connection === connection) one.reject(new Error('the connection is gone'))
      return one.connection !== connection
    })
  }

  async clearTransactionIfNeeded(connection) {
    while (this.#running) await new Promise((resolve) => setImmediate(resolve))
    if (this.#holder !== connection) return
    if (db.isInTransaction()) await db.exec('ROLLBACK')
    this.#holder = null
    this.#run()
  }
}

// The directory's files are made apart and moved in, so that one whose making was cut off is
// made again: PG_VERSION is what PGlite knows a directory by, and comes last.
async function initialize() {
  if (fs.existsSync(path.join(directory, 'PG_VERSION'))) return
  const made = path.join(directory, 'initializing')
  const complete = path.join(made, 'complete')
  if (!fs.existsSync(complete)) {
    fs.rmSync(made, { recursive: true, force: true })
    await (await PGlite.create(made)).close()
    fs.writeFileSync(complete, '')
  }
  const last = ['complete', 'PG_VERSION']
  const names = fs.readdirSync(made).filter((name) => !last.includes(name))
  for (const name of [...names, 'PG_VERSION']) {
    fs.renameSync(path.join(made, name), path.join(directory, name))
  }
  fs.rmSync(made, { recursive: true })
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

let isStopping = false
async function stop() {
  if (isStopping) return
  isStopping = true
  setTimeout(() => process.exit(1), CLOSE_WITHIN)
  server?.close()
  await db?.close()
  process.exit(0)
}

let db
let server
process.on('SIGTERM', stop)
// The parent's end by SIGKILL tells nobody, and its pipes may be held by its other children.
setInterval(() => process.ppid === Number(parent) || stop(), LOOK_EVERY)
try {
  await initialize()
  db = await PGlite.create(directory)
  const turns = new Turns()
  server = net.createServer((connection) => {
    new PGLiteSocketHandler({ queryQueue: turns, closeOnDetach: true }).attach(connection)
  })
  server.on('error', fail)
  fs.rmSync(socket, { force: true })
  server.listen(socket)
} catch (error) {
  fail(error)
}
