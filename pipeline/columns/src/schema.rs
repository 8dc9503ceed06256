//! The columns of each table. Equal to `schemas/arrow/<name>.v<version>.json`.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

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
}

impl ColumnType {
    /// Its name in the schema files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::TimestampUs => "timestamp[us, UTC]",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt64 => "uint64",
        }
    }

    fn arrow(self) -> DataType {
        match self {
            Self::Utf8 => DataType::Utf8,
            Self::TimestampUs => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt64 => DataType::UInt64,
        }
    }
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
        let fields: Vec<_> =
            self.columns.iter().map(|c| Field::new(c.name, c.column_type.arrow(), false)).collect();
        Arc::new(Schema::new(fields))
    }
}

const fn column(name: &'static str, column_type: ColumnType) -> Column {
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

    /// A published schema never changes: a new version is a new file.
    #[test]
    fn equal_to_the_published_files() {
        let files = [
            (IDENTITIES, include_str!("../../../schemas/arrow/identities.v1.json")),
            (MEMBERSHIPS, include_str!("../../../schemas/arrow/memberships.v1.json")),
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
                schema.columns.iter().map(|c| (c.name.into(), c.column_type.name().into())).collect();
            assert_eq!(here, published, "{}", schema.name);
        }
    }
}
