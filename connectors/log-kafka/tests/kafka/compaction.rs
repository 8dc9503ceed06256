//! Compaction on demand: brokers do it in their own time, so it is waited for until it has done all that it can.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use rollcall_log_kafka::KafkaLogConfig;
use rollcall_model::{Fault, Retention, Topic};

use crate::support::{LONG, client};

/// Old enough to be rolled, and so to be compacted.
pub(crate) const SEGMENT_MS: u64 = 50;

/// What is written and taken back rolls the segments, and nobody sees it.
fn roll(config: &KafkaLogConfig, parts: &[(String, i32)]) {
    let producer: BaseProducer = client(&config.brokers)
        .set("transactional.id", format!("{}.roll", config.prefix))
        .create()
        .expect("a producer");
    producer.init_transactions(LONG).expect("a transactional producer");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(SEGMENT_MS + 20));
        producer.begin_transaction().expect("a transaction");
        for (topic, partition) in parts {
            let record = BaseRecord::to(topic).partition(*partition).key("roll").payload("roll");
            producer.send(record).unwrap_or_else(|(e, _)| panic!("{e}"));
        }
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        producer.abort_transaction(LONG).expect("it is taken back");
    }
}

/// Whether a partition holds one record per key, and no tombstone that should have gone.
fn is_compacted(config: &KafkaLogConfig, topic: &str, partition: i32, now: i64) -> bool {
    let consumer: BaseConsumer = client(&config.brokers)
        .set("group.id", "test")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer");
    let (start, end) = consumer.fetch_watermarks(topic, partition, LONG).expect("watermarks");
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, partition, Offset::Offset(start)).expect("a place");
    consumer.assign(&places).expect("assigned");
    let mut newest: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut is_compacted = true;
    let until = Instant::now() + LONG;
    let reached = || match consumer.position().expect("a position").elements().first().map(|e| e.offset()) {
        Some(Offset::Offset(offset)) => offset,
        Some(_) | None => start,
    };
    while reached() < end {
        assert!(Instant::now() < until, "{topic}/{partition} ends at {end}, {} is reached", reached());
        let Some(message) = consumer.poll(Duration::from_millis(20)) else { continue };
        let message = message.expect("a record");
        *newest.entry(message.key().unwrap_or_default().to_vec()).or_default() += 1;
        let age = now - message.timestamp().to_millis().expect("a time");
        let retention = i64::try_from(config.tombstone_retention_ms).expect("a time");
        is_compacted &= message.payload().is_some() || age <= retention;
    }
    is_compacted && newest.values().all(|count| *count == 1)
}

/// Compacts all that can be compacted, as of a time.
pub(crate) fn compact(config: &KafkaLogConfig, now: i64) -> Result<(), Fault> {
    let compacted = Topic::ALL.iter().filter(|topic| topic.retention() == Retention::Compacted);
    let mut parts: Vec<(String, i32)> = Vec::new();
    for topic in compacted.filter(|topic| **topic != Topic::Progress) {
        let count = if topic.is_partitioned() { i32::from(config.partitions) } else { 1 };
        let name = format!("{}.{}", config.prefix, topic.name());
        parts.extend((0..count).map(|partition| (name.clone(), partition)));
    }
    let until = Instant::now() + LONG;
    loop {
        parts.retain(|(topic, partition)| !is_compacted(config, topic, *partition, now));
        if parts.is_empty() {
            return Ok(());
        }
        assert!(Instant::now() < until, "not compacted: {parts:?}");
        roll(config, &parts);
    }
}
