//! The Kafka log keeps the contract of a log.
//!
//! Brokers have their own clock and compact in their own time: what the suite says of time is slept through, and a
//! compaction is waited for until it has done all that it can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rollcall_kit::contract::log::{LogSettings, UnderTest};
use rollcall_log_kafka::KafkaLogConfig;
use rollcall_model::{Fault, Retention, Topic};
use rollcall_test_servers::Kafka;

use crate::support::{config, kafka, ok, open, prefix};

/// Whatever a broker is slow at, it is done by then.
const LONG: Duration = Duration::from_secs(60);
/// Old enough to be rolled, and so to be compacted.
const SEGMENT_MS: u64 = 50;

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that far in the future")
}

/// The suite's time, laid on the wall's: its first "now" is when it was said.
#[derive(Debug, Default)]
struct Time {
    said_ms: AtomicU64,
    first_ms: AtomicU64,
    base_ms: AtomicU64,
}

impl Time {
    fn set(&self, now_ms: u64) {
        if self.base_ms.load(Ordering::SeqCst) == 0 {
            self.first_ms.store(now_ms, Ordering::SeqCst);
            self.base_ms.store(wall_ms(), Ordering::SeqCst);
        }
        self.said_ms.store(now_ms, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.to_wall(now_ms).saturating_sub(wall_ms())));
    }

    fn to_wall(&self, now_ms: u64) -> u64 {
        self.base_ms.load(Ordering::SeqCst) + now_ms.saturating_sub(self.first_ms.load(Ordering::SeqCst))
    }

    fn said_wall(&self) -> i64 {
        i64::try_from(self.to_wall(self.said_ms.load(Ordering::SeqCst))).expect("a time")
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client
}

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

fn compact(config: &KafkaLogConfig, now: i64) -> Result<(), Fault> {
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

fn under_test(kafka: Arc<Kafka>, config: KafkaLogConfig, time: Arc<Time>) -> UnderTest {
    let log = Arc::new(ok(open(config.clone())));
    let (setting, compacting, retaining) = (Arc::clone(&time), Arc::clone(&time), Arc::clone(&time));
    let asking = Arc::clone(&time);
    let (retained, compacted) = (Arc::clone(&log), config.clone());
    UnderTest {
        log,
        set_now_ms: Box::new(move |now_ms| setting.set(now_ms)),
        compact: Box::new(move || {
            let (config, now) = (compacted.clone(), compacting.said_wall());
            Box::pin(async move {
                tokio::task::spawn_blocking(move || compact(&config, now)).await.expect("it compacts")
            })
        }),
        retain: Box::new(move |now_ms| {
            let (log, as_of) = (Arc::clone(&retained), retaining.to_wall(now_ms));
            Box::pin(async move { log.retain_now(as_of).await })
        }),
        log_ms: Box::new(move |now_ms| asking.to_wall(now_ms)),
        reopen: Box::new(move || under_test(kafka, config, time)),
    }
}

fn make(settings: LogSettings) -> UnderTest {
    let kafka = kafka();
    let LogSettings { partitions, retention_ms, retention_bytes_max: _, tombstone_retention_ms } = settings;
    let config = KafkaLogConfig {
        retention_ms,
        tombstone_retention_ms,
        // Only the tests decide when upkeep runs.
        upkeep_interval_ms: u64::from(u32::MAX),
        topic_settings: BTreeMap::from([
            ("segment.ms".to_owned(), SEGMENT_MS.to_string()),
            ("min.cleanable.dirty.ratio".to_owned(), "0".to_owned()),
        ]),
        ..config(&kafka.brokers(), &prefix(), partitions)
    };
    under_test(kafka, config, Arc::new(Time::default()))
}

rollcall_kit::log_contract!(make);
