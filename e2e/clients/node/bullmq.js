// BullMQ: one queue, delayed jobs too, and a worker in a process of its own: node bullmq.js [worker]
//
// BullMQ does a job at least once: one whose worker loses its lock is done again.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { Queue, Worker } = require("bullmq");
const { Record, eventually, compare, host, key, port, version } = require("./record");

const BACKLOG = 50; // jobs that wait at most, so that they are done soon after the last was queued
const dir = process.env.CLIENT_DIR;
const name = key.replaceAll(":", "-");
const doneFile = path.join(dir, "done");
const errorFile = path.join(dir, "worker-errors");
const numbers = (file) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8").split("\n").filter(Boolean) : []);
const done = () => numbers(doneFile).map(Number);

function work() {
  const w = new Worker(name, async (job) => fs.appendFileSync(doneFile, `${job.data.n}\n`), {
    connection: { host, port: port("PRIMARY"), maxRetriesPerRequest: null }, concurrency: 2,
  });
  w.on("error", (e) => fs.appendFileSync(errorFile, `${e.message.split("\n")[0]}\n`));
  process.on("SIGTERM", () => w.close().then(() => process.exit(0)));
}

async function produce() {
  const r = new Record(`BullMQ ${version("bullmq")}, ioredis ${version("ioredis")}`);
  const worker = spawn(process.execPath, [__filename, "worker"], { stdio: ["ignore", 2, 2] });
  const queue = new Queue(name, { connection: { host, port: port("PRIMARY") } });
  let reconnects = 0;
  queue.on("error", () => reconnects++); // of the connection, which ioredis opens again
  const acked = [];
  let n = 0;
  while (await r.another()) {
    const waiting = await r.op("count", false, () => queue.count()); // a script: EVALSHA
    if (waiting === null || waiting >= BACKLOG) continue;
    n++;
    if (await r.op("add", false, () => queue.add("deliver", { n }, { removeOnComplete: true }))) acked.push(n);
    if (n % 10 === 0 && (await r.op("add later", false, () => queue.add("deliver", { n: -n }, { delay: 500 })))) acked.push(-n);
  }
  await eventually(20, () => compare(acked, done())[0] === 0);
  r.check(worker.exitCode === null, "the worker has ended");
  worker.kill("SIGTERM");
  const ended = await eventually(8, () => worker.exitCode !== null);
  if (!ended) worker.kill("SIGKILL");
  const [lost, twice] = compare(acked, done());
  r.lost = lost;
  for (const message of numbers(errorFile)) r.failed("the worker", false, message);
  r.note = `${acked.length} jobs, ${twice} of them done twice` + (reconnects ? `; reconnected ${reconnects} times` : "");
  r.finish();
  await queue.close();
}

process.argv[2] === "worker" ? work() : produce();
