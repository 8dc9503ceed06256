//! Who is in a segment, from Kafka: prints the identifiers of its members, sorted, one a line, then follows the changes.
//!
//!     rollcall-example-members BROKERS PREFIX ENVIRONMENT_ID SEGMENT_ID [--once]
//!
//! No consumer group: it starts over each time, so its offsets are its own. docs/topics.md, "Starting a new consumer",
//! says why the three steps below leave no gap. Values must be JSON (no `log.schema_registry` in the topology).

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of one identity. Those who are no members are kept as well: their version says what is old news.
struct Held {
    version: i64,
    identifier: String,
    member: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, prefix, environment, segment, rest @ ..] = args.as_slice() else {
        return Err("usage: BROKERS PREFIX ENVIRONMENT_ID SEGMENT_ID [--once]".into());
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unused") // librdkafka wants one; nothing is ever committed to it
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed") // what was rolled back was never true
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error") // a place that is gone is an error, never a silent jump
        .create()?;
    let mut held = HashMap::new();

    // 1. Where the changes end, before anything is read. With read_committed this is the end of what is committed.
    let changes = format!("{prefix}.membership-changes");
    let live = places(&consumer, &changes, |partition| {
        Ok(Offset::Offset(consumer.fetch_watermarks(&changes, partition, TIMEOUT)?.1))
    })?;
    // 2. The sets as they stand.
    let memberships = format!("{prefix}.memberships");
    let whole = places(&consumer, &memberships, |_| Ok(Offset::Beginning))?;
    read(&consumer, &whole, true, |key, record| {
        let Some(record) = record else { return drop(held.remove(key)) };
        let segments = record["segments"].as_array().into_iter().flatten();
        let member = record["environment_id"] == environment.as_str()
            && segments.into_iter().any(|of| of["segment_id"] == segment.as_str());
        take(&mut held, key, record, |known| known.member = member);
    })?;
    // 3. The changes since; those that the sets hold already are passed over by their version.
    let change = |held: &mut HashMap<String, Held>, key: &str, record: Option<&Value>| {
        let Some(record) = record.filter(|record| record["environment_id"] == environment.as_str()) else {
            return;
        };
        let names = |field: &str| {
            record[field].as_array().is_some_and(|names| names.iter().any(|name| name == segment.as_str()))
        };
        take(held, key, record, |known| known.member = names("entered") || (known.member && !names("left")));
    };
    read(&consumer, &live, true, |key, record| change(&mut held, key, record))?;
    let mut members: Vec<_> =
        held.values().filter(|known| known.member).map(|known| &known.identifier).collect();
    members.sort();
    members.iter().for_each(|identifier| println!("{identifier}"));
    if rest.iter().any(|option| option == "--once") {
        return Ok(());
    }
    // The assignment stays: from here on, what changes.
    read(&consumer, &live, false, |key, record| {
        let before = held.get(key).is_some_and(|known| known.member);
        change(&mut held, key, record);
        if let Some(known) = held.get(key).filter(|known| known.member != before) {
            println!("{} {}", if known.member { '+' } else { '-' }, known.identifier);
        }
    })
}

/// Every partition of a topic, with a place in each.
fn places(
    consumer: &BaseConsumer,
    topic: &str,
    place: impl Fn(i32) -> Result<Offset, KafkaError>,
) -> Result<TopicPartitionList, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        list.add_partition_offset(topic, partition.id(), place(partition.id())?)?;
    }
    Ok(list)
}

/// Reads from the places on: until every partition has come to its end, or for ever.
fn read(
    consumer: &BaseConsumer,
    from: &TopicPartitionList,
    to_the_end: bool,
    mut each: impl FnMut(&str, Option<&Value>),
) -> Result<(), Box<dyn Error>> {
    if to_the_end {
        consumer.assign(from)?;
    }
    let mut behind: HashSet<i32> = from.elements().iter().map(|of| of.partition()).collect();
    while !to_the_end || !behind.is_empty() {
        let message = match consumer.poll(Duration::from_secs(1)) {
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                behind.remove(&partition);
                continue;
            }
            Some(message) => message?,
            None => continue,
        };
        let key = std::str::from_utf8(message.key().unwrap_or_default())?;
        if key.starts_with("control/") {
            continue; // checks and watermarks, for Rollcall's own sinks
        }
        // A record too large for the broker comes in pieces (docs/topics.md); this example doesn't put them together.
        if message
            .headers()
            .is_some_and(|headers| headers.iter().any(|header| header.key == "rollcall-pieces"))
        {
            return Err(format!("{key} comes in pieces, which this example doesn't read").into());
        }
        each(key, message.payload().map(serde_json::from_slice::<Value>).transpose()?.as_ref());
    }
    Ok(())
}

/// Takes a record up, unless something at least as new is held of its identity.
fn take(held: &mut HashMap<String, Held>, key: &str, record: &Value, apply: impl FnOnce(&mut Held)) {
    let version = record["version"].as_i64().unwrap_or_default();
    let new = Held { version: i64::MIN, identifier: String::new(), member: false };
    let known = held.entry(key.to_owned()).or_insert(new);
    if version > known.version {
        known.version = version;
        known.identifier = record["identifier"].as_str().unwrap_or_default().to_owned();
        apply(known);
    }
}
