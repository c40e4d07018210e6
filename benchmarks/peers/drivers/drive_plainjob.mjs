// plainjob on better-sqlite3. Node runs one thread, so its four workers are four loops in one process, as `defineWorker` makes
// them, at the default polling of 1 s. Speaks as serve.py does; ENVIRONMENT names the folder where npm has installed it.
import { spawn } from "node:child_process";
import { readFileSync, existsSync, readdirSync, statSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

const home = join(process.env.ENVIRONMENT, "package.json");
const require = createRequire(home);
const Database = require("better-sqlite3");
const entry = join(process.env.ENVIRONMENT, "node_modules", "plainjob", "dist", "plainjob.js");
const { better, defineQueue, defineWorker } = await import(pathToFileURL(entry));
const quiet = { error: console.error, warn() {}, info() {}, debug() {} };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const uneven = (low, high) => low + Math.random() * (high - low);

class Cannot extends Error {}

class Peer {
  constructor(place, durability) {
    Object.assign(this, { place, durability });
    this.database = new Database(place, { timeout: 60000 });
    this.queue = defineQueue({ connection: better(this.database), logger: quiet });
    this.database.pragma(`synchronous = ${durability}`); // plainjob itself sets NORMAL
    this.database.pragma("busy_timeout = 60000");
  }
  level() {
    const synchronous = ["OFF", "NORMAL", "FULL", "EXTRA"][this.database.pragma("synchronous", { simple: true })];
    return { journal: this.database.pragma("journal_mode", { simple: true }), synchronous };
  }
  put(value, options) {
    this.queue.add("job", value, options);
  }
  start(workers, task) {
    this.workers = Array.from({ length: workers }, () =>
      defineWorker("job", async (job) => task(JSON.parse(job.data)), { queue: this.queue, logger: quiet })
    );
    this.loops = this.workers.map((worker) => worker.start());
  }
  async stop() {
    for (const worker of this.workers) void worker.stop();
    await Promise.all(this.loops);
  }
  clone(changes, count) {
    const columns = ["type", "data", "status", "failed_at", "error", "next_run_at", "created_at"];
    const values = columns.map((name) => changes[name] ?? name).join(", ");
    this.database.exec(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
       INSERT INTO plainjob_jobs (${columns}) SELECT ${values} FROM plainjob_jobs, n WHERE plainjob_jobs.id = 1`
    );
    this.database.pragma("wal_checkpoint(TRUNCATE)");
  }
}

async function drained(peer, jobs, workers, limitS) {
  let seen = 0;
  let reached;
  const complete = new Promise((resolve) => (reached = resolve));
  const timer = setTimeout(reached, limitS * 1000);
  const began = now();
  peer.start(workers, () => {
    seen += 1;
    if (seen === jobs) reached();
  });
  await complete;
  while (seen === jobs && peer.queue.countJobs({ type: "job", status: 1 })) await sleep(0);
  const rate = seen / ((now() - began) / 1000);
  clearTimeout(timer);
  const done = seen / jobs;
  await peer.stop();
  if (done === 1 && seen !== jobs) throw new Error(`${jobs} jobs were enqueued, and ${seen} ran`);
  return { rate, done };
}

async function drainedAgain(peer, jobs, workers, limitS) {
  const found = [];
  const deadline = now() + limitS * 1000;
  while (found.length < 3 && (found.length === 0 || now() < deadline)) {
    fill(peer, jobs);
    found.push(await drained(peer, jobs, workers, limitS));
    if (found.at(-1).done < 1) break; // what is left over would count for the next
  }
  const rates = found.map(({ rate }) => rate).sort((one, other) => one - other);
  const [low, high] = [rates[(rates.length - 1) >> 1], rates[rates.length >> 1]];
  return { rate: (low + high) / 2, done: Math.min(...found.map(({ done }) => done)) };
}

function fill(peer, jobs) {
  peer.queue.addMany("job", Array.from({ length: jobs }, (_, number) => number));
}

async function oneByOne(put, arrived, count, limitS) {
  const samples = [];
  const deadline = now() + limitS * 1000;
  while (samples.length < count && (samples.length === 0 || now() < deadline)) {
    await sleep(uneven(5, 15));
    put();
    samples.push(await arrived());
  }
  return samples;
}

function arrivals() {
  const waiting = [];
  return {
    task: (sentAt) => waiting.shift()(now() - sentAt),
    next: () => new Promise((resolve) => waiting.push(resolve)),
  };
}

function files(place) {
  return JSON.stringify(readdirSync(dirname(place)).sort().map((name) => {
    const { size, mtimeMs } = statSync(join(dirname(place), name));
    return [name, size, mtimeMs];
  }));
}

function written() {
  return existsSync("/proc/self/io") ? Number(/write_bytes: (\d+)/.exec(readFileSync("/proc/self/io", "utf8"))[1]) : 0;
}

const scenarios = {
  async drain(peer, { jobs, workers, limit_s }) {
    fill(peer, jobs);
    return drained(peer, jobs, workers, limit_s);
  },
  async beside(peer, { kind, rows, jobs, workers, limit_s }) {
    fill(peer, 20);
    await drained(peer, 20, workers, limit_s); // so that both find everything warm
    const empty = await drainedAgain(peer, jobs, workers, limit_s);
    const later = Date.UTC(2099, 0, 1);
    peer.clone(kind === "future" ? { status: 0, next_run_at: `${later} + i` } : { status: 2, next_run_at: "next_run_at - i" }, rows);
    const full = await drainedAgain(peer, jobs, workers, limit_s);
    return { empty: empty.rate, rate: full.rate, factor: empty.rate / full.rate, done: Math.min(empty.done, full.done) };
  },
  async singles(peer, { jobs }) {
    peer.put(0);
    const began = now();
    for (let number = 0; number < jobs; number += 1) peer.put(number);
    return { rate: jobs / ((now() - began) / 1000) };
  },
  async threads() {
    throw new Cannot("Node has one thread");
  },
  async bulk(peer, { jobs, batch }) {
    peer.put(0);
    const numbers = Array.from({ length: jobs }, (_, number) => number);
    const began = now();
    for (let first = 0; first < jobs; first += batch) peer.queue.addMany("job", numbers.slice(first, first + batch));
    return { rate: jobs / ((now() - began) / 1000) };
  },
  async same_process(peer, { samples, workers, limit_s }) {
    const { task, next } = arrivals();
    peer.start(workers, task);
    await oneByOne(() => peer.put(now()), next, 1, limit_s);
    return { samples: await oneByOne(() => peer.put(now()), next, samples, limit_s) };
  },
  async other_process(peer, { samples, workers, limit_s }) {
    const { task, next } = arrivals();
    peer.start(workers, task);
    const script = fileURLToPath(import.meta.url);
    const producer = spawn(process.execPath, [script, "produce", peer.place, peer.durability], { stdio: ["pipe", "inherit", "inherit"] });
    const say = () => producer.stdin.write("now\n");
    await oneByOne(say, next, 1, limit_s);
    const found = await oneByOne(say, next, samples, limit_s);
    producer.stdin.end();
    return { samples: found };
  },
  async delayed(peer, { samples, workers, limit_s }) {
    const found = [];
    peer.start(workers, (dueAt) => found.push(performance.timeOrigin + performance.now() - dueAt));
    for (let number = 0; number < samples; number += 1) {
      const delay = Math.round(uneven(500, 500 + samples * 20));
      peer.put(Date.now() + delay, { delay });
    }
    const deadline = now() + 500 + samples * 20 + limit_s * 1000;
    while (found.length < samples && now() < deadline) await sleep(20);
    return { samples: found };
  },
  async idle(peer, { seconds, workers }) {
    peer.start(workers, () => undefined);
    peer.put(0);
    await sleep(2500);
    const [cpu, wrote, before, began] = [process.cpuUsage(), written(), files(peer.place), now()];
    await sleep(seconds * 1000);
    const used = process.cpuUsage(cpu);
    const took = (now() - began) / 1000;
    let bytes = written() - wrote;
    if (bytes === 0 && files(peer.place) !== before) bytes = JSON.parse(files(peer.place)).reduce((sum, [, size]) => sum + size, 0);
    const cpuS = (used.user + used.system) / 1e6;
    return { cpu_s_a_minute: (cpuS * 60) / took, rss_mb: process.memoryUsage.rss() / 1048576, bytes_a_minute: (bytes * 60) / took };
  },
};

async function answer({ scenario, place, durability, parameters }) {
  try {
    const peer = new Peer(place, durability);
    const { samples = [], ...figures } = await scenarios[scenario](peer, parameters);
    return { figures, samples, level: peer.level(), note: "written in JavaScript, run by Node; no priority, no retries" };
  } catch (error) {
    if (error instanceof Cannot) return { cannot: error.message };
    console.error(error);
    return { failed: String(error) };
  }
}

const lines = createInterface({ input: process.stdin });
if (process.argv[2] === "produce") {
  const peer = new Peer(process.argv[3], process.argv[4]);
  lines.on("line", () => peer.put(now()));
  lines.on("close", () => process.exit(0));
} else {
  lines.once("line", async (line) => {
    writeSync(1, JSON.stringify(await answer(JSON.parse(line))) + "\n");
    process.exit(0);
  });
}
