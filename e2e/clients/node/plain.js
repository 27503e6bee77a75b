// ioredis and node-redis as applications use them: node plain.js ioredis | redis
//
// One client an endpoint, commands issued together, transactions, a queue with BRPOP and a subscriber on
// clients of their own.
"use strict";

const { Record, eventually, compare, host, key, port, version } = require("./record");

const library = process.argv[2];
const r = new Record(`${library === "redis" ? "node-redis" : library} ${version(library)}`);
let reconnects = 0;

// open gives both libraries one face.
async function open(endpoint) {
  if (library === "ioredis") return new Ioredis(endpoint);
  const c = require("redis").createClient({ socket: { host, port: port(endpoint) } });
  c.on("error", () => {}); // it reconnects by itself, and insists on a listener
  c.on("reconnecting", () => reconnects++);
  await c.connect();
  return new NodeRedis(c);
}

class Ioredis {
  constructor(endpoint) {
    const { Redis } = require("ioredis");
    this.c = new Redis({ host, port: port(endpoint) });
    this.c.on("error", () => {}); // it reconnects by itself, and prints what nobody listens to
    this.c.on("reconnecting", () => reconnects++);
  }
  set(k, v) { return this.c.set(k, v); }
  get(k) { return this.c.get(k); }
  incr(k) { return this.c.incr(k); }
  push(k, v) { return this.c.lpush(k, v); }
  async pop(k) { return (await this.c.brpop(k, 1))?.[1]; }
  async both(n) {
    const replies = await this.c.multi().set(`${key}:both`, n).sadd(`${key}:seen`, n).exec();
    return replies && replies.every(([e]) => !e);
  }
  members(k) { return this.c.smembers(k); }
  range(k) { return this.c.lrange(k, 0, -1); }
  publish(k, v) { return this.c.publish(k, v); }
  async subscribe(k, hear) {
    this.c.on("message", (_, m) => hear(m));
    await this.c.subscribe(k);
  }
  close() { return this.c.quit(); }
}

class NodeRedis {
  constructor(c) { this.c = c; }
  set(k, v) { return this.c.set(k, String(v)); }
  get(k) { return this.c.get(k); }
  incr(k) { return this.c.incr(k); }
  push(k, v) { return this.c.lPush(k, String(v)); }
  async pop(k) { return (await this.c.brPop(k, 1))?.element; }
  both(n) { return this.c.multi().set(`${key}:both`, String(n)).sAdd(`${key}:seen`, String(n)).exec(); }
  members(k) { return this.c.sMembers(k); }
  range(k) { return this.c.lRange(k, 0, -1); }
  publish(k, v) { return this.c.publish(k, String(v)); }
  subscribe(k, hear) { return this.c.subscribe(k, hear); }
  close() { return this.c.close(); }
}

const saw = { values: new Map(), members: [], pushed: [], popped: [], counted: 0, maybeCounted: 0, maybePopped: 0, heard: 0 };

async function round(n, { primary, queue, reader, split }) {
  const at = `${key}:value:${n % 50}`;
  if (await r.op("SET", true, () => primary.set(at, n))) {
    saw.values.set(at, n);
    const got = await r.op("GET", true, () => primary.get(at));
    r.check(got === null || Number(got) === n, `GET gave ${got} after SET ${n}`);
  }
  let unknown = r.unknown;
  if (await r.op("INCR", false, () => primary.incr(`${key}:count`))) saw.counted++;
  saw.maybeCounted += r.unknown - unknown;
  if (await r.op("LPUSH", false, () => primary.push(`${key}:jobs`, n))) saw.pushed.push(n);
  unknown = r.unknown;
  const job = await r.op("BRPOP", false, () => queue.pop(`${key}:jobs`));
  if (job) saw.popped.push(Number(job));
  saw.maybePopped += r.unknown - unknown;
  if (await r.op("EXEC", false, () => primary.both(n))) saw.members.push(n);
  // Issued in one turn, sent in one packet.
  const many = await r.op("together", true, () => Promise.all([0, 1, 2, 3, 4].flatMap((i) => [primary.set(`${key}:many:${i}`, n), primary.get(`${key}:many:${i}`)])));
  r.check(many === null || Number(many[9]) === n, "answers came in another order");
  await r.op("PUBLISH", true, () => primary.publish(`${key}:news`, n));
  if (await r.op("SET on split", true, () => split.set(`${key}:split`, n))) {
    const got = await r.op("GET on split", true, () => split.get(`${key}:split`));
    r.check(got === null || Number(got) === n, `split gave ${got} after SET ${n}`);
  }
  await r.op("GET on reader", true, () => reader.get(at)); // may be a moment behind
}

async function judge(primary, n) {
  const hears = await eventually(5, async () => {
    await primary.publish(`${key}:news`, n + 1);
    return saw.heard === n + 1;
  });
  r.check(hears, "the subscriber hears nothing any more");
  for (const [at, v] of saw.values) r.lost += Number(await r.op("GET", true, () => primary.get(at))) === v ? 0 : 1;
  const count = Number(await primary.get(`${key}:count`));
  r.lost += Math.max(0, saw.counted - count);
  r.doubled += Math.max(0, count - saw.counted - saw.maybeCounted);
  r.lost += compare(saw.members, (await primary.members(`${key}:seen`)).map(Number))[0];
  const [gone, twice] = compare(saw.pushed, saw.popped.concat((await primary.range(`${key}:jobs`)).map(Number)));
  r.lost += Math.max(0, gone - saw.maybePopped);
  r.doubled += twice;
}

async function main() {
  const [primary, queue, subscriber, reader, split] = await Promise.all(["PRIMARY", "PRIMARY", "PRIMARY", "READER", "SPLIT"].map(open));
  await subscriber.subscribe(`${key}:news`, (m) => { saw.heard = Number(m); });
  let n = 0;
  while (await r.another()) await round(++n, { primary, queue, reader, split });
  await judge(primary, n);
  if (reconnects) r.note = `reconnected ${reconnects} times`;
  r.finish();
  await Promise.all([primary, queue, subscriber, reader, split].map((c) => c.close()));
}

main();
