//! Each partition's part of a count: a row per count.

use std::sync::Arc;

use arrow_array::builder::{StringBuilder, UInt16Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use rollcall_model::{CountRecord, CountState, Fault, Fingerprint, LogId, OutRecord, Partition, Seq};

use super::read::Columns;
use super::write::{finish, foreign};
use crate::schema::{ColumnType, TableSchema, column};

/// Its columns.
pub(super) const SCHEMA: TableSchema = TableSchema {
    name: "lake_segment_counts",
    version: 1,
    columns: &[
        column("segment_id", ColumnType::Utf8),
        column("environment_id", ColumnType::Utf8),
        column("count", ColumnType::UInt64),
        column("fingerprint", ColumnType::UInt64),
        column("state", ColumnType::Utf8),
        column("reason", ColumnType::Utf8),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
    ],
};

#[derive(Default)]
struct Rows {
    segment_id: StringBuilder,
    environment_id: StringBuilder,
    count: UInt64Builder,
    fingerprint: UInt64Builder,
    state: StringBuilder,
    reason: StringBuilder,
    partition: UInt16Builder,
    seq: UInt64Builder,
    log_id: StringBuilder,
}

pub(super) fn batch<'a>(records: impl Iterator<Item = &'a OutRecord>) -> Result<RecordBatch, Fault> {
    let mut rows = Rows::default();
    for record in records {
        match record {
            OutRecord::Count(count) => rows.push(count),
            OutRecord::Watermark(_) => {}
            OutRecord::Identity(_) | OutRecord::Membership(_) | OutRecord::MembershipChange(_) => {
                return Err(foreign(&SCHEMA, record));
            }
        }
    }
    rows.finish()
}

impl Rows {
    fn push(&mut self, count: &CountRecord) {
        let (state, reason) = match &count.state {
            CountState::Live => ("live", ""),
            CountState::Filling => ("filling", ""),
            CountState::Unsupported { reason } => ("unsupported", reason.as_str()),
            CountState::Removed => ("removed", ""),
        };
        self.segment_id.append_value(count.segment_id.as_str());
        self.environment_id.append_value(count.environment_id.as_str());
        self.count.append_value(count.count);
        self.fingerprint.append_value(count.fingerprint.0);
        self.state.append_value(state);
        self.reason.append_value(reason);
        self.partition.append_value(count.partition.0);
        self.seq.append_value(count.seq.0);
        self.log_id.append_value(&count.log_id.0);
    }

    fn finish(mut self) -> Result<RecordBatch, Fault> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.segment_id.finish()),
            Arc::new(self.environment_id.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.fingerprint.finish()),
            Arc::new(self.state.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.log_id.finish()),
        ];
        finish(&SCHEMA, columns)
    }
}

pub(super) fn records(batch: &RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    let columns = Columns::of(&SCHEMA, batch);
    let (segment_id, environment_id) = (columns.text("segment_id")?, columns.text("environment_id")?);
    let (count, fingerprint) = (columns.u64("count")?, columns.u64("fingerprint")?);
    let (state, reason) = (columns.text("state")?, columns.text("reason")?);
    let (partition, seq) = (columns.u16("partition")?, columns.u64("seq")?);
    let log_id = columns.text("log_id")?;
    let record = |row: usize| {
        let state = match state.value(row) {
            "live" => CountState::Live,
            "filling" => CountState::Filling,
            "unsupported" => CountState::Unsupported { reason: reason.value(row).to_owned() },
            "removed" => CountState::Removed,
            _ => return Err(columns.wrong_row(row, "its state is unknown")),
        };
        Ok(OutRecord::Count(CountRecord {
            log_id: LogId(log_id.value(row).to_owned()),
            segment_id: segment_id.value(row).into(),
            environment_id: environment_id.value(row).into(),
            partition: Partition(partition.value(row)),
            count: count.value(row),
            fingerprint: Fingerprint(fingerprint.value(row)),
            seq: Seq(seq.value(row)),
            state,
        }))
    };
    (0..batch.num_rows()).map(record).collect()
}
