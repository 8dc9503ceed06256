//! One file against its line of the manifest.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt16Type;
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use crate::file::{FileReader, check_file};
use crate::manifest::ListedFile;
use crate::rows::{Order, numbers};

/// The first and last key of a file, in a form that compares as they do; `None` without rows.
pub(super) type Ends = Option<(Vec<u8>, Vec<u8>)>;

/// Reads all of a file.
///
/// # Errors
/// A [`Fault`] of kind `Refused` that says what differs.
pub(super) fn check(path: &Path, table: &LakeTable, listed: &ListedFile) -> Result<Ends, Fault> {
    check_file(path, listed.bytes, &listed.sha256)?;
    let mut content = Content::new(table)?;
    for batch in FileReader::open(path, table)? {
        content.take(table, listed, &batch?)?;
    }
    content.compare(listed)?;
    Ok(content.first.zip(content.last_key))
}

struct Content {
    order: Order,
    keys: Order,
    rows: u64,
    versions: Option<(i64, i64)>,
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
    last_key: Option<Vec<u8>>,
}

impl Content {
    fn new(table: &LakeTable) -> Result<Self, Fault> {
        let (order, keys) = (Order::of_rows(table)?, Order::of_keys(table)?);
        Ok(Self { order, keys, rows: 0, versions: None, first: None, last: None, last_key: None })
    }

    fn take(&mut self, table: &LakeTable, listed: &ListedFile, batch: &RecordBatch) -> Result<(), Fault> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.in_order(table, batch)?;
        let range = listed.range;
        for seq in numbers(table, "seq", batch)? {
            let seq = seq.unsigned_abs();
            if seq < range.first_seq.0 || seq > range.last_seq.0 {
                return Err(Fault::refused(format!(
                    "it holds a row of commit {seq}, which is not of its range"
                )));
            }
        }
        if let Some(column) =
            batch.column_by_name("partition").and_then(|column| column.as_primitive_opt::<UInt16Type>())
            && let Some(other) = column.values().iter().find(|partition| **partition != range.partition.0)
        {
            return Err(Fault::refused(format!("it holds a row of partition {other}")));
        }
        for version in numbers(table, table.version, batch)? {
            let (min, max) = self.versions.unwrap_or((version, version));
            self.versions = Some((min.min(version), max.max(version)));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn in_order(&mut self, table: &LakeTable, batch: &RecordBatch) -> Result<(), Fault> {
        let rows = self.order.rows(table, batch)?;
        for row in &rows {
            if self.last.as_deref().is_some_and(|last| last > row.as_ref()) {
                return Err(Fault::refused("its rows are not in order"));
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(row.as_ref());
        }
        let keys = self.keys.rows(table, batch)?;
        if self.first.is_none() {
            self.first = Some(keys.row(0).as_ref().to_vec());
        }
        self.last_key = Some(keys.row(keys.num_rows() - 1).as_ref().to_vec());
        Ok(())
    }

    fn compare(&self, listed: &ListedFile) -> Result<(), Fault> {
        let versions = self.versions.unwrap_or_default();
        let differs = |what: &str, here: String, there: String| {
            Err(Fault::refused(format!("it has {here} {what}, and the manifest says {there}")))
        };
        if self.rows != listed.rows {
            return differs("rows", self.rows.to_string(), listed.rows.to_string());
        }
        if versions != (listed.min_version, listed.max_version) {
            let (here, there) = (versions, (listed.min_version, listed.max_version));
            return differs("as lowest and highest version", format!("{here:?}"), format!("{there:?}"));
        }
        Ok(())
    }
}
