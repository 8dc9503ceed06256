//! Who entered and left: a row per event.

use std::sync::Arc;

use arrow_array::builder::{
    ListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt16Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use rollcall_model::{Cause, Fault, LogId, MembershipChange, OutRecord, Partition, SegmentId, Seq, Version};

use super::read::{Columns, texts_of};
use super::write::{IdColumns, finish, foreign, push_texts, texts};
use crate::schema::{ColumnType, TableSchema, column};

/// Its columns.
pub(super) const SCHEMA: TableSchema = TableSchema {
    name: "lake_membership_changes",
    version: 1,
    columns: &[
        column("event_id", ColumnType::Utf8),
        column("environment_id", ColumnType::Utf8),
        column("platform_environment_id", ColumnType::Utf8),
        column("source", ColumnType::Utf8),
        column("id", ColumnType::Utf8),
        column("id_is_number", ColumnType::UInt8),
        column("identifier", ColumnType::Utf8),
        column("identity_key", ColumnType::Utf8),
        column("inserted_at", ColumnType::TimestampUs),
        column("changed", ColumnType::List(&ColumnType::Utf8)),
        column("entered", ColumnType::List(&ColumnType::Utf8)),
        column("left", ColumnType::List(&ColumnType::Utf8)),
        column("cause", ColumnType::Utf8),
        column("at", ColumnType::TimestampUs),
        column("position", ColumnType::Utf8),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
    ],
};

struct Rows {
    event_id: StringBuilder,
    environment_id: StringBuilder,
    platform_environment_id: StringBuilder,
    source: StringBuilder,
    id: IdColumns,
    identifier: StringBuilder,
    identity_key: StringBuilder,
    inserted_at: TimestampMicrosecondBuilder,
    changed: ListBuilder<StringBuilder>,
    entered: ListBuilder<StringBuilder>,
    left: ListBuilder<StringBuilder>,
    cause: StringBuilder,
    at: TimestampMicrosecondBuilder,
    position: StringBuilder,
    partition: UInt16Builder,
    seq: UInt64Builder,
    log_id: StringBuilder,
}

pub(super) fn batch<'a>(
    partition: Partition,
    records: impl Iterator<Item = &'a OutRecord>,
) -> Result<RecordBatch, Fault> {
    let mut rows = Rows::new();
    for record in records {
        match record {
            OutRecord::MembershipChange(change) => rows.push(partition, change),
            OutRecord::Watermark(_) => {}
            OutRecord::Identity(_) | OutRecord::Membership(_) | OutRecord::Count(_) => {
                return Err(foreign(&SCHEMA, record));
            }
        }
    }
    rows.finish()
}

impl Rows {
    fn new() -> Self {
        Self {
            event_id: StringBuilder::new(),
            environment_id: StringBuilder::new(),
            platform_environment_id: StringBuilder::new(),
            source: StringBuilder::new(),
            id: IdColumns::default(),
            identifier: StringBuilder::new(),
            identity_key: StringBuilder::new(),
            inserted_at: TimestampMicrosecondBuilder::new(),
            changed: texts(),
            entered: texts(),
            left: texts(),
            cause: StringBuilder::new(),
            at: TimestampMicrosecondBuilder::new(),
            position: StringBuilder::new(),
            partition: UInt16Builder::new(),
            seq: UInt64Builder::new(),
            log_id: StringBuilder::new(),
        }
    }

    fn push(&mut self, partition: Partition, change: &MembershipChange) {
        self.event_id.append_value(&change.event_id);
        self.environment_id.append_value(&change.environment_key);
        self.platform_environment_id.append_value(change.environment_id.as_str());
        self.source.append_value(change.source.as_str());
        self.id.push(&change.id);
        self.identifier.append_value(&change.identifier);
        self.identity_key.append_value(&change.identity_key);
        self.inserted_at.append_value(change.version.0);
        push_texts(&mut self.changed, change.changed.iter().map(String::as_str));
        push_texts(&mut self.entered, change.entered.iter().map(SegmentId::as_str));
        push_texts(&mut self.left, change.left.iter().map(SegmentId::as_str));
        self.cause.append_value(cause_text(change.cause));
        self.at.append_value(change.at_us);
        self.position.append_value(&change.position);
        self.partition.append_value(partition.0);
        self.seq.append_value(change.seq.0);
        self.log_id.append_value(&change.log_id.0);
    }

    fn finish(mut self) -> Result<RecordBatch, Fault> {
        let [id, id_is_number] = self.id.finish();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            Arc::new(self.environment_id.finish()),
            Arc::new(self.platform_environment_id.finish()),
            Arc::new(self.source.finish()),
            id,
            id_is_number,
            Arc::new(self.identifier.finish()),
            Arc::new(self.identity_key.finish()),
            Arc::new(self.inserted_at.finish().with_timezone("UTC")),
            Arc::new(self.changed.finish()),
            Arc::new(self.entered.finish()),
            Arc::new(self.left.finish()),
            Arc::new(self.cause.finish()),
            Arc::new(self.at.finish().with_timezone("UTC")),
            Arc::new(self.position.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.log_id.finish()),
        ];
        finish(&SCHEMA, columns)
    }
}

const CAUSES: [Cause; 6] =
    [Cause::Change, Cause::Definition, Cause::Gate, Cause::Manual, Cause::Expiry, Cause::Repair];

/// As in the topic.
const fn cause_text(cause: Cause) -> &'static str {
    match cause {
        Cause::Change => "change",
        Cause::Definition => "definition",
        Cause::Gate => "gate",
        Cause::Manual => "manual",
        Cause::Expiry => "expiry",
        Cause::Repair => "repair",
    }
}

pub(super) fn records(batch: &RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    let columns = Columns::of(&SCHEMA, batch);
    let (event_id, source, ids) = (columns.text("event_id")?, columns.text("source")?, columns.ids()?);
    let environment_key = columns.text("environment_id")?;
    let environment_id = columns.text("platform_environment_id")?;
    let (identifier, identity_key) = (columns.text("identifier")?, columns.text("identity_key")?);
    let (version, at) = (columns.micros("inserted_at")?, columns.micros("at")?);
    let changed = columns.list("changed")?;
    let (entered, left) = (columns.list("entered")?, columns.list("left")?);
    let (cause, position) = (columns.text("cause")?, columns.text("position")?);
    let (seq, log_id) = (columns.u64("seq")?, columns.text("log_id")?);
    let record = |row: usize| {
        let cause = CAUSES.into_iter().find(|known| cause_text(*known) == cause.value(row));
        Ok(OutRecord::MembershipChange(MembershipChange {
            event_id: event_id.value(row).to_owned(),
            log_id: LogId(log_id.value(row).to_owned()),
            environment_id: environment_id.value(row).into(),
            environment_key: environment_key.value(row).to_owned(),
            source: source.value(row).into(),
            id: ids.get(&columns, row)?,
            identifier: identifier.value(row).to_owned(),
            identity_key: identity_key.value(row).to_owned(),
            version: Version(version.value(row)),
            seq: Seq(seq.value(row)),
            changed: texts_of(changed, row).into_iter().collect(),
            entered: texts_of(entered, row).into_iter().map(SegmentId::from).collect(),
            left: texts_of(left, row).into_iter().map(SegmentId::from).collect(),
            cause: cause.ok_or_else(|| columns.wrong_row(row, "its cause is unknown"))?,
            at_us: at.value(row),
            position: position.value(row).to_owned(),
        }))
    };
    (0..batch.num_rows()).map(record).collect()
}
