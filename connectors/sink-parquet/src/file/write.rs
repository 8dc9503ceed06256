//! Rows that come in order, as a file.

use std::io;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use super::facts::{FileFacts, HashedFile};
use super::properties::properties;
use super::{FileSettings, LOG_ID};

/// Writes a file row group by row group: its memory is one row group, however many rows come.
///
/// What isn't finished is no file of the lake; whoever gives up deletes it.
pub struct FileWriter {
    path: PathBuf,
    table: LakeTable,
    writer: ArrowWriter<HashedFile>,
    facts: FileFacts,
    log_id: Option<String>,
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Begins a file, over what stood there.
    ///
    /// # Errors
    /// A [`Fault`] when there can't be one, or the settings are none.
    pub fn create(path: &Path, table: &LakeTable, settings: &FileSettings) -> Result<Self, Fault> {
        let properties = properties(table, settings)?;
        let file = HashedFile::create(path).map_err(|e| cant_write(path, e))?;
        let writer = ArrowWriter::try_new(file, table.schema.arrow(), Some(properties))
            .map_err(|e| failed(path, e))?;
        let (path, facts) = (path.to_owned(), FileFacts::default());
        Ok(Self { path, table: *table, writer, facts, log_id: None })
    }

    /// Adds rows, which come after those before in the order of the table.
    ///
    /// # Errors
    /// A [`Fault`]: the disk is full, or the rows aren't of this table or of one log.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        if batch.schema().fields() != self.table.schema.arrow().fields() {
            return Err(Fault::bug(format!("rows for a file of {} have another schema", self.table.name)));
        }
        self.take_log_id(batch)?;
        self.facts.take(&self.table, batch)?;
        self.writer.write(batch).map_err(|e| failed(&self.path, e))
    }

    /// Seqs of two logs say nothing about each other, so a file holds rows of one.
    fn take_log_id(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        let column = batch.column_by_name("log_id").map(|column| column.as_string::<i32>());
        for log_id in column.into_iter().flatten().flatten() {
            match &self.log_id {
                Some(known) if known == log_id => {}
                Some(known) => {
                    return Err(Fault::refused(format!(
                        "rows of the logs {known} and {log_id} were to stand in one file of {}",
                        self.table.name
                    )));
                }
                None => self.log_id = Some(log_id.to_owned()),
            }
        }
        Ok(())
    }

    /// Ends the file. It is with the operating system then, not yet surely on the disk.
    ///
    /// # Errors
    /// A [`Fault`]: the disk is full.
    pub fn finish(mut self) -> Result<FileFacts, Fault> {
        if let Some(log_id) = self.log_id.take() {
            self.writer.append_key_value_metadata(KeyValue::new(LOG_ID.to_owned(), log_id));
        }
        let file = self.writer.into_inner().map_err(|e| failed(&self.path, e))?;
        let (bytes, sha256) = file.finish().map_err(|e| cant_write(&self.path, e))?;
        Ok(FileFacts { bytes, sha256, ..self.facts })
    }
}

fn cant_write(path: &Path, error: io::Error) -> Fault {
    Fault::retry(format!("can't write {}", path.display()))
        .from_source(error)
        .repair("give the sink's spool a folder that it may write, with room for a few files")
}

fn failed(path: &Path, error: ParquetError) -> Fault {
    let not_a_file = || format!("rows don't make the file {}", path.display());
    if let ParquetError::External(error) = error {
        return match error.downcast::<io::Error>() {
            Ok(error) => cant_write(path, *error),
            Err(error) => Fault::bug(format!("{}: {error}", not_a_file())),
        };
    }
    Fault::bug(not_a_file()).from_source(error)
}
