//! Rows as a source yields them, before a platform reads meaning into them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One value of a row, decoded without loss.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// bool.
    Bool(bool),
    /// int2, int4, int8.
    Int(i64),
    /// float4, float8.
    Float(#[serde(with = "float_text")] f64),
    /// text, varchar, and every type that has no form of its own here, as the source writes it.
    Text(String),
    /// uuid as text.
    Uuid(String),
    /// json or jsonb, its text.
    Json(String),
    /// timestamptz or timestamp in microseconds since 1970; `i64::MAX` and `i64::MIN` are plus and minus infinity.
    TimestampUs(i64),
    /// Not sent, because it did not change (TOAST).
    Unchanged,
}

/// JSON has no NaN and no infinity: floats of a row stand as text.
mod float_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{x:?}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A row: the columns that came, by name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Column names, shared by the rows of a table.
    pub columns: Arc<[Arc<str>]>,
    /// One cell per column.
    pub cells: Vec<Cell>,
}

impl Row {
    /// The cell of a column; `None` when the source has no such column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Cell> {
        let index = self.columns.iter().position(|name| &**name == column)?;
        self.cells.get(index)
    }
}

/// What happened to a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOp {
    /// It came.
    Insert(Row),
    /// It changed. `old` holds the key, or all of it, where the source sends that.
    Update {
        /// Before, as far as sent.
        old: Option<Row>,
        /// After; may hold [`Cell::Unchanged`].
        new: Row,
    },
    /// It went; holds at least the key.
    Delete(Row),
}

/// A row change of a named table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RowChange {
    /// The table, without schema.
    pub table: Arc<str>,
    /// What happened.
    pub op: RowOp,
}

/// What a table means to the source's folding: which rows belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableRole {
    /// Part of the catalog, keyed by this column.
    Catalog {
        /// The primary key.
        key: &'static str,
    },
    /// One row per identity.
    Identity {
        /// The column with the native id.
        key: &'static str,
    },
    /// Rows that belong to an identity (traits).
    IdentityPart {
        /// The column with the native id of the identity.
        identity: &'static str,
        /// The columns that make a row of one identity unique, without `identity`.
        key: &'static [&'static str],
    },
}

/// A table that a platform reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSpec {
    /// Its name, without schema.
    pub name: &'static str,
    /// What its rows are.
    pub role: TableRole,
    /// Columns that must exist.
    pub columns: &'static [&'static str],
    /// Columns read where they exist (newer or older versions of the platform).
    pub optional: &'static [&'static str],
}
