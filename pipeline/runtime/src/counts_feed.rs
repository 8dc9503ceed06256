//! `segment-counts`, summed: what the API and the command line show, with the point it is exact at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::log::PollLimit;
use rollcall_model::{
    CountRecord, CountState, EnvironmentId, Fault, Log, Partition, SegmentId, SourceName, Topic,
    WatermarkRecord,
};

use crate::foreign::own;
use crate::tasks::Reporter;

const POLL: PollLimit = PollLimit { records_max: 10_000, bytes_max: 16 << 20, wait: Duration::from_secs(5) };

/// One partition's part of a count.
#[derive(Clone, PartialEq, Debug)]
struct Part {
    count: u64,
    state: CountState,
}

#[derive(Debug, Default)]
struct Sums {
    /// Of the log; a count of which some have said nothing yet is not whole.
    partitions: usize,
    parts: BTreeMap<(SegmentId, EnvironmentId), BTreeMap<Partition, Part>>,
    watermarks: BTreeMap<SourceName, BTreeMap<Partition, i64>>,
}

/// The counts of the whole log, in memory.
#[derive(Clone, Debug, Default)]
pub struct CountsBoard {
    sums: Arc<Mutex<Sums>>,
}

/// A count as shown.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// Members.
    pub count: u64,
    /// How to read it: the least certain of its parts.
    pub state: CountState,
}

impl CountsBoard {
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The count of a pair; `None` when no partition has said anything yet.
    #[must_use]
    pub fn get(&self, segment: &SegmentId, environment: &EnvironmentId) -> Option<Shown> {
        let sums = self.lock();
        let parts = sums.parts.get(&(segment.clone(), environment.clone()))?;
        let worst = parts.values().max_by_key(|part| match &part.state {
            CountState::Live => 0,
            CountState::Removed => 1,
            CountState::Filling => 2,
            CountState::Unsupported { .. } => 3,
        })?;
        let is_whole =
            parts.len() >= sums.partitions || matches!(worst.state, CountState::Unsupported { .. });
        let state = if is_whole { worst.state.clone() } else { CountState::Filling };
        Some(Shown { count: parts.values().map(|part| part.count).sum(), state })
    }

    /// Up to when everything a source committed is in the counts: its lowest watermark over all partitions.
    #[must_use]
    pub fn as_of_us(&self, source: &SourceName, partitions: u16) -> Option<i64> {
        let sums = self.lock();
        let watermarks = sums.watermarks.get(source)?;
        if watermarks.len() < usize::from(partitions) {
            return None;
        }
        watermarks.values().min().copied()
    }

    fn take(&self, record: CountRecord) {
        let part = Part { count: record.count, state: record.state };
        let pair = (record.segment_id, record.environment_id);
        self.lock().parts.entry(pair).or_default().insert(record.partition, part);
    }

    fn take_watermark(&self, record: WatermarkRecord) {
        self.lock().watermarks.entry(record.source).or_default().insert(record.partition, record.at_us);
    }
}

/// Follows the counts for ever.
pub(crate) async fn follow(log: Arc<dyn Log>, board: CountsBoard, reporter: Reporter) -> Result<(), Fault> {
    board.lock().partitions = usize::from(log.partitions());
    let mut from = BTreeMap::new();
    for partition in (0..log.partitions()).map(Partition) {
        from.insert(
            (Topic::SegmentCounts, partition),
            log.range(Topic::SegmentCounts, partition).await?.start,
        );
    }
    let mut consumer = log.consumer(from).await?;
    reporter.running();
    let watermark = format!("{CONTROL_KEY}watermark/");
    loop {
        for fetched in own(consumer.poll(POLL).await?) {
            let Some(value) = &fetched.record.value else { continue };
            let unreadable = |e| {
                Fault::refused(format!("segment-counts at offset {} can't be read", fetched.place.offset))
                    .from_source(e)
                    .repair("run the version of rollcall that wrote the log")
            };
            if fetched.record.key.starts_with(watermark.as_bytes()) {
                board.take_watermark(serde_json::from_slice(value).map_err(unreadable)?);
            } else if !fetched.record.key.starts_with(CONTROL_KEY.as_bytes()) {
                board.take(serde_json::from_slice(value).map_err(unreadable)?);
            }
        }
    }
}
