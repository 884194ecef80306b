"""Python's Kafka clients behind one face, each a few lines, so that a difference between them is theirs.

A record is the tuple (partition, offset, timestamp, key, value, headers). What is refused is the name of Kafka's error.
"""

import asyncio
import re
import sys
import threading
from collections import namedtuple

from logins import PUBLISH, SUBSCRIBE, of_librdkafka, of_python

Record = namedtuple("Record", "partition offset timestamp key value headers")
ANSWERED_S = 20


class Refused(Exception):
    """Kafka's word for why, as `INVALID_RECORD`."""


def screaming(name):
    """`TopicAlreadyExistsError` is TOPIC_ALREADY_EXISTS."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", re.sub("(Error|Exception)$", "", name)).upper()


class Confluent:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    transactional = True

    def __init__(self, bootstrap):
        import confluent_kafka
        import confluent_kafka.admin
        self.lib = confluent_kafka
        self.base = {"bootstrap.servers": bootstrap, **of_librdkafka(SUBSCRIBE)}
        self.writing = {**self.base, **of_librdkafka(PUBLISH)}
        self.admin = confluent_kafka.admin.AdminClient(self.base)

    def refusal(self, err):
        error = err.args[0] if isinstance(err, self.lib.KafkaException) else err
        return Refused(error.name().removeprefix("_"))

    def asked(self, future):
        try:
            return future.result(ANSWERED_S)
        except self.lib.KafkaException as err:
            raise self.refusal(err) from err

    def create(self, topic, partitions, configs):
        new = self.lib.admin.NewTopic(topic, partitions, 1, config=configs)
        self.asked(self.admin.create_topics([new])[topic])

    def partitions(self, topic):
        return len(self.admin.list_topics(topic, timeout=ANSWERED_S).topics[topic].partitions)

    def topics(self):
        # Without a name: asks for all of them, with bytes behind the request's end.
        return list(self.admin.list_topics(timeout=ANSWERED_S).topics)

    def produce(self, topic, records, codec="none", idempotent=False):
        ended = []
        producer = self.lib.Producer({
            **self.writing, "compression.type": codec, "enable.idempotence": idempotent, "linger.ms": 50})
        for index, record in enumerate(records):
            def delivered(err, message, index=index):
                ended.append((index, self.refusal(err) if err else message.offset()))
            producer.produce(topic, record.value, record.key, partition=record.partition, timestamp=record.timestamp,
                             headers=record.headers, on_delivery=delivered)
        assert producer.flush(ANSWERED_S) == 0, "not everything was answered"
        return [outcome for _, outcome in sorted(ended, key=lambda pair: pair[0])]

    def consumer(self, group, topics=None, pattern=None):
        consumer = self.lib.Consumer({
            **self.base, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "fetch.wait.max.ms": 100, "topic.metadata.refresh.interval.ms": 500, "heartbeat.interval.ms": 300})
        consumer.subscribe([pattern] if pattern else topics)
        return consumer

    def poll(self, consumer):
        return [Record(m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or [])
                for m in consumer.consume(500, timeout=0.2) if not m.error()]

    def assigned(self, consumer):
        return len(consumer.assignment())

    def commit(self, consumer):
        consumer.commit(asynchronous=False)

    def close(self, consumer):
        consumer.close()

    def offset_at(self, topic, timestamp):
        consumer = self.lib.Consumer({**self.base, "group.id": "times"})
        found = consumer.offsets_for_times([self.lib.TopicPartition(topic, 0, timestamp)], timeout=ANSWERED_S)[0].offset
        consumer.close()
        return found if found >= 0 else None

    def configs(self, topic):
        resource = self.lib.admin.ConfigResource("topic", topic)
        return {name: entry.value for name, entry in self.asked(self.admin.describe_configs([resource])[resource]).items()}

    def group(self, group):
        described = self.asked(self.admin.describe_consumer_groups([group])[group])
        return described.state.name.capitalize(), len(described.members)

    def groups(self):
        return [entry.group_id for entry in self.asked(self.admin.list_consumer_groups()).valid]

    def allowed(self, topic, group):
        topics = self.lib.TopicCollection([topic])
        asked = {"include_authorized_operations": True}
        described = {
            "topic": self.asked(self.admin.describe_topics(topics, **asked)[topic]),
            "group": self.asked(self.admin.describe_consumer_groups([group], **asked)[group]),
            "cluster": self.asked(self.admin.describe_cluster(**asked)),
        }
        return {what: sorted(operation.name for operation in of.authorized_operations or [])
                for what, of in described.items()}

    def transaction(self, transactional_id, topic):
        producer = self.lib.Producer({**self.writing, "transactional.id": transactional_id})
        try:
            producer.init_transactions(ANSWERED_S)
            producer.begin_transaction()
            producer.produce(topic, b"in a transaction")
            producer.commit_transaction(ANSWERED_S)
        except self.lib.KafkaException as err:
            raise self.refusal(err) from err


class KafkaPython:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]

    def __init__(self, bootstrap):
        import six
        # The copy of six in kafka-python 2.0 cannot be imported from Python 3.12 on.
        sys.modules.setdefault("kafka.vendor.six", six)
        sys.modules.setdefault("kafka.vendor.six.moves", six.moves)
        self.setup(bootstrap)

    def setup(self, bootstrap):
        import kafka
        import kafka.admin
        import kafka.errors
        self.lib = kafka
        self.base = {"bootstrap_servers": bootstrap, **of_python(SUBSCRIBE)}
        self.writing = {**self.base, **of_python(PUBLISH)}
        self.admin = kafka.admin.KafkaAdminClient(**self.base)
        self.transactional = int(kafka.__version__.split(".")[0]) >= 3
        self.idempotence = {"enable_idempotence": True} if self.transactional else {}
        # Without it 3.0 asks nobody whether the producer may repeat itself.
        self.plain = {"enable_idempotence": False} if self.transactional else {}

    def refusal(self, err):
        return Refused(getattr(err, "message", None) or screaming(type(err).__name__))

    def create(self, topic, partitions, configs):
        new = self.lib.admin.NewTopic(topic, partitions, 1, topic_configs=configs)
        try:
            self.admin.create_topics([new])
        except self.lib.errors.KafkaError as err:
            raise self.refusal(err) from err

    def partitions(self, topic):
        consumer = self.lib.KafkaConsumer(**self.base)
        found = consumer.partitions_for_topic(topic) or []
        consumer.close()
        return len(found)

    def topics(self):
        consumer = self.lib.KafkaConsumer(**self.base)
        found = consumer.topics()
        consumer.close()
        return list(found)

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = self.lib.KafkaProducer(
            **self.writing, **(self.idempotence if idempotent else self.plain), acks="all", linger_ms=50,
            compression_type=None if codec == "none" else codec)
        futures = [producer.send(topic, value=r.value, key=r.key, headers=r.headers, partition=r.partition,
                                 timestamp_ms=r.timestamp or None) for r in records]
        producer.flush(timeout=ANSWERED_S)
        outcomes = []
        for future in futures:
            try:
                outcomes.append(future.get(timeout=ANSWERED_S).offset)
            except self.lib.errors.KafkaError as err:
                outcomes.append(self.refusal(err))
        producer.close()
        return outcomes

    def consumer(self, group, topics=None, pattern=None):
        consumer = self.lib.KafkaConsumer(
            **self.base, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100,
            metadata_max_age_ms=500, heartbeat_interval_ms=300)
        consumer.subscribe(topics=topics or (), pattern=pattern)
        return consumer

    def poll(self, consumer):
        polled = consumer.poll(timeout_ms=200).values()
        return [Record(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers))
                for records in polled for r in records]

    def assigned(self, consumer):
        return len(consumer.assignment())

    def commit(self, consumer):
        consumer.commit()

    def close(self, consumer):
        consumer.close()

    def offset_at(self, topic, timestamp):
        consumer, at = self.lib.KafkaConsumer(**self.base), self.lib.TopicPartition(topic, 0)
        found = consumer.offsets_for_times({at: timestamp})[at]
        consumer.close()
        return found.offset if found and found.offset >= 0 else None

    def configs(self, topic):
        resource = self.lib.admin.ConfigResource(self.lib.admin.ConfigResourceType.TOPIC, topic)
        if self.transactional:
            described = self.admin.describe_configs([resource], config_filter="all")["topic"][topic]
            return {name: entry["value"] for name, entry in described.items()}
        answers = self.admin.describe_configs([resource])
        return {entry[0]: entry[1] for entry in answers[0].resources[0][4]}

    def group(self, group):
        if self.transactional:
            described = self.admin.describe_groups([group])[group]
            return described["group_state"], len(described["members"])
        described = self.admin.describe_consumer_groups([group])[0]
        return described.state, len(described.members)

    def groups(self):
        if self.transactional:
            return [entry["group_id"] for entry in self.admin.list_groups()]
        return [name for name, _ in self.admin.list_consumer_groups()]

    def transaction(self, transactional_id, topic):
        producer = self.lib.KafkaProducer(**self.writing, transactional_id=transactional_id)
        try:
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(topic, value=b"in a transaction")
            producer.commit_transaction()
        except self.lib.errors.KafkaError as err:
            raise self.refusal(err) from err
        finally:
            producer.close(timeout=1)


class NewKafkaPython(KafkaPython):
    def __init__(self, bootstrap):
        self.setup(bootstrap)


class Aiokafka:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    transactional = True

    def __init__(self, bootstrap):
        import aiokafka
        import aiokafka.admin
        import aiokafka.errors
        self.lib = aiokafka
        self.base = {"bootstrap_servers": bootstrap, **of_python(SUBSCRIBE)}
        self.writing = {**self.base, **of_python(PUBLISH)}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.admin = self.wait(self.started(lambda: aiokafka.admin.AIOKafkaAdminClient(**self.base)))

    def wait(self, coroutine, within=ANSWERED_S):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within)

    async def started(self, make):
        made = make()
        await made.start()
        return made

    def refusal(self, err):
        return Refused(getattr(err, "message", None) or screaming(type(err).__name__))

    def create(self, topic, partitions, configs):
        new = self.lib.admin.NewTopic(topic, partitions, 1, topic_configs=configs)
        answer = self.wait(self.admin.create_topics([new]))
        error = self.lib.errors.for_code(answer.topic_errors[0][1])
        if error is not self.lib.errors.NoError:
            raise self.refusal(error())

    def partitions(self, topic):
        return len(self.wait(self.admin.describe_topics([topic]))[0]["partitions"])

    def topics(self):
        return self.wait(self.admin.list_topics())

    def produce(self, topic, records, codec="none", idempotent=False):
        return self.wait(self.produced(topic, records, codec, idempotent))

    async def produced(self, topic, records, codec, idempotent):
        producer = await self.started(lambda: self.lib.AIOKafkaProducer(
            **self.writing, acks="all", linger_ms=50, compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent))
        futures = [await producer.send(topic, value=r.value, key=r.key, headers=r.headers, partition=r.partition,
                                       timestamp_ms=r.timestamp or None) for r in records]
        ended = await asyncio.gather(*futures, return_exceptions=True)
        await producer.stop()
        return [self.refusal(one) if isinstance(one, Exception) else one.offset for one in ended]

    def consumer(self, group, topics=None, pattern=None):
        def make():
            consumer = self.lib.AIOKafkaConsumer(
                **self.base, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                fetch_max_wait_ms=100, metadata_max_age_ms=500, heartbeat_interval_ms=300)
            consumer.subscribe(topics=topics or (), pattern=pattern)
            return consumer
        return self.wait(self.started(make))

    def poll(self, consumer):
        polled = self.wait(consumer.getmany(timeout_ms=200)).values()
        return [Record(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers))
                for records in polled for r in records]

    def assigned(self, consumer):
        return len(consumer.assignment())

    def commit(self, consumer):
        self.wait(consumer.commit())

    def close(self, consumer):
        self.wait(consumer.stop())

    def offset_at(self, topic, timestamp):
        async def ask():
            consumer = await self.started(lambda: self.lib.AIOKafkaConsumer(topic, **self.base))
            at = self.lib.TopicPartition(topic, 0)
            found = (await consumer.offsets_for_times({at: timestamp}))[at]
            await consumer.stop()
            return found
        found = self.wait(ask())
        return found.offset if found and found.offset >= 0 else None

    def configs(self, topic):
        resource = self.lib.admin.config_resource.ConfigResource(
            self.lib.admin.config_resource.ConfigResourceType.TOPIC, topic)
        answers = self.wait(self.admin.describe_configs([resource]))
        return {entry[0]: entry[1] for entry in answers[0].resources[0][4]}

    def group(self, group):
        described = self.wait(self.admin.describe_consumer_groups([group]))[0].groups[0]
        return described[2], len(described[5])

    def groups(self):
        return [name for name, *_ in self.wait(self.admin.list_consumer_groups())]

    def transaction(self, transactional_id, topic):
        async def attempt():
            producer = self.lib.AIOKafkaProducer(**self.writing, transactional_id=transactional_id)
            try:
                await producer.start()
                async with producer.transaction():
                    await producer.send_and_wait(topic, b"in a transaction")
            finally:
                await producer.stop()
        try:
            self.wait(attempt())
        except self.lib.errors.KafkaError as err:
            raise self.refusal(err) from err


CLIENTS = {
    "confluent-2.3": Confluent, "confluent": Confluent,
    "kafka-python-2.0": KafkaPython, "kafka-python": NewKafkaPython,
    "aiokafka": Aiokafka,
}
