"""What a Kafka client of Python's does with a broker, part by part: foreign.py CLIENT BOOTSTRAP PREFIX

Every part checks what must be true of any broker and prints one JSON line, {"part": …, "found": …}; what two brokers
may answer differently, and what the test wants to see for itself, is in `found`. All names begin with PREFIX.

A client that logs in (logins.py) is a tenant: it does what tenants can do, with topics that are there.
"""

import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from adapters import CLIENTS, Record, Refused  # noqa: E402
from logins import LOGIN  # noqa: E402

DEADLINE_S = 30
DAY_MS = 86_400_000


# What counts is what a client finds when it gets to it; these do not always, at Apache Kafka itself as elsewhere.
TRIES = {
    # One in three consumers that subscribe to a pattern never gets a record of a topic that is made later (3.0.12).
    ("kafka-python", "pattern"): 6,
    # A member of a group sometimes never gets a record (3.0.12).
    ("kafka-python", "group"): 3,
    # A flush may begin while records move to their partition one by one: then they are two batches.
    ("confluent", "keyless_in_a_compacted_topic"): 6,
    ("confluent-2.3", "keyless_in_a_compacted_topic"): 6,
}
DEADLINE_OF_A_TRY_S = 12


class InVain(AssertionError):
    pass


def until(what, condition, within_s=DEADLINE_S):
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise InVain(f"waited in vain until {what}")
        time.sleep(0.02)


class Member(threading.Thread):
    """A member of a group in a thread of its own: some clients join only while they poll."""

    def __init__(self, client, group, **what):
        super().__init__(daemon=True)
        self.client, self.group, self.what = client, group, what
        self.records, self.assigned, self.leaving, self.failure = [], 0, threading.Event(), None
        self.start()

    def run(self):
        try:
            consumer = self.client.consumer(self.group, **self.what)
            while not self.leaving.is_set():
                came = self.client.poll(consumer)
                if came:
                    # At once: whoever gets the partition next goes on from here.
                    self.client.commit(consumer)
                    self.records += came
                self.assigned = self.client.assigned(consumer)
            self.client.close(consumer)
        except Exception as err:
            self.failure = err

    def leave(self):
        self.leaving.set()
        self.join(DEADLINE_S)
        assert not self.is_alive(), "a member did not leave"
        if self.failure:
            raise self.failure
        return self.records


