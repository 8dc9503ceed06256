//! The Kafka log keeps the contract of a log.
//!
//! Brokers have their own clock and compact in their own time: what the suite says of time is slept through, and a
//! compaction is waited for until it has done all that it can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rollcall_kit::contract::log::{LogSettings, UnderTest};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Log as _, Partition, Retention, Topic};
use rollcall_test_servers::Kafka;

use crate::compaction::{SEGMENT_MS, compact};
use crate::support::{config, kafka, ok, open, prefix, wall_ms};

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

/// Waits until all that was committed is decided everywhere: its marks come a moment later, and what isn't decided is kept.
async fn decided(log: &KafkaLog) {
    for topic in Topic::ALL.iter().filter(|topic| topic.retention() == Retention::Time) {
        for partition in 0..if topic.is_partitioned() { log.partitions() } else { 1 } {
            loop {
                let range = ok(log.range(*topic, Partition(partition)).await);
                if range.stable == range.end {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[expect(clippy::only_used_in_recursion, reason = "the broker runs as long as it is held")]
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
            Box::pin(async move {
                decided(&log).await;
                log.retain_now(as_of).await
            })
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
