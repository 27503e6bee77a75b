// A shop's work with ioredis: node shop.js [HOST [PRIMARY_PORT [READER_PORT [SECONDS]]]]
// (after `npm ci` in this folder)
//
// Keeps sessions, counts, queues orders and changes products on the primary, and reads products from
// the reader. Nothing in here knows what runs behind the two ports.
"use strict";

const { Redis } = require("ioredis");

const PRODUCTS = 20;
const given = process.argv.slice(2);
const [host, primaryPort, readerPort, seconds] = ["127.0.0.1", "7379", "7380", "10"].map((d, i) => given[i] ?? d);

let ops = 0, errors = 0, degraded = 0;

function open(port) {
  // One attempt each: an error is an error, and so is a lost connection.
  const client = new Redis({ host, port: Number(port), connectTimeout: 1000, maxRetriesPerRequest: 0 });
  client.on("error", (e) => lost(e.message));
  return client;
}

function lost(reason) {
  degraded++;
  console.error(`degraded: ${reason}`);
}

function expect(ok, otherwise) {
  if (!ok) throw new Error(otherwise);
}

// Serves one request and returns how many commands it took.
async function serve(primary, reader, number) {
  const visitor = `shop:node:session:${number % 50}`;
  const session = JSON.stringify({ seen: number, cart: [`item-${number}`] });
  await primary.setex(visitor, 1800, session);
  expect((await primary.get(visitor)) === session, "the session read back is another one");

  await primary.incr("shop:node:counter");
  await primary.lpush("shop:node:orders", `order-${number}`);
  expect(await primary.brpop("shop:node:orders", 1), "the queued order is gone");

  const product = (n) => `shop:node:product:${n % PRODUCTS}`;
  // Sent in one packet, as ioredis does with what is issued in one turn.
  const [, , ttl] = await Promise.all([
    primary.set(product(number), number), primary.expire(product(number), 3600), primary.ttl(product(number)),
  ]);
  expect(ttl > 0, "answers came in another order");
  // A replica may be a moment behind: an older price is fine, and so is none for a new product.
  const shown = await reader.get(product(number + 1));
  expect(shown !== null || number < 2 * PRODUCTS, "the product is gone");
  return 9;
}

async function main() {
  const primary = open(primaryPort), reader = open(readerPort);
  const until = Date.now() + Number(seconds) * 1000;
  for (let number = 0; Date.now() < until; number++) {
    try {
      ops += await serve(primary, reader, number);
    } catch (e) {
      errors++;
      console.error(`request ${number}: ${e.message}`);
    }
    await new Promise((next) => setTimeout(next, 5));
  }
  primary.disconnect();
  reader.disconnect();
  console.log(JSON.stringify({ ops, errors, degraded }));
}

main();
