//! Who entered, left or is in what, as rows of [`MEMBERSHIPS`].

use std::sync::Arc;

use arrow_array::builder::{
    StringBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use rollcall_model::{Fault, MembershipChange, MembershipRecord, Partition, Version};

use crate::schema::MEMBERSHIPS;

/// A record that says something of memberships. Neither carries its partition: the log does.
#[derive(Clone, Copy, Debug)]
pub enum MembershipRow<'a> {
    /// A row per segment entered and, deleted, per segment left.
    Change(Partition, &'a MembershipChange),
    /// A row per segment that it is in (rebuilds).
    Current(Partition, &'a MembershipRecord),
    /// A deleted row for a segment that a current set no longer holds: the set says all there is at its version.
    Superseded(Partition, &'a MembershipRecord, Superseded<'a>),
}

/// A membership that a store holds and a later set doesn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superseded<'a> {
    /// The segment.
    pub segment_id: &'a str,
    /// The platform's id of the environment it was in then.
    pub environment_id: &'a str,
    /// That environment's api key.
    pub environment_key: &'a str,
}

/// A batch with the rows of `records`, in order.
///
/// `since` of a segment entered is the source's clock at the change, as in `memberships`; so a table filled by changes
/// and one filled by a rebuild are equal.
///
/// # Errors
/// A [`Fault`] of kind `Bug`; no record can cause one.
pub fn memberships_batch<'a>(
    records: impl IntoIterator<Item = MembershipRow<'a>>,
) -> Result<RecordBatch, Fault> {
    let mut rows = Rows::default();
    for record in records {
        match record {
            MembershipRow::Change(partition, change) => rows.push_change(partition, change),
            MembershipRow::Current(partition, current) => rows.push_current(partition, current),
            MembershipRow::Superseded(partition, by, row) => rows.push_superseded(partition, by, row),
        }
    }
    rows.finish()
}

#[derive(Default)]
struct Rows {
    segment_id: StringBuilder,
    environment_id: StringBuilder,
    platform_environment_id: StringBuilder,
    id: StringBuilder,
    since: TimestampMicrosecondBuilder,
    inserted_at: TimestampMicrosecondBuilder,
    is_deleted: UInt8Builder,
    source: StringBuilder,
    partition: UInt16Builder,
    seq: UInt64Builder,
    log_id: StringBuilder,
}

impl Rows {
    fn push_change(&mut self, partition: Partition, change: &MembershipChange) {
        let id = change.id.to_string();
        let segments = (change.entered.iter().map(|s| (s, 0))).chain(change.left.iter().map(|s| (s, 1)));
        for (segment_id, is_deleted) in segments {
            self.environment_id.append_value(&change.environment_key);
            self.platform_environment_id.append_value(change.environment_id.as_str());
            self.source.append_value(change.source.as_str());
            self.seq.append_value(change.seq.0);
            self.log_id.append_value(&change.log_id.0);
            self.push_segment(partition, segment_id.as_str(), &id, change.at_us, change.version, is_deleted);
        }
    }

    fn push_current(&mut self, partition: Partition, current: &MembershipRecord) {
        let id = current.id.to_string();
        for member in &current.segments {
            self.environment_id.append_value(&current.environment_key);
            self.platform_environment_id.append_value(current.environment_id.as_str());
            self.source.append_value(current.source.as_str());
            self.seq.append_value(current.seq.0);
            self.log_id.append_value(&current.log_id.0);
            self.push_segment(
                partition,
                member.segment_id.as_str(),
                &id,
                member.since_us,
                current.version,
                0,
            );
        }
    }

    fn push_superseded(&mut self, partition: Partition, by: &MembershipRecord, row: Superseded<'_>) {
        self.environment_id.append_value(row.environment_key);
        self.platform_environment_id.append_value(row.environment_id);
        self.source.append_value(by.source.as_str());
        self.seq.append_value(by.seq.0);
        self.log_id.append_value(&by.log_id.0);
        self.push_segment(partition, row.segment_id, &by.id.to_string(), by.version.0, by.version, 1);
    }

    fn push_segment(
        &mut self,
        partition: Partition,
        segment_id: &str,
        id: &str,
        since_us: i64,
        version: Version,
        is_deleted: u8,
    ) {
        self.segment_id.append_value(segment_id);
        self.id.append_value(id);
        self.since.append_value(since_us);
        self.inserted_at.append_value(version.0);
        self.is_deleted.append_value(is_deleted);
        self.partition.append_value(partition.0);
    }

    fn finish(mut self) -> Result<RecordBatch, Fault> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.segment_id.finish()),
            Arc::new(self.environment_id.finish()),
            Arc::new(self.platform_environment_id.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.since.finish().with_timezone("UTC")),
            Arc::new(self.inserted_at.finish().with_timezone("UTC")),
            Arc::new(self.is_deleted.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.log_id.finish()),
        ];
        RecordBatch::try_new(MEMBERSHIPS.arrow(), columns)
            .map_err(|e| Fault::bug("membership rows don't fit their Arrow schema").from_source(e))
    }
}
