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

use crate::client::{Questions, blocking};
use crate::config::KafkaLogConfig;
use crate::producer::lowest_reads;
use crate::progress::Follower;
use crate::times;

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
    // Before the times: what is written in between is young, and stands above.
    let mut bounds = Vec::new();
    let mut times = TopicPartitionList::new();
    for (topic, partition) in timed(config) {
        let (name, number) = (config.topic(topic), i32::from(partition.0));
        let offsets = questions.offsets(name.clone(), number).await?;
        let unread = reads.get(&(topic, partition)).map(|place| i64::try_from(place.offset));
        let unread = unread.and_then(Result::ok).unwrap_or(i64::MAX);
        let may_go = unread.min(offsets.stable);
        if may_go > offsets.start {
            times.add_partition_offset(&name, number, Offset::Offset(oldest)).map_err(bad)?;
            bounds.push((name, number, offsets.start, may_go));
        }
    }
    if bounds.is_empty() {
        return Ok(());
    }
    let young = questions.offsets_at(times).await?;
    let mut before = TopicPartitionList::new();
    for (name, number, start, may_go) in bounds {
        let answer = young.find_partition(&name, number).map(|found| found.error().map(|()| found.offset()));
        let first_young = match answer.transpose().map_err(bad)? {
            Some(Offset::Offset(offset)) => offset,
            Some(Offset::End) if start == 0 => may_go,
            // All are older; or so it seems, behind what has been dropped. What would go for that is looked at first.
            Some(Offset::End) => {
                let (config, name) = (config.clone(), name.clone());
                blocking(move || times::read_after(&config, &name, number, (start, may_go), oldest)).await?
            }
            other @ (Some(Offset::Beginning | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_))
            | None) => {
                return Err(Fault::retry(format!("{doing}: {name}/{number} answered {other:?}")));
            }
        };
        let keep = first_young.min(may_go);
        if keep > start {
            before.add_partition_offset(&name, number, Offset::Offset(keep)).map_err(bad)?;
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
