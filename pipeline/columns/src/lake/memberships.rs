//! The current set of an identity: a row per set.

use std::sync::Arc;

use arrow_array::builder::{
    ListBuilder, StringBuilder, StructBuilder, TimestampMicrosecondBuilder, UInt16Builder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::DataType;
use rollcall_model::{Fault, LogId, Member, MembershipRecord, OutRecord, Partition, Seq, Version};

use super::read::{Columns, structs_of, texts_of};
use super::write::{IdColumns, finish, foreign, push_texts, texts};
use crate::schema::{Column, ColumnType, TableSchema, column, fields};

const MEMBER: &[Column] = &[
    column("segment_id", ColumnType::Utf8),
    column("since", ColumnType::TimestampUs),
    column("sources", ColumnType::List(&ColumnType::Utf8)),
];

/// Its columns.
pub(super) const SCHEMA: TableSchema = TableSchema {
    name: "lake_memberships",
    version: 1,
    columns: &[
        column("source", ColumnType::Utf8),
        column("id", ColumnType::Utf8),
        column("id_is_number", ColumnType::UInt8),
        column("environment_id", ColumnType::Utf8),
        column("platform_environment_id", ColumnType::Utf8),
        column("identifier", ColumnType::Utf8),
        column("segments", ColumnType::List(&ColumnType::Struct(MEMBER))),
        column("inserted_at", ColumnType::TimestampUs),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
    ],
};

struct Rows {
    source: StringBuilder,
    id: IdColumns,
    environment_id: StringBuilder,
    platform_environment_id: StringBuilder,
    identifier: StringBuilder,
    segments: ListBuilder<StructBuilder>,
    inserted_at: TimestampMicrosecondBuilder,
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
            OutRecord::Membership(record) => rows.push(partition, record)?,
            OutRecord::Watermark(_) => {}
            OutRecord::Identity(_) | OutRecord::MembershipChange(_) | OutRecord::Count(_) => {
                return Err(foreign(&SCHEMA, record));
            }
        }
    }
    rows.finish()
}

impl Rows {
    fn new() -> Self {
        let timestamps = TimestampMicrosecondBuilder::new().with_data_type(ColumnType::TimestampUs.arrow());
        let member = StructBuilder::new(
            fields(MEMBER),
            vec![Box::new(StringBuilder::new()), Box::new(timestamps), Box::new(texts())],
        );
        Self {
            source: StringBuilder::new(),
            id: IdColumns::default(),
            environment_id: StringBuilder::new(),
            platform_environment_id: StringBuilder::new(),
            identifier: StringBuilder::new(),
            segments: ListBuilder::new(member).with_field(ColumnType::Struct(MEMBER).element()),
            inserted_at: TimestampMicrosecondBuilder::new(),
            partition: UInt16Builder::new(),
            seq: UInt64Builder::new(),
            log_id: StringBuilder::new(),
        }
    }

    fn push(&mut self, partition: Partition, record: &MembershipRecord) -> Result<(), Fault> {
        self.source.append_value(record.source.as_str());
        self.id.push(&record.id);
        self.environment_id.append_value(&record.environment_key);
        self.platform_environment_id.append_value(record.environment_id.as_str());
        self.identifier.append_value(&record.identifier);
        for member in &record.segments {
            push_member(self.segments.values(), member)?;
        }
        self.segments.append(true);
        self.inserted_at.append_value(record.version.0);
        self.partition.append_value(partition.0);
        self.seq.append_value(record.seq.0);
        self.log_id.append_value(&record.log_id.0);
        Ok(())
    }

    fn finish(mut self) -> Result<RecordBatch, Fault> {
        let [id, id_is_number] = self.id.finish();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.source.finish()),
            id,
            id_is_number,
            Arc::new(self.environment_id.finish()),
            Arc::new(self.platform_environment_id.finish()),
            Arc::new(self.identifier.finish()),
            Arc::new(self.segments.finish()),
            Arc::new(self.inserted_at.finish().with_timezone("UTC")),
            Arc::new(self.partition.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.log_id.finish()),
        ];
        finish(&SCHEMA, columns)
    }
}

fn push_member(members: &mut StructBuilder, member: &Member) -> Result<(), Fault> {
    let wrong = || Fault::bug("the fields of a member have moved");
    let segment_id = members.field_builder::<StringBuilder>(0).ok_or_else(wrong)?;
    segment_id.append_value(member.segment_id.as_str());
    let since = members.field_builder::<TimestampMicrosecondBuilder>(1).ok_or_else(wrong)?;
    since.append_value(member.since_us);
    let sources = members.field_builder::<ListBuilder<StringBuilder>>(2).ok_or_else(wrong)?;
    push_texts(sources, member.sources.iter().map(String::as_str));
    members.append(true);
    Ok(())
}

pub(super) fn records(batch: &RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    let columns = Columns::of(&SCHEMA, batch);
    let (source, ids) = (columns.text("source")?, columns.ids()?);
    let environment_key = columns.text("environment_id")?;
    let environment_id = columns.text("platform_environment_id")?;
    let identifier = columns.text("identifier")?;
    let segments = columns.list("segments")?;
    let (version, seq) = (columns.micros("inserted_at")?, columns.u64("seq")?);
    let log_id = columns.text("log_id")?;
    let record = |row: usize| {
        Ok(OutRecord::Membership(MembershipRecord {
            log_id: LogId(log_id.value(row).to_owned()),
            seq: Seq(seq.value(row)),
            version: Version(version.value(row)),
            source: source.value(row).into(),
            id: ids.get(&columns, row)?,
            environment_id: environment_id.value(row).into(),
            environment_key: environment_key.value(row).to_owned(),
            identifier: identifier.value(row).to_owned(),
            segments: members(&structs_of(segments, row)),
        }))
    };
    (0..batch.num_rows()).map(record).collect()
}

fn members(structs: &StructArray) -> Vec<Member> {
    debug_assert_eq!(structs.data_type(), &DataType::Struct(fields(MEMBER)));
    let segment_id = structs.column(0).as_string::<i32>();
    let since = structs.column(1).as_primitive::<TimestampMicrosecondType>();
    let sources = structs.column(2).as_list::<i32>();
    let member = |row: usize| Member {
        segment_id: segment_id.value(row).into(),
        since_us: since.value(row),
        sources: texts_of(sources, row),
    };
    (0..structs.len()).map(member).collect()
}
