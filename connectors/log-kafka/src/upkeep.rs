//! What goes: records past their retention that every task has read.
//!
//! Kafka's own retention knows no tasks, so topics with retention by time are made to keep everything, and this drops
//! from their beginnings: up to the retention, never beyond the lowest place of the tasks that read a partition. Several
//! workers may do it at once: each only drops what may go. Compaction is the brokers'.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use rollcall_model::{Fault, Partition, Retention, Topic};

use crate::client::Questions;
use crate::config::KafkaLogConfig;
use crate::producer::lowest_reads;
use crate::progress::Follower;

/// Drops what is past its retention as of `now_ms`.
pub(crate) async fn retain(
    config: &KafkaLogConfig,
    questions: &Questions,
    progress: &Follower,
    now_ms: u64,
) -> Result<(), Fault> {
    let oldest = i64::try_from(now_ms.saturating_sub(config.retention_ms)).unwrap_or(i64::MAX);
    let reads = lowest_reads(&progress.known());
    let doing = "can't drop what is past its retention";
    let bad = |e: KafkaError| questions.fault(doing, e);
    let mut times = TopicPartitionList::new();
    for (topic, partition) in timed(config) {
        let partition = i32::from(partition.0);
        times.add_partition_offset(&config.topic(topic), partition, Offset::Offset(oldest)).map_err(bad)?;
    }
    let young = questions.offsets_at(times).await?;
    let mut before = TopicPartitionList::new();
    for (topic, partition) in timed(config) {
        let name = config.topic(topic);
        let offsets = questions.offsets(name.clone(), partition.0.into()).await?;
        let Some(answer) = young.find_partition(&name, partition.0.into()) else { continue };
        answer.error().map_err(bad)?;
        let first_young = match answer.offset() {
            Offset::Offset(offset) => offset,
            // All are older.
            Offset::End => offsets.stable,
            other @ (Offset::Beginning | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_)) => {
                return Err(Fault::retry(format!("{doing}: {name}/{partition} answered {other:?}")));
            }
        };
        let unread = reads
            .get(&(topic, partition))
            .map_or(i64::MAX, |place| i64::try_from(place.offset).unwrap_or(i64::MAX));
        let keep = first_young.min(unread).min(offsets.stable);
        if keep > offsets.start {
            before.add_partition_offset(&name, partition.0.into(), Offset::Offset(keep)).map_err(bad)?;
        }
    }
    if before.count() > 0 {
        let options = AdminOptions::new().request_timeout(Some(config.request_timeout()));
        let dropped = questions.admin().await?.delete_records(&before, &options).await.map_err(bad)?;
        for element in dropped.elements() {
            element.error().map_err(bad)?;
        }
    }
    Ok(())
}

fn timed(config: &KafkaLogConfig) -> impl Iterator<Item = (Topic, Partition)> {
    let topics = Topic::ALL.iter().copied().filter(|topic| topic.retention() == Retention::Time);
    topics.flat_map(move |topic| (0..config.partitions_of(topic)).map(move |p| (topic, Partition(p))))
}

/// Does it again and again.
pub(crate) async fn run(config: KafkaLogConfig, questions: Arc<Questions>, progress: Arc<Follower>) {
    loop {
        tokio::time::sleep(Duration::from_millis(config.upkeep_interval_ms)).await;
        if let Err(fault) = retain(&config, &questions, &progress, config.clock.now_ms()).await {
            tracing::warn!("{fault}");
        }
    }
}
