//! A file's rows, in order.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use super::facts::VERIFY;
use super::{LOG_ID, SCHEMA_VERSION, TABLE};

/// Rows of a batch: a merge holds as many of each of its files.
const ROWS: usize = 4_096;

/// Reads a file batch by batch, whatever version of the schema it was written with.
pub struct FileReader {
    path: PathBuf,
    table: LakeTable,
    schema: SchemaRef,
    log_id: Option<String>,
    rows: u64,
    batches: ParquetRecordBatchReader,
    is_over: bool,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Opens a file of a table.
    ///
    /// # Errors
    /// A [`Fault`] that names the file: of kind `Refused` when it is damaged, of another table or written by a newer
    /// version; of kind `Retry` when it can't be read now.
    pub fn open(path: &Path, table: &LakeTable) -> Result<Self, Fault> {
        Self::open_at(path, table, 0)
    }

    /// Opens a file of a table after its first `rows` rows.
    ///
    /// # Errors
    /// As [`FileReader::open`].
    pub fn open_at(path: &Path, table: &LakeTable, rows: u64) -> Result<Self, Fault> {
        let file = File::open(path)
            .map_err(|e| Fault::retry(format!("can't read {}", path.display())).from_source(e))?;
        // By Parquet's own types, as every other reader sees it.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = guarded(path, || ParquetRecordBatchReaderBuilder::try_new_with_options(file, options))?
            .map_err(|e| damaged(path).from_source(e))?;
        let metadata = builder.metadata().file_metadata();
        let noted = |key: &str| {
            let entries = metadata.key_value_metadata().into_iter().flatten();
            entries.filter(|entry| entry.key == key).find_map(|entry| entry.value.clone())
        };
        check_version(path, table, noted(TABLE).as_deref(), noted(SCHEMA_VERSION).as_deref())?;
        check_columns(path, table, builder.schema())?;
        let (log_id, held) = (noted(LOG_ID), u64::try_from(metadata.num_rows()).unwrap_or_default());
        let skipped = usize::try_from(rows.min(held)).unwrap_or(usize::MAX);
        let builder = builder.with_batch_size(ROWS).with_offset(skipped);
        let batches = guarded(path, || builder.build())?.map_err(|e| damaged(path).from_source(e))?;
        let (path, schema) = (path.to_owned(), table.schema.arrow());
        Ok(Self { path, table: *table, schema, log_id, rows: held, batches, is_over: false })
    }

    /// The log that its rows came from; `None` when it has none.
    #[must_use]
    pub fn log_id(&self) -> Option<&str> {
        self.log_id.as_deref()
    }

    /// All rows that it holds, as its footer says.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows with the columns of today.
    fn widened(&self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let mut columns = batch.columns().to_vec();
        let rows = batch.num_rows();
        columns
            .extend(self.table.schema.columns.iter().skip(columns.len()).map(|c| c.column_type.absent(rows)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|e| damaged(&self.path).from_source(e))
    }
}

impl Iterator for FileReader {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = match guarded(&self.path, || self.batches.next()) {
            Ok(Some(Ok(batch))) => self.widened(&batch),
            Ok(Some(Err(error))) => Err(damaged(&self.path).from_source(error)),
            Ok(None) => return None,
            Err(fault) => Err(fault),
        };
        self.is_over = batch.is_err();
        Some(batch)
    }
}

fn damaged(path: &Path) -> Fault {
    Fault::refused(format!("{} is damaged", path.display())).repair(VERIFY)
}

/// The crate asserts on some of what a damaged file says. What it was reading is given up afterwards.
fn guarded<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| damaged(path))
}

fn check_version(
    path: &Path,
    table: &LakeTable,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<(), Fault> {
    let (file, known) = (path.display(), table.schema.version);
    let Some(name) = name else {
        return Err(Fault::refused(format!("{file} is no file that Rollcall wrote")).repair(VERIFY));
    };
    if name != table.name {
        return Err(Fault::refused(format!("{file} holds {name} instead of {}", table.name)).repair(VERIFY));
    }
    match version.and_then(|text| text.parse::<u32>().ok()) {
        None | Some(0) => Err(damaged(path)),
        Some(version) if version > known => Err(Fault::refused(format!(
            "{file} was written with version {version} of the schema of {name}, and this Rollcall knows {known}"
        ))
        .repair("read it with the newer Rollcall that wrote it")),
        Some(_) => Ok(()),
    }
}

/// A file has the columns of today, or the first of them.
fn check_columns(path: &Path, table: &LakeTable, found: &Schema) -> Result<(), Fault> {
    let wanted = table.schema.arrow();
    let is_prefix = found.fields().len() <= wanted.fields().len()
        && found.fields().iter().zip(wanted.fields()).all(|(a, b)| {
            a.name() == b.name()
                && a.data_type().equals_datatype(b.data_type())
                && a.is_nullable() == b.is_nullable()
        });
    if is_prefix {
        return Ok(());
    }
    Err(Fault::refused(format!("the columns of {} are not those of {}", path.display(), table.schema.name))
        .repair(VERIFY))
}
