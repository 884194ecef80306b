// What KafkaJS does with a broker, part by part: node foreign.cjs BOOTSTRAP PREFIX, with KafkaJS in NODE_PATH.
//
// The parts of python/foreign.py, with the same names and findings. KafkaJS itself compresses with gzip only. One that logs
// in is a tenant here too.
"use strict";

const assert = require("node:assert");
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require("kafkajs");

const DEADLINE_MS = 30_000;
const DAY_MS = 86_400_000;
const [bootstrap, prefix] = process.argv.slice(2);
// It retries five times by default, a transaction's coordinator too.
const login = JSON.parse(process.env.KAFKA_LOGIN || "null");
const client = (secret) => {
  const sasl = login && { mechanism: login.mechanism.toLowerCase(), username: login.user, password: login[secret] };
  const retry = { retries: 2, initialRetryTime: 100 };
  return new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry, ...(sasl && { sasl }) });
};
const [kafka, writing] = [client("subscribe"), client("publish")];
const admin = kafka.admin();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, condition) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    assert(Date.now() < deadline, `waited in vain until ${what}`);
    await sleep(20);
  }
}

/** Kafka's word for why, or KafkaJS's where it keeps Kafka's to itself; else "none". */
async function refusal(ask) {
  try {
    await ask();
    return "none";
  } catch (error) {
    for (let at = error; at; at = at.cause || (at.errors && at.errors[0])) {
      if (at.type) return at.type;
    }
    if (error.name === "KafkaJSGroupCoordinatorNotFound") return error.name;
    throw error;
  }
}

function create(topic, partitions, configs = {}) {
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }));
  const made = { topic, numPartitions: partitions, replicationFactor: 1, configEntries };
  return admin.createTopics({ topics: [made], waitForLeaders: true });
}

async function topic(name, partitions = 1, configs = {}) {
  const full = `${prefix}-${name}`;
  if (login) return `${full}.v1`;
  await create(full, partitions, configs);
  return full;
}

async function produce(topic, messages, { compression = CompressionTypes.None, ...options } = {}) {
  const producer = writing.producer(options);
  await producer.connect();
  const sent = await producer.send({ topic, messages, compression });
  await producer.disconnect();
  return sent;
}

/** A member of a group that commits what it got at once. */
class Member {
  constructor(group, topics) {
    this.records = [];
    this.assigned = [];
    this.consumer = kafka.consumer({ groupId: group, heartbeatInterval: 300, maxWaitTimeInMs: 100, metadataMaxAge: 500 });
    this.consumer.on("consumer.group_join", ({ payload }) => {
      this.assigned = Object.values(payload.memberAssignment).flat();
    });
    this.ready = this.#join(topics);
  }

  async #join(topics) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics, fromBeginning: true });
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ topic, partition, message }) => {
        const offset = (BigInt(message.offset) + 1n).toString();
        await this.consumer.commitOffsets([{ topic, partition, offset }]);
        this.records.push({ partition, ...message });
      },
    });
  }

  async leave() {
    await this.consumer.disconnect();
    return this.records;
  }
}

async function read(count, group, topics) {
  const member = new Member(`${prefix}-${group}`, topics);
  await member.ready;
  await until(`${count} records came`, () => member.records.length >= count);
  return member.leave();
}

const text = (record) => record.value.toString();
const numbered = (count, more) => Array.from({ length: count }, (_, n) => more(n));

