"""A client that goes on until SIGTERM tells it to stop: steady.py '{"do": "produce", "bootstrap": ..., ...}'.

confluent-kafka, that is librdkafka. One JSON line per record that was dealt with, and one per error that the library
told its application; src/steady.rs reads them.
"""

import faulthandler
import json
import os
import signal
import sys
import time

import confluent_kafka as kafka

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from logins import PUBLISH, SUBSCRIBE, of_librdkafka  # noqa: E402

KEYS = 8
# What still happens after SIGTERM.
LAST_WORDS_S = 60
# A reader has everything when nothing came for so long after SIGTERM.
QUIET_S = 3

stopping = False


def stop(*_):
    global stopping
    stopping = True


def say(**what):
    print(json.dumps(what), flush=True)


def heard(error):
    say(error=error.name(), fatal=error.fatal(), text=error.str())


def settings(ask, **more):
    fixed = {"bootstrap.servers": ask["bootstrap"], "error_cb": heard, "reconnect.backoff.max.ms": 500}
    login = of_librdkafka(PUBLISH if ask["do"] == "produce" else SUBSCRIBE)
    return {**fixed, **login, **ask.get("config", {}), **{name.replace("_", "."): value for name, value in more.items()}}


def produce(ask):
    """Idempotent; eight keys; as many as the pause between two permits."""
    producer = kafka.Producer(settings(ask, enable_idempotence=True, linger_ms=2))

    def told(sequence, key, value):
        def delivered(error, message):
            if error:
                say(sequence=sequence, key=key, value=value, unknown=error.name())
            else:
                say(sequence=sequence, key=key, value=value, partition=message.partition(), offset=message.offset())
        return delivered

    sequence = 0
    while not stopping:
        key, value = f"{ask['name']}-{sequence % KEYS}", f"{ask['name']} {sequence}"
        try:
            producer.produce(ask["topic"], value, key, on_delivery=told(sequence, key, value))
            sequence += 1
        except BufferError:
            pass
        producer.poll(ask["pause"])
    if producer.flush(LAST_WORDS_S):
        raise SystemExit("not everything was delivered or given up")


def consume(ask):
    # Not a setting of librdkafka's: further topics.
    topics = ask.get("config", {}).pop("topics", [ask["topic"]])
    more = {} if "group.protocol" in ask.get("config", {}) else {"session_timeout_ms": 10_000}
    consumer = kafka.Consumer(settings(
        ask, group_id=ask["name"], auto_offset_reset="earliest", enable_auto_commit=False, **more))
    consumer.subscribe(topics)
    last = committed = time.monotonic()
    while not stopping or time.monotonic() - last < QUIET_S:
        for message in consumer.consume(500, timeout=0.2):
            if message.error():
                heard(message.error())
                continue
            last = time.monotonic()
            say(partition=message.partition(), offset=message.offset(), value=message.value().decode())
        if time.monotonic() - committed > 1:
            committed = time.monotonic()
            if consumer.assignment():
                consumer.commit(asynchronous=True)
    consumer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    # Whoever waits in vain asks where we stand.
    faulthandler.register(signal.SIGQUIT)
    question = json.loads(sys.argv[1])
    {"produce": produce, "consume": consume}[question["do"]](question)
