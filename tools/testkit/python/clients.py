"""Two independent Kafka clients behind one command: clients.py '{"do": ..., "client": ...}'.

Records travel as JSON lines with bytes in hex; see src/record.rs. Only what the tests need, each a few lines, so that
a difference between the clients is a difference in the clients.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from logins import PUBLISH, SUBSCRIBE, of_librdkafka, of_python  # noqa: E402

DEADLINE_S = 45
TRIES = 4
DEADLINE_OF_A_TRY_S = 20


def to_hex(data):
    return None if data is None else data.hex()


def from_hex(text):
    return None if text is None else bytes.fromhex(text)


def emit(partition, offset, timestamp, key, value, headers):
    pairs = [[name, to_hex(data)] for name, data in (headers or [])]
    print(json.dumps({
        "partition": partition, "offset": offset, "timestamp": timestamp,
        "key": to_hex(key), "value": to_hex(value), "headers": pairs,
    }))


def given():
    for line in sys.stdin:
        record = json.loads(line)
        yield {
            "partition": record["partition"],
            "timestamp": record["timestamp"],
            "key": from_hex(record["key"]),
            "value": from_hex(record["value"]),
            "headers": [(name, from_hex(data)) for name, data in record["headers"]],
        }


class Confluent:
    def __init__(self, ask):
        import confluent_kafka
        import confluent_kafka.admin
        self.lib, self.ask = confluent_kafka, ask
        fixed = {"bootstrap.servers": ask["bootstrap"]}
        self.base = {**fixed, **of_librdkafka(SUBSCRIBE), **ask.get("config", {})}
        self.writing = {**fixed, **of_librdkafka(PUBLISH), **ask.get("config", {})}

    def consumer(self, group):
        return self.lib.Consumer({
            **self.base, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "enable.partition.eof": False, "fetch.wait.max.ms": 100,
        })

    def show(self, message):
        if message.error():
            raise SystemExit(str(message.error()))
        emit(message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(),
             message.headers())

    def partitions(self, client):
        topic = client.list_topics(self.ask["topic"], timeout=15).topics[self.ask["topic"]]
        if topic.error:
            raise SystemExit(str(topic.error))
        return topic.partitions

    def read(self):
        consumer = self.consumer("testkit-reader")
        for partition in sorted(self.partitions(consumer)):
            at = self.lib.TopicPartition(self.ask["topic"], partition)
            low, high = consumer.get_watermark_offsets(at, timeout=15)
            if low == high:
                continue
            at.offset = low
            consumer.assign([at])
            deadline = time.monotonic() + DEADLINE_S
            # The position, not the last record, says when the end is reached: markers take offsets too.
            while consumer.position([at])[0].offset < high:
                for message in consumer.consume(1000, timeout=0.2):
                    self.show(message)
                if time.monotonic() > deadline:
                    raise SystemExit(f"partition {partition}: not at {high} in time")
        consumer.close()

    def produce(self):
        producer = self.lib.Producer({**self.writing, "enable.idempotence": True, "linger.ms": 0})
        results = []

        def delivered(err, message):
            if err:
                raise SystemExit(str(err))
            results.append(message)

        for record in given():
            extra = {"timestamp": record["timestamp"]} if record["timestamp"] else {}
            producer.produce(self.ask["topic"], record["value"], record["key"], partition=record["partition"],
                             headers=record["headers"], on_delivery=delivered, **extra)
        if producer.flush(DEADLINE_S):
            raise SystemExit("not everything was delivered")
        for message in results:
            self.show(message)

    def consume(self):
        consumer = self.consumer(self.ask["group"])
        consumer.subscribe([self.ask["topic"]])
        left, deadline = self.ask["count"], time.monotonic() + DEADLINE_S
        while left and time.monotonic() < deadline:
            for message in consumer.consume(left, timeout=0.2):
                self.show(message)
                left -= 1
        if left:
            raise SystemExit(f"{left} of {self.ask['count']} records did not come")
        consumer.commit(asynchronous=False)
        consumer.close()

    def create(self):
        admin = self.lib.admin.AdminClient(self.base)
        topic = self.lib.admin.NewTopic(self.ask["topic"], self.ask["partitions"], self.ask["replicas"])
        admin.create_topics([topic], operation_timeout=15)[self.ask["topic"]].result(20)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            known = admin.list_topics(self.ask["topic"], timeout=15).topics[self.ask["topic"]].partitions
            if len(known) == self.ask["partitions"] and all(part.leader > 0 for part in known.values()):
                return
            time.sleep(0.05)
        raise SystemExit("no leaders in time")

    def delete(self):
        admin = self.lib.admin.AdminClient(self.base)
        admin.delete_topics([self.ask["topic"]], operation_timeout=15)[self.ask["topic"]].result(20)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            # All topics: asking for one by name may make it.
            if self.ask["topic"] not in admin.list_topics(timeout=15).topics:
                return
            time.sleep(0.05)
        raise SystemExit("not gone in time")

    def describe(self):
        admin = self.lib.admin.AdminClient(self.base)
        parts = [{"id": part.id, "leader": part.leader, "replicas": part.replicas, "isrs": part.isrs}
                 for part in self.partitions(admin).values()]
        resource = self.lib.admin.ConfigResource("topic", self.ask["topic"])
        configs = admin.describe_configs([resource])[resource].result(20)
        print(json.dumps({
            "partitions": sorted(parts, key=lambda part: part["id"]),
            "configs": {name: entry.value for name, entry in configs.items()},
        }))

    def committed(self):
        consumer = self.consumer(self.ask["group"])
        asked = [self.lib.TopicPartition(self.ask["topic"], part) for part in sorted(self.partitions(consumer))]
        found = consumer.committed(asked, timeout=15)
        print(json.dumps({str(at.partition): at.offset for at in found if at.offset >= 0}))


class KafkaPython:
    def __init__(self, ask):
        import kafka
        self.lib, self.ask = kafka, ask
        fixed = {"bootstrap_servers": ask["bootstrap"].split(",")}
        self.base, self.writing = {**fixed, **of_python(SUBSCRIBE)}, {**fixed, **of_python(PUBLISH)}

    def show(self, record):
        emit(record.partition, record.offset, record.timestamp, record.key, record.value, record.headers)

    def read(self):
        consumer = self.lib.KafkaConsumer(**self.base, group_id=None, auto_offset_reset="earliest",
                                          enable_auto_commit=False, fetch_max_wait_ms=100)
        parts = sorted(consumer.partitions_for_topic(self.ask["topic"]) or [])
        for part in parts:
            at = self.lib.TopicPartition(self.ask["topic"], part)
            consumer.assign([at])
            low, high = consumer.beginning_offsets([at])[at], consumer.end_offsets([at])[at]
            if low == high:
                continue
            consumer.seek(at, low)
            deadline = time.monotonic() + DEADLINE_S
            while consumer.position(at) < high:
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        self.show(record)
                if time.monotonic() > deadline:
                    raise SystemExit(f"partition {part}: not at {high} in time")
        consumer.close()

    def produce(self):
        producer = self.lib.KafkaProducer(**self.writing, acks="all", linger_ms=0)
        futures = []
        for record in given():
            part = record["partition"] if record["partition"] >= 0 else None
            futures.append((record, producer.send(
                self.ask["topic"], value=record["value"], key=record["key"], headers=record["headers"],
                partition=part, timestamp_ms=record["timestamp"] or None)))
        producer.flush(timeout=DEADLINE_S)
        for record, future in futures:
            sent = future.get(timeout=DEADLINE_S)
            emit(sent.partition, sent.offset, sent.timestamp, record["key"], record["value"], record["headers"])
        producer.close()

    def consume(self):
        # A member of 3.0.12 sometimes never gets a record, at Apache Kafka itself as elsewhere: the next one does.
        for _ in range(TRIES):
            consumer = self.lib.KafkaConsumer(self.ask["topic"], **self.base, group_id=self.ask["group"],
                                              auto_offset_reset="earliest", enable_auto_commit=False,
                                              fetch_max_wait_ms=100)
            left, began = self.ask["count"], time.monotonic()
            while left and time.monotonic() < began + DEADLINE_S:
                if left == self.ask["count"] and time.monotonic() > began + DEADLINE_OF_A_TRY_S:
                    break
                for records in consumer.poll(timeout_ms=200, max_records=left).values():
                    for record in records:
                        self.show(record)
                        left -= 1
            if left < self.ask["count"]:
                break
            consumer.close()
        if left:
            raise SystemExit(f"{left} of {self.ask['count']} records did not come")
        consumer.commit()
        consumer.close()


if __name__ == "__main__":
    question = json.loads(sys.argv[1])
    chosen = {"confluent": Confluent, "kafka-python": KafkaPython}[question["client"]]
    getattr(chosen(question), question["do"])()
