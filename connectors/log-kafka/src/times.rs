//! From which offset on records are of a time or later.
//!
//! The brokers know, but for one case: they look for the first segment that reaches up to the time, and only in that one.
//! Where it is a segment whose records were dropped and whose file still waits for its end, they say that there is
//! nothing. So where something has been dropped, "nothing" is read after.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use rollcall_model::Fault;

use crate::client::{Questions, blocking, fault_with, make};
use crate::config::KafkaLogConfig;
use crate::context::Context;

/// How often a reader that waits looks at where it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The first offset whose record is of `time_ms` or later; where decided records end when all are older.
pub(crate) async fn offset_at(
    config: &KafkaLogConfig,
    questions: &Questions,
    topic: String,
    partition: i32,
    time_ms: u64,
) -> Result<i64, Fault> {
    let time_ms = i64::try_from(time_ms).unwrap_or(i64::MAX);
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset(&topic, partition, Offset::Offset(time_ms))
        .map_err(|e| Fault::bug(format!("{time_ms} is no time")).from_source(e))?;
    // Asked first: what is written in between is of a later time, and stands at or above it.
    let bounds = questions.offsets(topic.clone(), partition).await?;
    let answered = questions.offsets_at(asked).await?;
    let doing = format!("can't tell which records of {topic}/{partition} are how old");
    let found = {
        let found = answered
            .find_partition(&topic, partition)
            .ok_or_else(|| Fault::bug(format!("{doing}: the answer leaves it out")))?;
        found.error().map_err(|e| questions.fault(&doing, e))?;
        found.offset()
    };
    match found {
        Offset::Offset(offset) => Ok(offset.max(bounds.start)),
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_)
            if bounds.start == 0 =>
        {
            Ok(bounds.stable)
        }
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => {
            let (config, bounds) = (config.clone(), (bounds.start, bounds.stable));
            blocking(move || read_after(&config, &topic, partition, bounds, time_ms)).await
        }
    }
}

/// The first offset from `start` on whose record is of `time_ms` or later, or `stable`. Reads them. Blocks.
pub(crate) fn read_after(
    config: &KafkaLogConfig,
    topic: &str,
    partition: i32,
    (start, stable): (i64, i64),
    time_ms: i64,
) -> Result<i64, Fault> {
    let (reader, health) = make::<BaseConsumer<Context>>(config, &config.reader(true))?;
    let cant = |e| fault_with(config, &health, &format!("can't read {topic}/{partition}"), e);
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, partition, Offset::Offset(start)).map_err(cant)?;
    reader.assign(&places).map_err(cant)?;
    let mut moved = Instant::now();
    loop {
        let position = reader.position().map_err(cant)?;
        let reached = match position.find_partition(topic, partition).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => offset,
            Some(_) | None => start,
        };
        if reached >= stable {
            return Ok(stable);
        }
        match reader.poll(LOOK_EVERY) {
            Some(record) => {
                let record = record.map_err(cant)?;
                moved = Instant::now();
                if record.timestamp().to_millis().is_some_and(|at| at >= time_ms) {
                    return Ok(record.offset());
                }
            }
            None if moved.elapsed() > config.request_timeout() => {
                return Err(Fault::retry(format!(
                    "{topic}/{partition} brings nothing more, but says that there is"
                )));
            }
            None => {}
        }
    }
}
