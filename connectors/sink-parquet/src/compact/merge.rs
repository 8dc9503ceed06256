//! Files in order become fewer files in order.
//!
//! ```text
//! reader ─┐                            ┌─ file 0: keys a … f
//! reader ─┼▶ the least row of all ─▶ picks ─▶ file 1: keys g … n     a file ends between two keys
//! reader ─┘   (heap)      │            └─ …
//!                         └─ the pick before it goes, if this row replaced it long enough ago
//! ```
//!
//! Memory is a batch per reader, the picks and the batches that they lie in, however long the files are. What a pass over some of the files
//! drops, a pass over all of them would have dropped: a row goes because of one other row that stays or is replaced
//! itself by one that does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_row::{OwnedRow, Rows};
use arrow_select::interleave::interleave_record_batch;
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use crate::file::{FileFacts, FileReader, FileSettings, FileWriter};
use crate::objects::spool_fault;
use crate::rows::{Order, numbers};

/// Rows that are written together.
const PICKS_MAX: usize = 4_096;
/// Batches that their rows may lie in. Where nearly every row is replaced, many batches have few that stay.
const BATCHES_MAX: usize = if cfg!(test) { 2 } else { 64 };

/// How files are merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub(super) table: &'static LakeTable,
    pub(super) settings: FileSettings,
    /// A row goes when a newer one of its key has a version up to this; none goes without it.
    pub(super) dropped_until: Option<i64>,
    /// Rows of a file, about.
    pub(super) file_rows: u64,
}

impl Merge {
    /// Merges files into files of a new folder. Of inputs with the same row, the later wins.
    pub(super) fn run(self, inputs: &[PathBuf], folder: &Path) -> Result<Vec<(PathBuf, FileFacts)>, Fault> {
        std::fs::create_dir_all(folder).map_err(|e| spool_fault(folder, e))?;
        let (order, keys) = (Order::of_rows(self.table)?, Order::of_keys(self.table)?);
        let mut readers = Vec::new();
        let mut heap = BinaryHeap::new();
        for input in inputs {
            let mut reader = Reader::open(input, self.table)?;
            if reader.load(self.table, &order, &keys)? {
                heap.push(Reverse((reader.row(), readers.len())));
            }
            readers.push(reader);
        }
        let mut output = Output::new(self, folder);
        while let Some(Reverse((_, n))) = heap.pop() {
            let reader = &mut readers[n];
            output.take(reader)?;
            reader.at += 1;
            if reader.at < reader.batch.num_rows() || reader.load(self.table, &order, &keys)? {
                heap.push(Reverse((reader.row(), n)));
            }
        }
        output.finish()
    }
}

/// A file, and where it stands.
struct Reader {
    file: FileReader,
    batch: RecordBatch,
    rows: Option<Rows>,
    keys: Option<Rows>,
    versions: Vec<i64>,
    at: usize,
    /// Which of the output's batches this one is, since which of its writes.
    slot: Option<(u64, usize)>,
}

impl Reader {
    fn open(path: &Path, table: &LakeTable) -> Result<Self, Fault> {
        let file = FileReader::open(path, table)?;
        let batch = RecordBatch::new_empty(table.schema.arrow());
        Ok(Self { file, batch, rows: None, keys: None, versions: Vec::new(), at: 0, slot: None })
    }

    /// The next batch that has rows; `false` when there is none.
    fn load(&mut self, table: &LakeTable, order: &Order, keys: &Order) -> Result<bool, Fault> {
        for batch in self.file.by_ref() {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.rows = Some(order.rows(table, &batch)?);
            self.keys = Some(keys.rows(table, &batch)?);
            self.versions = numbers(table, table.version, &batch)?;
            (self.batch, self.at, self.slot) = (batch, 0, None);
            return Ok(true);
        }
        Ok(false)
    }

    fn row(&self) -> Option<OwnedRow> {
        self.rows.as_ref().map(|rows| rows.row(self.at).owned())
    }
}

/// Rows on their way into files.
struct Output<'a> {
    merge: Merge,
    folder: &'a Path,
    /// What picks point into, since the last write.
    batches: Vec<RecordBatch>,
    /// Counts writes: slots of an earlier one point nowhere.
    writes: u64,
    /// Rows that stay; the last of them only if nothing replaces it.
    picks: Vec<(usize, usize)>,
    last: Option<Last>,
    writer: Option<(PathBuf, FileWriter)>,
    /// Rows of the file that is being written.
    rows: u64,
    files: Vec<(PathBuf, FileFacts)>,
}

/// What the last pick is a row of.
struct Last {
    key: OwnedRow,
    version: i64,
}

impl<'a> Output<'a> {
    fn new(merge: Merge, folder: &'a Path) -> Self {
        let (batches, picks, files) = (Vec::new(), Vec::new(), Vec::new());
        Self { merge, folder, batches, writes: 0, picks, last: None, writer: None, rows: 0, files }
    }

    /// Takes the row at which a reader stands.
    fn take(&mut self, reader: &mut Reader) -> Result<(), Fault> {
        let Some(keys) = &reader.keys else { return Ok(()) };
        let (key, version) = (keys.row(reader.at), reader.versions[reader.at]);
        match &mut self.last {
            Some(last) if last.key.row() == key => {
                let is_replaced = |until: i64| version <= until || version == last.version;
                if self.merge.dropped_until.is_some_and(is_replaced) {
                    self.picks.pop();
                }
                last.version = version;
            }
            Some(_) | None => {
                if self.rows + self.picks.len() as u64 >= self.merge.file_rows {
                    self.end_file()?;
                }
                self.last = Some(Last { key: key.owned(), version });
            }
        }
        let slot = match reader.slot {
            Some((writes, slot)) if writes == self.writes => slot,
            Some(_) | None => {
                self.batches.push(reader.batch.clone());
                self.batches.len() - 1
            }
        };
        reader.slot = Some((self.writes, slot));
        self.picks.push((slot, reader.at));
        let is_much = self.picks.len() > PICKS_MAX || self.batches.len() > BATCHES_MAX;
        if is_much { self.write_some() } else { Ok(()) }
    }

    /// Writes all picks but the last, which may still be replaced.
    fn write_some(&mut self) -> Result<(), Fault> {
        let Some((slot, row)) = self.picks.pop() else { return Ok(()) };
        let batch = self.batches[slot].clone();
        self.write_all()?;
        self.batches.push(batch);
        self.picks.push((0, row));
        Ok(())
    }

    fn write_all(&mut self) -> Result<(), Fault> {
        if !self.picks.is_empty() {
            let batches: Vec<&RecordBatch> = self.batches.iter().collect();
            let rows = interleave_record_batch(&batches, &self.picks)
                .map_err(|e| Fault::bug("rows of one table don't go together").from_source(e))?;
            self.writer()?.push(&rows)?;
            self.rows += rows.num_rows() as u64;
        }
        self.writes += 1;
        self.picks.clear();
        self.batches.clear();
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut FileWriter, Fault> {
        let (_, writer) = match self.writer.take() {
            Some(open) => self.writer.insert(open),
            None => {
                let path = self.folder.join(format!("{}.parquet", self.files.len()));
                let writer = FileWriter::create(&path, self.merge.table, &self.merge.settings)?;
                self.writer.insert((path, writer))
            }
        };
        Ok(writer)
    }

    fn end_file(&mut self) -> Result<(), Fault> {
        self.write_all()?;
        if let Some((path, writer)) = self.writer.take() {
            self.files.push((path, writer.finish()?));
        }
        self.rows = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<(PathBuf, FileFacts)>, Fault> {
        self.end_file()?;
        Ok(self.files)
    }
}