class Foreign:
    def __init__(self, client, prefix):
        self.client, self.prefix = client, prefix

    def topic(self, name, partitions=1, **configs):
        topic = f"{self.prefix}-{name}"
        if LOGIN:
            topic += ".v1"
            until(f"{topic} is there", lambda: self.client.partitions(topic) == partitions)
            return topic
        self.client.create(topic, partitions, {name.replace("_", "."): value for name, value in configs.items()})
        until(f"{topic} has its partitions", lambda: self.client.partitions(topic) == partitions)
        return topic

    def refusal(self, ask):
        try:
            ask()
        except Refused as refused:
            return str(refused)
        return "none"

    def read(self, count, group, **what):
        member = Member(self.client, f"{self.prefix}-{group}", **what)
        until(f"{count} records came", lambda: len(member.records) >= count or member.failure)
        return member.leave()

    def topics(self):
        topic = self.topic("topics", 3)
        listed = self.client.topics()
        assert topic in listed, f"{topic} is not in {listed}"
        if LOGIN:
            return {"listed": len(listed)}
        return {"again": self.refusal(lambda: self.client.create(topic, 3, {}))}

    def records(self):
        """Key, value, headers in their order and the given time come back, whatever the compression."""
        found = []
        for codec in self.client.codecs:
            topic = self.topic(f"records-{codec}")
            headers = [("tag", b"a"), ("tag", b"b"), ("empty", b"")]
            at = int(time.time() * 1000) - DAY_MS
            sent = [Record(0, n, at + n, b"k%d" % n, b"value %d " % n * 20, headers) for n in range(10)]
            sent += [Record(0, 10, at + 10, b"tombstone", None, []), Record(0, 11, at + 11, None, b"no key", [])]
            assert self.client.produce(topic, sent, codec) == list(range(12)), codec
            came = self.read(12, f"records-{codec}", topics=[topic])
            assert came == sent, f"{codec}: {came} instead of {sent}"
            found.append(codec)
        return found

    def idempotent(self):
        topic = self.topic("idempotent")
        sent = [Record(0, n, 0, b"k", b"%d" % n, []) for n in range(200)]
        assert self.client.produce(topic, sent, idempotent=True) == list(range(200))
        came = self.read(200, "idempotent", topics=[topic])
        assert [record.value for record in came] == [record.value for record in sent], came
        return len(came)

    def group(self):
        """Two members share four partitions; when one goes the other has all; whoever comes later goes on."""
        topic, group = self.topic("group", 4), f"{self.prefix}-group"
        one = Member(self.client, group, topics=[topic])
        until("one has all", lambda: one.assigned == 4 or one.failure)
        two = Member(self.client, group, topics=[topic])
        until("both have two", lambda: (one.assigned, two.assigned) == (2, 2) or one.failure or two.failure)
        first = [Record(n % 4, n, 0, None, b"first %d" % n, []) for n in range(40)]
        self.client.produce(topic, first)
        until("both got theirs", lambda: (len(one.records), len(two.records)) == (20, 20) or one.failure or two.failure)
        state = self.client.group(group)
        listed = group in self.client.groups()
        shares = [sorted({record.partition for record in member.records}) for member in (one, two)]
        assert sorted(sum(shares, [])) == [0, 1, 2, 3], f"partitions are shared {shares}"
        came = one.leave()
        until("the other has all", lambda: two.assigned == 4 or two.failure)
        came += two.leave()
        assert sorted(r.value for r in came) == sorted(r.value for r in first), came
        self.client.produce(topic, [Record(n, n, 0, None, b"second %d" % n, []) for n in range(4)])
        resumed = sorted(record.value.decode() for record in self.read(4, "group", topics=[topic]))
        until("the group is empty", lambda: self.client.group(group)[0] == "Empty")
        return {"state": state, "listed": listed, "resumed": resumed}

    def pattern(self):
        """A topic that is made later, and one that does not match."""
        self.client.produce(self.topic("pattern-1"), [Record(0, 0, 0, None, b"one", [])])
        self.client.produce(self.topic("no-pattern"), [Record(0, 0, 0, None, b"other", [])])
        member = Member(self.client, f"{self.prefix}-pattern", pattern=f"^{self.prefix}-pattern-.*")
        until("the first came", lambda: len(member.records) == 1 or member.failure)
        self.client.produce(self.topic("pattern-2"), [Record(0, 0, 0, None, b"two", [])])
        until("the second came", lambda: len(member.records) == 2 or member.failure, DEADLINE_OF_A_TRY_S)
        return sorted(record.value.decode() for record in member.leave())

    def times(self):
        topic, at = self.topic("times"), int(time.time() * 1000) - DAY_MS
        self.client.produce(topic, [Record(0, n, at + 10 * n, None, b"x", []) for n in range(5)])
        asked = {"before": at - 1, "at": at + 20, "between": at + 21, "behind": at + 41}
        return {name: self.client.offset_at(topic, timestamp) for name, timestamp in asked.items()}

    def configs(self):
        configs = self.client.configs(self.topic("configs", retention_ms="7200000", cleanup_policy="compact"))
        return {name: configs[name] for name in ["retention.ms", "cleanup.policy", "max.message.bytes"]}

    def allowed(self):
        """What the client may do with a topic, a group and the cluster, where it can ask."""
        topic, group = self.topic("allowed"), f"{self.prefix}-allowed"
        self.client.produce(topic, [Record(0, 0, 0, None, b"x", [])])
        self.read(1, "allowed", topics=[topic])
        return self.client.allowed(topic, group)

    def old_timestamps(self):
        """Records of 1970 are neither lost nor given another time."""
        topic = self.topic("old")
        self.client.produce(topic, [Record(0, n, 1_882_133_856, b"k", b"%d" % n, []) for n in range(20)])
        time.sleep(1)
        came = self.read(20, "old", topics=[topic])
        return [len(came), min(r.timestamp for r in came), max(r.timestamp for r in came)]

    def keyless_in_a_compacted_topic(self):
        topic = self.topic("compacted", cleanup_policy="compact")
        sent = [Record(0, n, 0, None if n == 2 else b"k", b"%d" % n, []) for n in range(4)]
        outcomes = self.client.produce(topic, sent)
        assert isinstance(outcomes[2], Refused), f"the record without a key was taken: {outcomes}"
        if not all(isinstance(one, Refused) for one in outcomes):
            raise InVain(f"not one batch, which would go with its record: {outcomes}")
        # Some clients have no word for it.
        return str(outcomes[2])

    def transaction(self):
        topic = self.topic("transaction")
        began = time.monotonic()
        refusal = self.refusal(lambda: self.client.transaction(f"{self.prefix}-id", topic))
        # Refused for good: a client that thinks that waiting helps would try until its time is over.
        assert time.monotonic() - began < 8, "it was not refused at once"
        return refusal

    def parts(self):
        if LOGIN:
            parts = [self.topics, self.records, self.idempotent, self.group, self.pattern, self.times,
                     self.old_timestamps]
            return parts + [self.transaction] * self.client.transactional
        parts = [self.topics, self.records, self.idempotent, self.group, self.pattern, self.times, self.configs,
                 self.old_timestamps, self.keyless_in_a_compacted_topic]
        if hasattr(self.client, "allowed"):
            parts.append(self.allowed)
        return parts + [self.transaction] * self.client.transactional


def main():
    name, bootstrap, prefix = sys.argv[1:]
    foreign = Foreign(CLIENTS[name](bootstrap), prefix)
    for part in foreign.parts():
        began = time.monotonic()
        # A tenant has no further topics to try again with.
        tries = 1 if LOGIN else TRIES.get((name, part.__name__), 1)
        try:
            for number in range(1, tries + 1):
                try:
                    found = part()
                    break
                except InVain as err:
                    if number == tries:
                        raise
                    print(f"{name}: {part.__name__}: {err}: once more", file=sys.stderr)
                    foreign.prefix = f"{prefix}-{number}"
            foreign.prefix = prefix
        except BaseException:
            print(f"{name}: {part.__name__} went wrong", file=sys.stderr)
            raise
        print(json.dumps({"part": part.__name__, "found": found, "seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
    # A client's threads that linger do not matter any more.
    sys.stdout.flush()
    os._exit(0)
