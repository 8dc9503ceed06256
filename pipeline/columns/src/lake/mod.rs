//! The lake's tables: each the archive of one topic, whose records come back from the rows as they were.
//!
//! ```text
//! OutRecord ──lake_batch──▶ identities           the row that ClickHouse gets, a deleted row per environment left,
//!                           │                      and `record`: what has no column of its own
//!                           memberships          a row per set
//!                           membership_changes   a row per event
//!                           segment_counts       a row per count
//! OutRecord ◀─lake_records─ their rows, in any order: a row stands for itself
//! ```
//!
//! What a column says stands nowhere else, so no two places of a row can contradict each other. A column that a later
//! version adds is empty in the rows of an older one: zero, no text, no values.

mod identities;
mod membership_changes;
mod memberships;
mod read;
mod segment_counts;
mod write;

#[cfg(test)]
mod tests;

use arrow_array::RecordBatch;
use rollcall_model::{Fault, OutRecord, Partition, Topic};

use crate::schema::TableSchema;

/// A table of the lake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LakeTable {
    /// The topic whose records it holds.
    pub topic: Topic,
    /// Its folder; the schema is called `lake_` and this.
    pub name: &'static str,
    /// Its columns.
    pub schema: TableSchema,
    /// What rows are in order of, inside a file.
    pub sort: &'static [&'static str],
    /// What rows of one thing share: the one with the highest version is what it is. Empty for events.
    pub key: &'static [&'static str],
    /// The column that grows with each row of a key.
    pub version: &'static str,
    /// The column with the time by the source's clock, where rows are events.
    pub event: Option<&'static str>,
}

/// All of them.
pub const LAKE_TABLES: [LakeTable; 4] = [
    LakeTable {
        topic: Topic::Identities,
        name: "identities",
        schema: identities::SCHEMA,
        // Two sources may have the same id where an environment is known of neither.
        sort: &["environment_id", "id", "source", "inserted_at"],
        key: &["environment_id", "id", "source"],
        version: "inserted_at",
        event: None,
    },
    LakeTable {
        topic: Topic::Memberships,
        name: "memberships",
        schema: memberships::SCHEMA,
        // A set belongs to an identity wherever it lives.
        sort: &["id", "source", "inserted_at"],
        key: &["id", "source"],
        version: "inserted_at",
        event: None,
    },
    LakeTable {
        topic: Topic::MembershipChanges,
        name: "membership_changes",
        schema: membership_changes::SCHEMA,
        sort: &["environment_id", "id", "inserted_at"],
        key: &[],
        version: "inserted_at",
        event: Some("at"),
    },
    LakeTable {
        topic: Topic::SegmentCounts,
        name: "segment_counts",
        schema: segment_counts::SCHEMA,
        sort: &["environment_id", "segment_id", "seq"],
        // In its partition, as every key: each has its own part of a count.
        key: &["environment_id", "segment_id"],
        version: "seq",
        event: None,
    },
];

impl LakeTable {
    /// The table of a topic; `None` for topics that the lake doesn't keep.
    #[must_use]
    pub fn of(topic: Topic) -> Option<&'static Self> {
        static TABLES: [LakeTable; 4] = LAKE_TABLES;
        TABLES.iter().find(|table| table.topic == topic)
    }
}

/// The rows of records of the table's topic, in order. Watermarks, which may stand among them, have none.
///
/// # Errors
/// A [`Fault`] of kind `Bug`: a record of another topic. No record of its own can cause one.
pub fn lake_batch<'a>(
    table: &LakeTable,
    partition: Partition,
    records: impl IntoIterator<Item = &'a OutRecord>,
) -> Result<RecordBatch, Fault> {
    let records = records.into_iter();
    match table.topic {
        Topic::Identities => identities::batch(records),
        Topic::Memberships => memberships::batch(partition, records),
        Topic::MembershipChanges => membership_changes::batch(partition, records),
        Topic::SegmentCounts => segment_counts::batch(records),
        Topic::IdentityChanges
        | Topic::Catalog
        | Topic::CatalogRows
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => Err(no_table(table)),
    }
}

/// The records that rows of the table stand for, in order: what [`lake_batch`] was given. A deleted row of an
/// environment left stands for none.
///
/// # Errors
/// A [`Fault`] of kind `Refused` when the rows are not what [`lake_batch`] makes.
pub fn lake_records(table: &LakeTable, batch: &RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    match table.topic {
        Topic::Identities => identities::records(batch),
        Topic::Memberships => memberships::records(batch),
        Topic::MembershipChanges => membership_changes::records(batch),
        Topic::SegmentCounts => segment_counts::records(batch),
        Topic::IdentityChanges
        | Topic::Catalog
        | Topic::CatalogRows
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => Err(no_table(table)),
    }
}

fn no_table(table: &LakeTable) -> Fault {
    Fault::bug(format!("the lake keeps no topic {}", table.topic.name()))
}
