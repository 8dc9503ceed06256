#!/usr/bin/env python3
"""Who is in a segment, from Kafka: prints the identifiers of its members, sorted, one a line, then follows the changes.

    members.py BROKERS PREFIX ENVIRONMENT_ID SEGMENT_ID [--once]

Needs confluent-kafka. No consumer group: it starts over each time, so its offsets are its own. docs/topics.md, "Starting
a new consumer", says why the three steps below leave no gap. Values must be JSON (no `log.schema_registry`).
"""

import argparse
import json

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

TIMEOUT_S = 30


def read(consumer, places, each, to_the_end=True):
    """Reads from the places on: until every partition has come to its end, or for ever."""
    if to_the_end:
        consumer.assign(places)
    behind = {place.partition for place in places}
    while behind or not to_the_end:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            behind.discard(message.partition())
            continue
        key = message.key().decode()
        if key.startswith("control/"):
            continue  # checks and watermarks, for Rollcall's own sinks
        # A record too large for the broker comes in pieces (docs/topics.md); this example doesn't put them together.
        if any(name == "rollcall-pieces" for name, _ in message.headers() or []):
            raise SystemExit(f"{key} comes in pieces, which this example doesn't read")
        each(key, None if message.value() is None else json.loads(message.value()))


def partitions(consumer, topic):
    return list(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("brokers", "prefix", "environment", "segment"):
        parser.add_argument(name)
    parser.add_argument("--once", action="store_true", help="print the members and end")
    args = parser.parse_args()
    consumer = Consumer({
        "bootstrap.servers": args.brokers,
        "group.id": "unused",  # librdkafka wants one; nothing is ever committed to it
        "enable.auto.commit": False,
        "isolation.level": "read_committed",  # what was rolled back was never true
        "enable.partition.eof": True,
        "auto.offset.reset": "error",  # a place that is gone is an error, never a silent jump
    })
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

    # 1. Where the changes end, before anything is read. With read_committed this is the end of what is committed.
    topic = f"{args.prefix}.membership-changes"
    live = [TopicPartition(topic, p) for p in partitions(consumer, topic)]
    for place in live:
        place.offset = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1]
    # 2. The sets as they stand.
    topic = f"{args.prefix}.memberships"
    read(consumer, [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions(consumer, topic)], membership)
    # 3. The changes since; those that the sets hold already are passed over by their version.
    read(consumer, live, change)
    print("".join(f"{name}\n" for name in sorted(name for _, name, member in held.values() if member)), end="", flush=True)
    if not args.once:
        read(consumer, live, follow, to_the_end=False)


if __name__ == "__main__":
    main()
