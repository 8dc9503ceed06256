//! Deliveries → the columns of one batch: one entry per ledger row, the newest, in the ledger's order.
//!
//! Merging is allowed because a count is absolute: of two for one (segment, environment, partition) the one with the
//! higher seq says everything.

use std::collections::BTreeMap;

use rollcall_model::{CountRecord, CountState, Delivery, Fault, LogId, OutRecord, Rejected, WatermarkRecord};

use crate::config::Preset;

/// A (segment, environment): what a row of the platform's count table is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pair {
    pub(crate) segment_id: String,
    pub(crate) environment_id: String,
}

/// Pairs as two array parameters.
pub(crate) fn columns<'a>(pairs: impl Iterator<Item = &'a Pair>) -> (Vec<&'a str>, Vec<&'a str>) {
    pairs.map(|pair| (pair.segment_id.as_str(), pair.environment_id.as_str())).unzip()
}

/// The ledger rows of a batch, column by column.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) segment_ids: Vec<String>,
    pub(crate) environment_ids: Vec<String>,
    pub(crate) partitions: Vec<i32>,
    pub(crate) counts: Vec<i64>,
    pub(crate) fingerprints: Vec<String>,
    pub(crate) seqs: Vec<i64>,
    pub(crate) states: Vec<&'static str>,
    pub(crate) reasons: Vec<Option<String>>,
}

/// The watermarks of a batch, column by column.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    pub(crate) sources: Vec<String>,
    pub(crate) partitions: Vec<i32>,
    pub(crate) positions: Vec<String>,
    pub(crate) at_us: Vec<i64>,
    pub(crate) seqs: Vec<i64>,
}

/// What a batch comes down to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) counts: Counts,
    pub(crate) watermarks: Watermarks,
    pub(crate) rejected: Vec<Rejected>,
}

/// Merges deliveries.
///
/// # Errors
/// Refused when a count belongs to another log; a bug when a record isn't a count or a watermark.
pub(crate) fn merge(deliveries: &[Delivery], log: &LogId, preset: Preset) -> Result<Batch, Fault> {
    let mut batch = Batch::default();
    let mut counts: BTreeMap<(&str, &str, u16), &CountRecord> = BTreeMap::new();
    let mut watermarks: BTreeMap<(&str, u16), &WatermarkRecord> = BTreeMap::new();
    for (index, delivery) in deliveries.iter().enumerate() {
        match &delivery.record {
            OutRecord::Count(record) => {
                if record.log_id != *log {
                    return Err(crate::tables::foreign_log(record.log_id.0.as_str(), log));
                }
                if let Err(reason) = fits(record, preset) {
                    batch.rejected.push(Rejected { index, reason });
                    continue;
                }
                let key = (record.segment_id.as_str(), record.environment_id.as_str(), record.partition.0);
                if counts.get(&key).is_none_or(|known| known.seq <= record.seq) {
                    counts.insert(key, record);
                }
            }
            OutRecord::Watermark(record) => {
                if i64::try_from(record.seq.0).is_err() {
                    let reason = "its seq is beyond 63 bits".to_owned();
                    batch.rejected.push(Rejected { index, reason });
                    continue;
                }
                let key = (record.source.as_str(), record.partition.0);
                if watermarks.get(&key).is_none_or(|known| known.seq <= record.seq) {
                    watermarks.insert(key, record);
                }
            }
            OutRecord::Identity(_) | OutRecord::Membership(_) | OutRecord::MembershipChange(_) => {
                let what = format!("the counts sink was given a record of {}", delivery.topic.name());
                return Err(Fault::bug(what));
            }
        }
    }
    for record in counts.into_values() {
        batch.counts.push(record);
    }
    for record in watermarks.into_values() {
        batch.watermarks.push(record);
    }
    Ok(batch)
}

/// Whether the tables can hold a count.
fn fits(record: &CountRecord, preset: Preset) -> Result<(), String> {
    for (name, number) in [("count", record.count), ("seq", record.seq.0)] {
        if i64::try_from(number).is_err() {
            return Err(format!("its {name} is beyond 63 bits"));
        }
    }
    let ids = [("segment", record.segment_id.as_str()), ("environment", record.environment_id.as_str())];
    for (name, id) in ids {
        let as_number = id.parse::<i32>().is_ok_and(|number| number.to_string() == id);
        match preset {
            Preset::Flagsmith if !as_number => {
                return Err(format!("{name} id '{id}' is not a 32-bit integer, which Flagsmith's ids are"));
            }
            Preset::Flagsmith | Preset::Native if id.contains('\0') => {
                return Err(format!("its {name} id holds a NUL, which Postgres can't store"));
            }
            Preset::Flagsmith | Preset::Native => {}
        }
    }
    Ok(())
}

impl Counts {
    fn push(&mut self, record: &CountRecord) {
        let (state, reason) = match &record.state {
            CountState::Live => ("live", None),
            CountState::Filling => ("filling", None),
            CountState::Unsupported { reason } => ("unsupported", Some(reason.replace('\0', "\u{fffd}"))),
            CountState::Removed => ("removed", None),
        };
        self.segment_ids.push(record.segment_id.as_str().to_owned());
        self.environment_ids.push(record.environment_id.as_str().to_owned());
        self.partitions.push(i32::from(record.partition.0));
        self.counts.push(record.count.cast_signed());
        self.fingerprints.push(record.fingerprint.into());
        self.seqs.push(record.seq.0.cast_signed());
        self.states.push(state);
        self.reasons.push(reason);
    }
    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }
}

impl Watermarks {
    /// The last microsecond that Postgres' readers can be expected to print; a clock beyond it is broken.
    const AT_US_MAX: i64 = 253_402_300_799_999_999;

    fn push(&mut self, record: &WatermarkRecord) {
        self.sources.push(record.source.as_str().replace('\0', "\u{fffd}"));
        self.partitions.push(i32::from(record.partition.0));
        self.positions.push(record.position.replace('\0', "\u{fffd}"));
        self.at_us.push(record.at_us.clamp(0, Self::AT_US_MAX));
        self.seqs.push(record.seq.0.cast_signed());
    }
    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
