//! The lake as an archive that is read: records back from its files, as they were listed at one moment.
//!
//! ```text
//! manifests (pinned) ─▶ files of a partition, in order of range ─▶ spool, one at a time, checked ─▶ pages of records
//! ```
//!
//! In: where a lake lies, perhaps a pin. Out: [`ArchivePage`]s. Right because a manifest is never changed and a file is
//! never rewritten: a reader that is opened at the same pin reads the same rows in the same order, and a cursor is a
//! file's number and rows of it. A file's bytes are compared with the manifest before its first row is believed. Memory is
//! a batch and a page, whatever the lake holds.

mod filter;

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use rollcall_columns::{LAKE_TABLES, LakeTable, lake_records};
use rollcall_model::archive::{ArchiveCursor, ArchiveFilter, ArchivePage, ArchiveReader, Archived};
use rollcall_model::log::Fut;
use rollcall_model::{Covered, Delivery, Fault, LogId, OutRecord, Partition, Place, Seq, Topic};

use crate::config::LakeConfig;
use crate::file::{FileReader, check_file};
use crate::list::newest_of_all;
use crate::manifest::{ListedFile, Manifest, Numbered, Tables, key_of};
use crate::objects::Objects;
use crate::verify::Spool;

/// Rows of a page at most.
const PAGE_ROWS_MAX: usize = 4_096;
/// About so many bytes of rows at most; one row may be more.
const PAGE_BYTES_MAX: usize = 8 << 20;

const VERIFY: &str = "rollcall lake verify";

/// Reads a lake.
#[derive(Debug)]
pub struct LakeReader {
    objects: Objects,
    spool: Spool,
    log: LogId,
    tables: BTreeMap<Topic, Numbered>,
    holds: Vec<Archived>,
    open: Option<OpenFile>,
}

/// A file that is being read.
#[derive(Debug)]
struct OpenFile {
    at: (Topic, Partition),
    cursor: ArchiveCursor,
    reader: Option<FileReader>,
    /// Rows read of the file and not yet given.
    rest: Option<RecordBatch>,
    path: PathBuf,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // What stays goes with the spool.
        let _removed = std::fs::remove_file(&self.path);
    }
}

impl LakeReader {
    /// Opens a lake as it is listed now, or as it was at a moment that [`ArchiveReader::pin`] named.
    ///
    /// # Errors
    /// A [`Fault`]: there is no lake, its tables are of several logs, it can't be reached, or what is pinned has been
    /// cleaned up since.
    pub async fn open(config: &LakeConfig, pin: Option<&str>) -> Result<Self, Fault> {
        let objects = Box::pin(Objects::open(config)).await?;
        let manifests = Tables::new(objects.clone());
        let mut tables = BTreeMap::new();
        match pin {
            Some(pin) => {
                for (table, number) in pinned(pin)? {
                    let manifest = Box::pin(manifests.numbered(table.name, number)).await?;
                    let manifest = manifest.ok_or_else(|| outlived(&objects, &key_of(table.name, number)))?;
                    tables.insert(table.topic, Numbered { number, manifest });
                }
            }
            None => {
                for (table, newest) in newest_of_all(config, &manifests).await? {
                    tables.extend(newest.map(|newest| (table.topic, newest)));
                }
            }
        }
        let log = one_log(config, tables.values().map(|table| &table.manifest))?;
        let holds = tables.iter().flat_map(|(topic, table)| held(*topic, &table.manifest)).collect();
        let spool = Spool::make(&config.spool, "read-")?;
        Ok(Self { objects, spool, log, tables, holds, open: None })
    }

    /// Since when it can tell what was so, of some topics, in microseconds since 1970.
    #[must_use]
    pub fn history_from_us(&self, topics: &[Topic]) -> i64 {
        let tables = topics.iter().filter_map(|topic| self.tables.get(topic));
        tables.map(|table| table.manifest.history_from_us).max().unwrap_or_default()
    }

