"""Requests as some client once sent them, byte by byte: bare.py BOOTSTRAP PREFIX

No library of today sends these, or none lets itself be told to. Output as of foreign.py.
"""

import json
import socket
import struct
import sys
import time

PRODUCE, LIST_OFFSETS, METADATA, CREATE_TOPICS = 0, 2, 3, 19
FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 10, 11, 12, 13, 14
# COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: of a cluster that had no group yet.
NOT_YET = (14, 15, 16)


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def data(value):
    return struct.pack(">i", len(value)) + value


def varint(value):
    """Small ones only, which is all that is needed here."""
    assert 0 <= value < 64
    return bytes([value << 1])


def crc32c(octets):
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Bare:
    def __init__(self, bootstrap, prefix):
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self.at, self.prefix = (host, int(port)), prefix

    def ask(self, key, version, body, flexible=False):
        """The answer behind its correlation id; on a connection of its own, so that a closed one is seen."""
        frame = struct.pack(">hhi", key, version, 7) + text("bare") + (b"\0" if flexible else b"") + body
        with socket.create_connection(self.at, 10) as connection:
            connection.sendall(data(frame))
            stream = connection.makefile("rb")
            head = stream.read(4)
            assert len(head) == 4, f"api {key} version {version}: closed without an answer"
            answer = stream.read(struct.unpack(">i", head)[0])
        assert answer[:4] == struct.pack(">i", 7), "the answer to another request"
        return answer[4:]

    def all_topics_with_bytes_behind_the_request(self):
        """Metadata 12 without topics; librdkafka 2 sends three bytes too many."""
        body = b"\0" + b"\0\0" + b"\0"
        lengths = [len(self.ask(METADATA, 12, body + extra, flexible=True)) for extra in (b"", b"\x01\0\0")]
        assert min(lengths) > 20, lengths
        return "answered"

    def await_coordinator(self, group, asked):
        """The first group of a cluster finds nobody who would coordinate it, for a moment."""
        until = time.monotonic() + 20
        while struct.unpack(">h", asked())[0] in NOT_YET and time.monotonic() < until:
            self.ask(FIND_COORDINATOR, 0, group)
            time.sleep(0.1)

    def oldest_group_requests(self):
        """Each of a member that nobody knows: the error tells that the request was read."""
        group, member = text(f"{self.prefix}-bare"), text("nobody")
        generation = struct.pack(">i", 1)
        self.await_coordinator(group, lambda: self.ask(HEARTBEAT, 0, group + generation + member)[:2])
        asked = {
            "sync": self.ask(SYNC_GROUP, 0, group + generation + member + struct.pack(">i", 0)),
            "heartbeat": self.ask(HEARTBEAT, 0, group + generation + member),
            "leave": self.ask(LEAVE_GROUP, 0, group + member),
        }
        return {name: struct.unpack(">h", answer[:2])[0] for name, answer in asked.items()}

    def oldest_join(self):
        """JoinGroup 0 has one timeout and makes a member at once."""
        protocol = text("range") + data(b"\0\0\0\0\0\0\0\0\0\0")
        body = text(f"{self.prefix}-join") + struct.pack(">i", 6000) + text("") + text("consumer")
        answer = self.ask(JOIN_GROUP, 0, body + struct.pack(">i", 1) + protocol)
        return {"error": struct.unpack(">h", answer[:2])[0], "generation": struct.unpack(">i", answer[2:6])[0]}

    def a_batch_that_does_not_say_its_newest_time(self):
        """Older Sarama: maxTimestamp is -1 though the record has a time. It stays, and is found by that time."""
        topic, now = f"{self.prefix}-newest", int(time.time() * 1000)
        made = text(topic) + struct.pack(">ihii", 1, 1, 0, 0)
        self.ask(CREATE_TOPICS, 2, struct.pack(">i", 1) + made + struct.pack(">i?", 5000, False))
        time.sleep(0.5)
        record = b"\0" + varint(0) + varint(0) + b"\x01" + varint(5) + b"hello" + varint(0)
        rest = struct.pack(">hiqqqhii", 0, 0, now, -1, -1, -1, -1, 1) + varint(len(record)) + record
        batch = struct.pack(">qiibI", 0, 9 + len(rest), -1, 2, crc32c(rest)) + rest
        request = struct.pack(">hhii", -1, -1, 5000, 1) + text(topic) + struct.pack(">ii", 1, 0) + data(batch)
        answer = self.ask(PRODUCE, 3, request)
        error = struct.unpack(">h", answer[4 + 2 + len(topic) + 4 + 4:][:2])[0]

        def offset(timestamp):
            asked = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, 0, timestamp)
            return struct.unpack(">q", self.ask(LIST_OFFSETS, 1, asked)[-8:])[0]

        return {"error": error, "start": offset(-2), "end": offset(-1), "a minute ago": offset(now - 60_000)}

    def parts(self):
        return [self.all_topics_with_bytes_behind_the_request, self.oldest_group_requests, self.oldest_join,
                self.a_batch_that_does_not_say_its_newest_time]


def main():
    bare = Bare(*sys.argv[1:])
    for part in bare.parts():
        try:
            found = part()
        except Exception as err:
            raise SystemExit(f"{part.__name__}: {err!r}") from err
        print(json.dumps({"part": part.__name__, "found": found}), flush=True)


if __name__ == "__main__":
    main()
