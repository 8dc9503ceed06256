//! What is dropped, and what must not be.

use std::time::Duration;

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Log, Partition, Topic};

use crate::compaction::SEGMENT_MS;
use crate::support::{commit_of, config, kafka, ok, prefix, read_from, record, shown, wall_ms};

/// Brokers answer "nothing is so young" for as long as the file of what was dropped is still there, if that was young
/// enough by a longer retention. It doesn't mean that all the rest is old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retention_that_was_made_longer_drops_nothing_young() {
    let kafka = kafka();
    let short = KafkaLogConfig {
        retention_ms: 1_000,
        topic_settings: [("segment.ms".to_owned(), SEGMENT_MS.to_string())].into(),
        ..config(&kafka.brokers(), &prefix(), 1)
    };
    let log = ok(KafkaLog::open(short.clone()).await);
    let longer = ok(KafkaLog::open(KafkaLogConfig { retention_ms: 3_600_000, ..short }).await);
    let mut writer = ok(log.open("source").await).producer;
    let mut commit = async |key: String| {
        tokio::time::sleep(Duration::from_millis(SEGMENT_MS * 2)).await;
        ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 0, &key, None)])).await);
    };
    for round in 0..5 {
        commit(format!("old {round}")).await;
        tokio::time::sleep(Duration::from_millis(SEGMENT_MS)).await;
        let between = wall_ms();
        commit(format!("young {round}")).await;
        let start = async || ok(log.range(Topic::IdentityChanges, Partition(0)).await).start.offset;
        assert!(!read_from(&log, Topic::IdentityChanges, 0, start().await).await.is_empty());
        ok(log.retain_now(between + 1_000).await);
        ok(longer.retain_now(wall_ms()).await);
        let left = shown(&read_from(&log, Topic::IdentityChanges, 0, start().await).await);
        assert_eq!(left, [(format!("young {round}"), None)]);
    }
}