const parts = {
  async topics() {
    const made = await topic("topics", 3);
    const listed = await admin.listTopics();
    assert(listed.includes(made), "it is not listed");
    assert.equal((await admin.fetchTopicMetadata({ topics: [made] })).topics[0].partitions.length, 3);
    if (login) return { listed: listed.length };
    // It says no more than that there was nothing to make.
    return { again: (await create(made, 3)) ? "none" : "TOPIC_ALREADY_EXISTS" };
  },

  async records() {
    const found = [];
    for (const [codec, compression] of [["none", CompressionTypes.None], ["gzip", CompressionTypes.GZIP]]) {
      const made = await topic(`records-${codec}`);
      const at = Date.now() - DAY_MS;
      const sent = numbered(10, (n) => ({
        partition: 0, timestamp: `${at + n}`, key: `k${n}`, value: `value ${n} `.repeat(20),
        headers: { tag: ["a", "b"], empty: "" },
      }));
      sent.push({ partition: 0, timestamp: `${at + 10}`, key: "tombstone", value: null });
      sent.push({ partition: 0, timestamp: `${at + 11}`, key: null, value: "no key" });
      await produce(made, sent, { compression });
      const came = await read(12, `records-${codec}`, [made]);
      const plain = (value) => (value === null || value === undefined ? null : value.toString());
      const header = (value) => (Array.isArray(value) ? value.map(plain) : plain(value));
      const essence = ({ timestamp, key, value, headers = {} }) => [
        timestamp, plain(key), plain(value), Object.entries(headers).map(([name, value]) => [name, header(value)])];
      assert.deepEqual(came.map(essence), sent.map(essence));
      found.push(codec);
    }
    return found;
  },

  async idempotent() {
    const made = await topic("idempotent");
    const sent = numbered(200, (n) => ({ partition: 0, key: "k", value: `${n}` }));
    await produce(made, sent, { idempotent: true, maxInFlightRequests: 1 });
    const came = await read(200, "idempotent", [made]);
    assert.deepEqual(came.map(text), sent.map((message) => message.value));
    return came.length;
  },

  async group() {
    const [made, group] = [await topic("group", 4), `${prefix}-group`];
    const one = new Member(group, [made]);
    await until("one has all", () => one.assigned.length === 4);
    const two = new Member(group, [made]);
    await until("both have two", () => one.assigned.length === 2 && two.assigned.length === 2);
    assert.deepEqual([...one.assigned, ...two.assigned].sort(), [0, 1, 2, 3]);
    const first = numbered(40, (n) => ({ partition: n % 4, value: `first ${n}` }));
    await produce(made, first);
    await until("both got theirs", () => one.records.length === 20 && two.records.length === 20);
    const described = (await admin.describeGroups([group])).groups[0];
    const listed = (await admin.listGroups()).groups.some((entry) => entry.groupId === group);
    let came = await one.leave();
    await until("the other has all", () => two.assigned.length === 4);
    came = came.concat(await two.leave());
    assert.deepEqual(came.map(text).sort(), first.map((message) => message.value).sort());
    await produce(made, numbered(4, (n) => ({ partition: n, value: `second ${n}` })));
    const resumed = (await read(4, "group", [made])).map(text).sort();
    await until("the group is empty", async () => (await admin.describeGroups([group])).groups[0].state === "Empty");
    return { state: [described.state, described.members.length], listed, resumed };
  },

  // It looks for matching topics when it subscribes, and not again.
  async pattern() {
    for (const [name, value] of [["pattern-1", "one"], ["pattern-2", "two"], ["no-pattern", "other"]]) {
      await produce(await topic(name), [{ value }]);
    }
    return (await read(2, "pattern", [new RegExp(`^${prefix}-pattern-.*`)])).map(text).sort();
  },

  async times() {
    const [made, at] = [await topic("times"), Date.now() - DAY_MS];
    await produce(made, numbered(5, (n) => ({ partition: 0, value: "x", timestamp: `${at + 10 * n}` })));
    const found = {};
    for (const [name, time] of Object.entries({ before: at - 1, at: at + 20, between: at + 21, behind: at + 41 })) {
      // Behind the last one it answers with the end.
      const offset = Number((await admin.fetchTopicOffsetsByTimestamp(made, time))[0].offset);
      found[name] = offset === 5 ? null : offset;
    }
    return found;
  },

  async configs() {
    const made = await topic("configs", 1, { "retention.ms": "7200000", "cleanup.policy": "compact" });
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: made }];
    const described = (await admin.describeConfigs({ resources, includeSynonyms: false })).resources[0].configEntries;
    const value = (name) => described.find((entry) => entry.configName === name).configValue;
    return Object.fromEntries(["retention.ms", "cleanup.policy", "max.message.bytes"].map((name) => [name, value(name)]));
  },

  async old_timestamps() {
    const made = await topic("old");
    await produce(made, numbered(20, (n) => ({ partition: 0, key: "k", value: `${n}`, timestamp: "1882133856" })));
    await sleep(1000);
    const times = (await read(20, "old", [made])).map((record) => Number(record.timestamp));
    return [times.length, Math.min(...times), Math.max(...times)];
  },

  async keyless_in_a_compacted_topic() {
    const made = await topic("compacted", 1, { "cleanup.policy": "compact" });
    const sent = numbered(4, (n) => ({ partition: 0, key: n === 2 ? null : "k", value: `${n}` }));
    return refusal(() => produce(made, sent));
  },

  async transaction() {
    const made = await topic("transaction");
    const producer = writing.producer({ transactionalId: `${prefix}-id`, maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    const began = Date.now();
    const found = await refusal(async () => {
      const transaction = await producer.transaction();
      await transaction.send({ topic: made, messages: [{ value: "in a transaction" }] });
      await transaction.commit();
    });
    assert(Date.now() - began < 8000, "it was not refused at once");
    await producer.disconnect();
    return found;
  },
};

const notForTenants = ["configs", "keyless_in_a_compacted_topic"];

async function main() {
  await admin.connect();
  for (const [part, run] of Object.entries(parts)) {
    if (login && notForTenants.includes(part)) continue;
    const began = Date.now();
    try {
      const found = await run();
      console.log(JSON.stringify({ part, found, seconds: (Date.now() - began) / 1000 }));
    } catch (error) {
      console.error(`kafkajs: ${part} went wrong`);
      throw error;
    }
  }
  await admin.disconnect();
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