    async fn read_page(
        &mut self,
        at: (Topic, Partition),
        from: ArchiveCursor,
        filter: &ArchiveFilter,
    ) -> Result<ArchivePage, Fault> {
        let Some(table) = LakeTable::of(at.0) else {
            return Err(Fault::bug(format!("the lake keeps no {}", at.0.name())));
        };
        self.refuse_forgotten(at.0, filter)?;
        let manifest = self.tables.get(&at.0).map(|table| &table.manifest);
        let files: Vec<ListedFile> =
            manifest.into_iter().flat_map(|manifest| manifest.files_of(at.1)).cloned().collect();
        let after = |file: u32| {
            let next = file + 1;
            ((next as usize) < files.len()).then_some(ArchiveCursor { file: next, row: 0 })
        };
        let Some(file) = files.get(from.file as usize) else {
            return Ok(ArchivePage { deliveries: Vec::new(), next: None });
        };
        // Nothing of it was so by then.
        let is_later =
            filter.as_of_us.is_some_and(|as_of| at.0 != Topic::SegmentCounts && file.min_version > as_of);
        if is_later || from.row >= file.rows {
            self.open = None;
            return Ok(ArchivePage { deliveries: Vec::new(), next: after(from.file) });
        }
        let known = self.open.take().filter(|open| open.at == at && open.cursor == from);
        let mut open = match known {
            Some(open) => open,
            None => self.bring(table, at, from, file).await?,
        };
        let rows = open.rows().await?.ok_or_else(|| {
            Fault::refused(format!("{} ends before its last row", self.objects.name(&file.object)))
                .repair(VERIFY)
        })?;
        let name = self.objects.name(&file.object);
        let given = rows.num_rows() as u64;
        let records = read(table, rows).await.map_err(|fault| told(&name, fault))?;
        let passed = records.into_iter().filter_map(|record| filter::passes(record, filter));
        let deliveries = passed.map(|record| delivery(at, record)).collect();
        open.cursor.row += given;
        let next = if open.cursor.row < file.rows { Some(open.cursor) } else { after(from.file) };
        self.open = (open.cursor.row < file.rows).then_some(open);
        Ok(ArchivePage { deliveries, next })
    }

    /// What was so then has been left out of the files since.
    fn refuse_forgotten(&self, topic: Topic, filter: &ArchiveFilter) -> Result<(), Fault> {
        let Some(as_of) = filter.as_of_us else { return Ok(()) };
        let (from, what) = (self.history_from_us(&[topic]), topic.name());
        if topic == Topic::SegmentCounts {
            return Err(Fault::bug("counts say no time: those of a moment are counted from memberships"));
        }
        if as_of >= from {
            return Ok(());
        }
        let (oldest, asked) = (rollcall_model::time::utc(from), rollcall_model::time::utc(as_of));
        Err(Fault::refused(format!("the lake tells what was so from {oldest} on; {asked} is older ({what})"))
            .repair(format!("--as-of {oldest}, or later")))
    }

    /// Brings a file to the spool, if it is what was listed.
    async fn bring(
        &mut self,
        table: &LakeTable,
        at: (Topic, Partition),
        cursor: ArchiveCursor,
        file: &ListedFile,
    ) -> Result<OpenFile, Fault> {
        let path = self.spool.file(cursor.file as usize);
        if self.objects.download(&file.object, &path).await?.is_none() {
            return Err(outlived(&self.objects, &file.object));
        }
        let (to, table, facts) = (path.clone(), *table, file.clone());
        let opened = tokio::task::spawn_blocking(move || {
            check_file(&to, facts.bytes, &facts.sha256)?;
            let reader = FileReader::open_at(&to, &table, cursor.row)?;
            if reader.rows() == facts.rows {
                return Ok(reader);
            }
            let (found, listed) = (reader.rows(), facts.rows);
            Err(Fault::refused(format!("it has {found} rows, and the manifest says {listed}")).repair(VERIFY))
        });
        let reader = opened.await.map_err(|e| broke_off("opening", e))?;
        let reader = reader.map_err(|fault| told(&self.objects.name(&file.object), fault))?;
        Ok(OpenFile { at, cursor, reader: Some(reader), rest: None, path })
    }
}

impl OpenFile {
    /// The next rows, as many as a page takes; `None` after the last.
    async fn rows(&mut self) -> Result<Option<RecordBatch>, Fault> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let Some(mut reader) = self.reader.take() else { return Ok(None) };
                let read = tokio::task::spawn_blocking(move || {
                    let batch = reader.next();
                    (reader, batch)
                });
                let (reader, batch) = read.await.map_err(|e| broke_off("reading", e))?;
                self.reader = Some(reader);
                match batch {
                    Some(batch) => batch?,
                    None => return Ok(None),
                }
            }
        };
        let rows = batch.num_rows();
        let taken = page_rows(&batch)?;
        if taken < rows {
            self.rest = Some(batch.slice(taken, rows - taken));
        }
        Ok(Some(batch.slice(0, taken.min(rows))))
    }
}

/// How many rows of a batch are a page.
fn page_rows(batch: &RecordBatch) -> Result<usize, Fault> {
    let mut bytes = 0;
    for column in batch.columns() {
        // Of these rows alone, whatever else lies in the same buffers.
        bytes += column
            .to_data()
            .get_slice_memory_size()
            .map_err(|e| Fault::bug("rows of the lake have no size").from_source(e))?;
    }
    let row_bytes = (bytes / batch.num_rows().max(1)).max(1);
    Ok((PAGE_BYTES_MAX / row_bytes).clamp(1, PAGE_ROWS_MAX))
}

