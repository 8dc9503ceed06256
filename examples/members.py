#!/usr/bin/env python3
"""Who is in a segment, from Kafka: prints the identifiers of its members, sorted, one a line, then follows the changes.

    members.py BROKERS PREFIX ENVIRONMENT_ID SEGMENT_ID [--once]

Needs confluent-kafka. No consumer group: it starts over each time, so its offsets are its own. docs/topics.md, "Starting
a new consumer", says why the three steps below leave no gap. Values must be JSON (no `log.schema_registry`).
"""

import argparse
import json

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

TIMEOUT_S = 30


class Pieces:
    """Records too large for the broker come in pieces, the head last (docs/topics.md, "Records in pieces")."""

    def __init__(self):
        self.parts = {}

    def whole(self, message):
        """The whole value of what has come, and whether there is one."""
        headers = {name: value.decode() for name, value in message.headers() or []}
        if "rollcall-piece" in headers:
            of, number = headers["rollcall-piece"].split("/")
            if message.value() is not None:
                self.parts.setdefault(of, {})[int(number)] = message.value()
            return None, False
        if "rollcall-pieces" not in headers:
            return message.value(), True
        of, count = headers["rollcall-pieces"].split("/")
        parts = self.parts.pop(of, {})
        if sorted(parts) != list(range(int(count))):
            # Its key has been written anew since, or it was committed before the place where we began: the sets hold it.
            return None, False
        return b"".join(parts[number] for number in range(int(count))) + message.value(), True


def read(consumer, ends, each, pieces):
    """Reads on until every partition has come to its end, or for ever where there are none."""
    behind = dict(ends or {})
    while behind or ends is None:
        message = consumer.poll(0.1 if behind else 1.0)
        if message is not None and message.error():
            raise KafkaException(message.error())
        if message is not None:
            value, is_whole = pieces.whole(message)
            key = message.key().decode()
            if is_whole and not key.startswith("control/"):  # checks and watermarks, for Rollcall's own sinks
                each(key, None if value is None else json.loads(value))
        if behind:
            # The position passes the marks of transactions, too, which are no messages.
            for place in consumer.position([TopicPartition(topic, p) for topic, p in behind]):
                if place.offset >= behind[place.topic, place.partition]:
                    del behind[place.topic, place.partition]


def partitions(consumer, topic):
    return list(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)


def ends(asked, places):
    """Where everything that is committed by now has an end; partitions with nothing to read are left out."""
    found = {}
    for place in places:
        low, high = asked.get_watermark_offsets(place, timeout=TIMEOUT_S)
        if high > max(low, place.offset):
            found[place.topic, place.partition] = high
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("brokers", "prefix", "environment", "segment"):
        parser.add_argument(name)
    parser.add_argument("--once", action="store_true", help="print the members and end")
    args = parser.parse_args()
    settings = {
        "bootstrap.servers": args.brokers,
        "group.id": "unused",  # librdkafka wants one; nothing is ever committed to it
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # a place that is gone is an error, never a silent jump
    }
    consumer = Consumer({**settings, "isolation.level": "read_committed"})  # what was rolled back was never true
    asked = Consumer({**settings, "isolation.level": "read_uncommitted"})  # only for where everything ends
    pieces = Pieces()
    # Key: (version, identifier, whether it is a member). Those who aren't are kept: their version says what is old news.
    held = {}

    def take(key, record, member):
        version, _, was = held.get(key, (None, None, False))
        if version is None or record["version"] > version:
            held[key] = (record["version"], record["identifier"], member(was))

    def membership(key, record):
        if record is None:
            held.pop(key, None)
            return
        here = record["environment_id"] == args.environment
        take(key, record, lambda was: here and any(s["segment_id"] == args.segment for s in record["segments"]))

    def change(key, record):
        if record is not None and record["environment_id"] == args.environment:
            entered, left = args.segment in record["entered"], args.segment in record["left"]
            take(key, record, lambda was: entered or (was and not left))

    def follow(key, record):
        before = held.get(key, (None, None, False))[2]
        change(key, record)
        _, identifier, now = held.get(key, (None, None, False))
        if now != before:
            print("+" if now else "-", identifier, flush=True)

    # 1. Where the changes are decided, before anything is read: with read_committed, the last stable offset.
    topic = f"{args.prefix}.membership-changes"
    live = [TopicPartition(topic, p) for p in partitions(consumer, topic)]
    for place in live:
        place.offset = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1]
    # 2. The sets, up to the high watermark asked now: a commit that is decided in the changes may not be in the sets yet.
    topic = f"{args.prefix}.memberships"
    sets = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions(consumer, topic)]
    consumer.assign(sets)
    read(consumer, ends(asked, sets), membership, pieces)
    # 3. The changes since; those that the sets hold already are passed over by their version.
    consumer.assign(live)
    read(consumer, ends(asked, live), change, pieces)
    print("".join(f"{name}\n" for name in sorted(name for _, name, member in held.values() if member)), end="", flush=True)
    if not args.once:
        read(consumer, None, follow, pieces)


if __name__ == "__main__":
    main()
