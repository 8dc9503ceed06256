//! The columns of each table. Equal to `schemas/arrow/<name>.v<version>.json`.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, make_builder};
use arrow_array::{
    ArrayRef, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

/// The type of a column; none is nullable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// Text.
    Utf8,
    /// Microseconds since 1970, UTC.
    TimestampUs,
    /// 8 bits, unsigned.
    UInt8,
    /// 16 bits, unsigned.
    UInt16,
    /// 64 bits, unsigned.
    UInt64,
    /// Any number of values.
    List(&'static Self),
    /// Fields beside one another.
    Struct(&'static [Column]),
}

impl ColumnType {
    /// Its name in the schema files.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Utf8 => "utf8".to_owned(),
            Self::TimestampUs => "timestamp[us, UTC]".to_owned(),
            Self::UInt8 => "uint8".to_owned(),
            Self::UInt16 => "uint16".to_owned(),
            Self::UInt64 => "uint64".to_owned(),
            Self::List(item) => format!("list<{}>", item.name()),
            Self::Struct(columns) => {
                let fields: Vec<_> =
                    columns.iter().map(|c| format!("{}: {}", c.name, c.column_type.name())).collect();
                format!("struct<{}>", fields.join(", "))
            }
        }
    }

    /// The Arrow type.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::Utf8 => DataType::Utf8,
            Self::TimestampUs => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt64 => DataType::UInt64,
            Self::List(item) => DataType::List(Arc::new(item.element())),
            Self::Struct(columns) => DataType::Struct(fields(columns)),
        }
    }

    /// How many columns without parts it is, as Parquet stores it.
    #[must_use]
    pub fn leaves(self) -> usize {
        match self {
            Self::Utf8 | Self::TimestampUs | Self::UInt8 | Self::UInt16 | Self::UInt64 => 1,
            Self::List(item) => item.leaves(),
            Self::Struct(columns) => columns.iter().map(|c| c.column_type.leaves()).sum(),
        }
    }

    /// The column in rows of an older version, which hasn't it: zero, no text, no values.
    #[must_use]
    pub fn absent(self, rows: usize) -> ArrayRef {
        match self {
            Self::Utf8 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", rows))),
            Self::TimestampUs => {
                Arc::new(TimestampMicrosecondArray::from_value(0, rows).with_timezone("UTC"))
            }
            Self::UInt8 => Arc::new(UInt8Array::from_value(0, rows)),
            Self::UInt16 => Arc::new(UInt16Array::from_value(0, rows)),
            Self::UInt64 => Arc::new(UInt64Array::from_value(0, rows)),
            Self::List(item) => {
                let values = make_builder(&item.arrow(), 0);
                let mut lists = ListBuilder::new(values).with_field(item.element());
                (0..rows).for_each(|_| lists.append(true));
                Arc::new(lists.finish())
            }
            Self::Struct(columns) => {
                let values = columns.iter().map(|c| c.column_type.absent(rows)).collect();
                Arc::new(StructArray::new(fields(columns), values, None))
            }
        }
    }

    /// The field of a list's values, named as Parquet's specification wants it.
    pub(crate) fn element(self) -> Field {
        Field::new("element", self.arrow(), false)
    }
}

pub(crate) fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(|c| Field::new(c.name, c.column_type.arrow(), false)).collect()
}

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name, the same in Arrow and in ClickHouse.
    pub name: &'static str,
    /// Its type.
    pub column_type: ColumnType,
}

/// The columns of a table, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSchema {
    /// Its name.
    pub name: &'static str,
    /// Grows with every change.
    pub version: u32,
    /// The columns.
    pub columns: &'static [Column],
}

impl TableSchema {
    /// The Arrow schema.
    #[must_use]
    pub fn arrow(&self) -> Arc<Schema> {
        Arc::new(Schema::new(fields(self.columns)))
    }
}

pub(crate) const fn column(name: &'static str, column_type: ColumnType) -> Column {
    Column { name, column_type }
}

/// The merged images.
pub const IDENTITIES: TableSchema = TableSchema {
    name: "identities",
    version: 1,
    columns: &[
        column("environment_id", ColumnType::Utf8),
        column("id", ColumnType::Utf8),
        column("identifier", ColumnType::Utf8),
        column("identity_key", ColumnType::Utf8),
        column("traits", ColumnType::Utf8),
        column("traits_tagged", ColumnType::Utf8),
        column("system_traits", ColumnType::Utf8),
        column("inserted_at", ColumnType::TimestampUs),
        column("is_deleted", ColumnType::UInt8),
        column("source", ColumnType::Utf8),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
    ],
};

/// Who is in which segment.
pub const MEMBERSHIPS: TableSchema = TableSchema {
    name: "memberships",
    version: 1,
    columns: &[
        column("segment_id", ColumnType::Utf8),
        column("environment_id", ColumnType::Utf8),
        column("platform_environment_id", ColumnType::Utf8),
        column("id", ColumnType::Utf8),
        column("since", ColumnType::TimestampUs),
        column("inserted_at", ColumnType::TimestampUs),
        column("is_deleted", ColumnType::UInt8),
        column("source", ColumnType::Utf8),
        column("partition", ColumnType::UInt16),
        column("seq", ColumnType::UInt64),
        column("log_id", ColumnType::Utf8),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::LAKE_TABLES;

    /// A published schema never changes: a new version is a new file.
    #[test]
    fn equal_to_the_published_files() {
        let files = [
            (IDENTITIES, include_str!("../../../schemas/arrow/identities.v1.json")),
            (MEMBERSHIPS, include_str!("../../../schemas/arrow/memberships.v1.json")),
            (LAKE_TABLES[0].schema, include_str!("../../../schemas/arrow/lake_identities.v1.json")),
            (LAKE_TABLES[1].schema, include_str!("../../../schemas/arrow/lake_memberships.v1.json")),
            (LAKE_TABLES[2].schema, include_str!("../../../schemas/arrow/lake_membership_changes.v1.json")),
            (LAKE_TABLES[3].schema, include_str!("../../../schemas/arrow/lake_segment_counts.v1.json")),
        ];
        for (schema, text) in files {
            let file: serde_json::Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(file["name"], schema.name);
            assert_eq!(file["version"], schema.version);
            let published: Vec<(String, String)> = file["columns"]
                .as_array()
                .expect("columns")
                .iter()
                .map(|c| {
                    assert!(c["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{c} has no doc");
                    (c["name"].as_str().expect("name").into(), c["type"].as_str().expect("type").into())
                })
                .collect();
            let here: Vec<(String, String)> =
                schema.columns.iter().map(|c| (c.name.into(), c.column_type.name())).collect();
            assert_eq!(here, published, "{}", schema.name);
        }
    }
}
