//! Who is in a segment, from Kafka: prints the identifiers of its members, sorted, one a line, then follows the changes.
//!
//!     rollcall-example-members BROKERS PREFIX ENVIRONMENT_ID SEGMENT_ID [--once]
//!
//! No consumer group: it starts over each time, so its offsets are its own. docs/topics.md, "Starting a new consumer",
//! says why the three steps below leave no gap. Values must be JSON (no `log.schema_registry` in the topology).

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
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
    let client = |isolation: &str| {
        ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "unused") // librdkafka wants one; nothing is ever committed to it
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("auto.offset.reset", "error") // a place that is gone is an error, never a silent jump
            .create::<BaseConsumer>()
    };
    let consumer = client("read_committed")?; // what was rolled back was never true
    let asked = client("read_uncommitted")?; // only for where everything ends
    let mut pieces = Pieces::default();
    let mut held = HashMap::new();

    // 1. Where the changes are decided, before anything is read: with read_committed, the last stable offset.
    let changes = format!("{prefix}.membership-changes");
    let live = places(&consumer, &changes, |partition| {
        Ok(Offset::Offset(consumer.fetch_watermarks(&changes, partition, TIMEOUT)?.1))
    })?;
    // 2. The sets, up to the high watermark asked now: a commit that is decided in the changes may not be in the sets yet.
    let memberships = format!("{prefix}.memberships");
    let whole = places(&consumer, &memberships, |_| Ok(Offset::Beginning))?;
    consumer.assign(&whole)?;
    read(&consumer, Some(ends(&asked, &whole)?), &mut pieces, |key, record| {
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
    consumer.assign(&live)?;
    read(&consumer, Some(ends(&asked, &live)?), &mut pieces, |key, record| change(&mut held, key, record))?;
    let mut members: Vec<_> =
        held.values().filter(|known| known.member).map(|known| &known.identifier).collect();
    members.sort();
    members.iter().for_each(|identifier| println!("{identifier}"));
    if rest.iter().any(|option| option == "--once") {
        return Ok(());
    }
    // The assignment stays: from here on, what changes.
    read(&consumer, None, &mut pieces, |key, record| {
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

/// Where everything that is committed by now has an end; partitions with nothing to read are left out.
fn ends(asked: &BaseConsumer, places: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    let mut found = TopicPartitionList::new();
    for place in places.elements() {
        let (low, high) = asked.fetch_watermarks(place.topic(), place.partition(), TIMEOUT)?;
        let from = if let Offset::Offset(from) = place.offset() { from } else { low };
        if high > from {
            found.add_partition_offset(place.topic(), place.partition(), Offset::Offset(high))?;
        }
    }
    Ok(found)
}

/// Records too large for the broker come in pieces, the head last (docs/topics.md, "Records in pieces").
#[derive(Default)]
struct Pieces(HashMap<String, BTreeMap<usize, Vec<u8>>>);

impl Pieces {
    /// The whole value of what has come, if there is one: null is a value, too.
    fn whole(&mut self, message: &BorrowedMessage<'_>) -> Result<Option<Option<Vec<u8>>>, Box<dyn Error>> {
        let header = |name: &str| {
            let found = message.headers()?.iter().find(|header| header.key == name)?;
            let (of, number) = std::str::from_utf8(found.value?).ok()?.split_once('/')?;
            Some((of.to_owned(), number.parse().ok()?))
        };
        let value = message.payload().map(<[u8]>::to_vec);
        if let Some((of, number)) = header("rollcall-piece") {
            if let Some(value) = value {
                self.0.entry(of).or_default().insert(number, value);
            }
            return Ok(None);
        }
        let Some((of, count)) = header("rollcall-pieces") else { return Ok(Some(value)) };
        let parts = self.0.remove(&of).unwrap_or_default();
        if !parts.keys().copied().eq(0..count) {
            // Its key has been written anew since, or it was committed before the place where we began: the sets hold it.
            return Ok(None);
        }
        Ok(Some(Some(parts.into_values().chain(value).flatten().collect())))
    }
}

/// Reads on until every partition has come to its end, or for ever where there are none.
fn read(
    consumer: &BaseConsumer,
    ends: Option<TopicPartitionList>,
    pieces: &mut Pieces,
    mut each: impl FnMut(&str, Option<&Value>),
) -> Result<(), Box<dyn Error>> {
    loop {
        if let Some(ends) = &ends {
            // The position passes the marks of transactions, too, which are no messages.
            let reached = consumer.position()?;
            let is_behind = ends.elements().iter().any(|end| {
                let at = reached.find_partition(end.topic(), end.partition()).map(|at| at.offset());
                !matches!((at, end.offset()), (Some(Offset::Offset(at)), Offset::Offset(end)) if at >= end)
            });
            if !is_behind {
                return Ok(());
            }
        }
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let Some(value) = pieces.whole(&message)? else { continue };
        let key = std::str::from_utf8(message.key().unwrap_or_default())?;
        if key.starts_with("control/") {
            continue; // checks and watermarks, for Rollcall's own sinks
        }
        each(key, value.map(|value| serde_json::from_slice::<Value>(&value)).transpose()?.as_ref());
    }
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