async fn read(table: &LakeTable, rows: RecordBatch) -> Result<Vec<OutRecord>, Fault> {
    let table = *table;
    let read = tokio::task::spawn_blocking(move || lake_records(&table, &rows));
    read.await.map_err(|e| broke_off("reading", e))?
}

/// A record of a lake has no place in the log any more: its commit stands for it.
fn delivery((topic, partition): (Topic, Partition), record: OutRecord) -> Delivery {
    let seq = match &record {
        OutRecord::Identity(record) => record.seq,
        OutRecord::Membership(record) => record.seq,
        OutRecord::MembershipChange(record) => record.seq,
        OutRecord::Count(record) => record.seq,
        OutRecord::Watermark(record) => record.seq,
    };
    Delivery { topic, partition, place: Place { epoch: 0, offset: seq.0 }, record }
}

/// What a table holds, by partition.
fn held(topic: Topic, manifest: &Manifest) -> Vec<Archived> {
    let of = |partition: &Partition| {
        let reach = manifest.covered(*partition);
        let mut held = Archived {
            topic,
            partition: *partition,
            covered: Covered { seq: reach.seq, until: reach.until },
            files: 0,
            rows: 0,
            bytes: 0,
        };
        for file in manifest.files_of(*partition) {
            held.files += 1;
            held.rows += file.rows;
            held.bytes += file.bytes;
        }
        held
    };
    let covered = manifest.covered.iter().filter(|(_, reach)| reach.seq > Seq(0));
    covered.map(|(partition, _)| of(partition)).collect()
}

fn one_log<'a>(config: &LakeConfig, manifests: impl Iterator<Item = &'a Manifest>) -> Result<LogId, Fault> {
    let mut found: Option<&LogId> = None;
    for manifest in manifests {
        match found {
            Some(log) if *log != manifest.log_id => {
                let other = &manifest.log_id;
                return Err(Fault::refused(format!(
                    "the lake at {} holds tables of the logs {log} and {other}: it is being begun anew, or was put \
                     together by hand",
                    config.location
                ))
                .repair(format!("rollcall rebuild {}", config.name)));
            }
            Some(_) => {}
            None => found = Some(&manifest.log_id),
        }
    }
    found.cloned().ok_or_else(|| Fault::refused(format!("the lake at {} has no tables", config.location)))
}

/// The manifests that a pin names.
fn pinned(pin: &str) -> Result<Vec<(&'static LakeTable, u64)>, Fault> {
    let mut tables = Vec::new();
    for part in pin.split(',') {
        let found = part.split_once('=').and_then(|(name, number)| {
            let table = LAKE_TABLES.iter().find(|table| table.name == name)?;
            Some((LakeTable::of(table.topic)?, number.parse().ok()?))
        });
        tables.push(found.ok_or_else(|| Fault::refused(format!("'{pin}' names no moment of a lake")))?);
    }
    Ok(tables)
}

fn outlived(objects: &Objects, key: &str) -> Fault {
    Fault::refused(format!(
        "{} is gone: a compaction replaced it and the reader's grace is over, or somebody removed it",
        objects.name(key)
    ))
    .repair(
        "rollcall lake verify says whether the lake is whole; if it is, begin the rebuild anew (for long ones, a longer \
         reader_grace_minutes)",
    )
}

/// A fault of a spool file, told of the object that it is a copy of.
fn told(name: &str, fault: Fault) -> Fault {
    let repair = fault.repair.clone().unwrap_or_else(|| VERIFY.to_owned());
    Fault { what: format!("{name}: {}", fault.what), ..fault }.repair(repair)
}

fn broke_off(doing: &str, error: tokio::task::JoinError) -> Fault {
    Fault::bug(format!("{doing} a file of the lake broke off")).from_source(error)
}

impl ArchiveReader for LakeReader {
    fn log_id(&self) -> &LogId {
        &self.log
    }

    fn pin(&self) -> String {
        let pinned = self.tables.values().map(|table| format!("{}={}", table.manifest.table, table.number));
        pinned.collect::<Vec<_>>().join(",")
    }

    fn holds(&self) -> &[Archived] {
        &self.holds
    }

    fn read<'a>(
        &'a mut self,
        at: (Topic, Partition),
        from: ArchiveCursor,
        filter: &'a ArchiveFilter,
    ) -> Fut<'a, ArchivePage> {
        Box::pin(self.read_page(at, from, filter))
    }
}

#[cfg(test)]
mod tests;
