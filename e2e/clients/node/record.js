// What a client program saw: each operation's time and outcome, and at its end one line of JSON for the
// driver (../../clients_test.go).
"use strict";

const fs = require("node:fs");
const path = require("node:path");

class Record {
  constructor(version) {
    Object.assign(this, { version, ops: 0, unknown: 0, lost: 0, doubled: 0, errors: [], longest: 0, note: "" });
    this.rounds = 0;
  }

  // Runs one operation. repeatable: running it twice would be as good as once. Null after an error.
  async op(what, repeatable, does) {
    this.ops++;
    const begun = performance.now();
    try {
      return await does();
    } catch (e) {
      this.failed(what, repeatable, e.message);
      return null;
    } finally {
      this.longest = Math.max(this.longest, performance.now() - begun);
    }
  }

  // An answer that says that the outcome is not known is counted apart, for what may not run twice.
  failed(what, repeatable, message) {
    if (!repeatable && message.includes("UNKNOWN")) this.unknown++;
    else this.errors.push(`${what}: ${message}`);
  }

  check(ok, otherwise) {
    if (!ok) this.errors.push(otherwise);
  }

  // Ends a round: tells the driver, rests, and says whether there is to be another one.
  async another() {
    if (this.rounds++ > 0) {
      console.log("round");
      await rest(Number(process.env.CLIENT_PAUSE_MS));
    }
    return !fs.existsSync(process.env.CLIENT_STOP);
  }

  finish() {
    console.log(JSON.stringify({
      version: `${this.version}, Node ${process.versions.node}`, ops: this.ops, errors: this.errors.slice(0, 20), failed: this.errors.length,
      unknown: this.unknown, lost: this.lost, doubled: this.doubled, longest_ms: Math.round(this.longest * 10) / 10, note: this.note,
    }));
  }
}

const rest = (ms) => new Promise((next) => setTimeout(next, ms));

// Waits until the condition holds, at most so many seconds.
async function eventually(seconds, holds) {
  for (const until = Date.now() + 1000 * seconds; Date.now() < until; await rest(20)) {
    if (await holds()) return true;
  }
  return false;
}

// How many of the acked were not done, and how often something was done again.
function compare(acked, did) {
  const once = new Set(did);
  return [acked.filter((n) => !once.has(n)).length, did.length - once.size];
}

const host = process.env.CLIENT_HOST;
const key = process.env.CLIENT_KEY;
const port = (endpoint) => Number(process.env[`CLIENT_${endpoint}_PORT`]);
const version = (library) => JSON.parse(fs.readFileSync(path.join(__dirname, "node_modules", library, "package.json"))).version;

module.exports = { Record, eventually, compare, rest, host, key, port, version };
