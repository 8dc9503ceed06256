//! A lake as it was listed at one moment, record by record.
//!
//! ```text
//! pin: a manifest per table ─▶ files of a partition, in the order of their ranges ─▶ spool, checked ─▶ records ─▶ filter
//! ```
//!
//! Right because a pinned manifest never changes and its files are never rewritten: a reader that begins again at a
//! cursor finds the same rows behind it. What a compaction replaces meanwhile stays for the grace of readers. A file is
//! compared with its line of the manifest before any row of it is handed on.

mod filter;

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_array::{Array, RecordBatch};
use rollcall_columns::{LakeTable, lake_records};
use rollcall_model::archive::{
    ArchiveCursor, ArchiveFilter, ArchivePage, ArchiveReader, Archived, AsOf, Covered,
};
use rollcall_model::log::Fut;
use rollcall_model::{Delivery, Fault, FaultKind, LogId, Partition, Place, Topic};

use crate::config::LakeConfig;
use crate::file::{FileReader, check_file};
use crate::list::newest_of_all;
use crate::manifest::{ListedFile, Manifest, Numbered, Tables};
use crate::objects::Objects;
use crate::spool::Spool;

/// About so many bytes of rows are a page; one row may be more.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The tables whose older versions tell how it was.
const OF_HISTORY: [Topic; 2] = [Topic::Identities, Topic::Memberships];
const VERIFY: &str = "rollcall lake verify names every file that is missing or damaged; rollcall rebuild LAKE makes the lake anew";

/// Reads a lake at one moment.
#[derive(Debug)]
pub struct LakeReader {
    /// The sink's name in the topology.
    name: String,
    objects: Objects,
    spool: Spool,
    log_id: LogId,
    tables: BTreeMap<Topic, Numbered>,
    as_of: AsOf,
    holds: Vec<Archived>,
    open: Option<Open>,
}

/// The file that is being read, and where.
#[derive(Debug)]
struct Open {
    at: (Topic, Partition),
    next: ArchiveCursor,
    batches: FileReader,
    /// Rows read of the file and not yet handed on.
    rest: Option<RecordBatch>,
}

impl Open {
    /// The next rows, as many as a page takes; `None` after the last.
    fn rows(&mut self) -> Result<Option<RecordBatch>, Fault> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.batches.next() {
                Some(batch) => batch?,
                None => return Ok(None),
            },
        };
        let (rows, taken) = (batch.num_rows(), page_rows(&batch)?);
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
    Ok((PAGE_BYTES_MAX / row_bytes).max(1))
}

impl LakeReader {
    /// Opens a lake as it is now, or as it was at a moment that [`ArchiveReader::pin`] named.
    ///
    /// # Errors
    /// A [`Fault`]: `Refused` when there is no lake, or the moment is past; what the store says.
    pub async fn open(config: &LakeConfig, pin: Option<&str>) -> Result<Self, Fault> {
        let objects = Box::pin(Objects::look(config)).await?;
        let tables = Tables::new(objects.clone());
        let pinned = match pin {
            Some(pin) => at_pin(config, &tables, pin).await?,
            None => now(config, &tables).await?,
        };
        let mut log_ids = pinned.values().map(|numbered| &numbered.manifest.log_id);
        let log_id = log_ids.next().cloned().ok_or_else(|| Fault::bug("a lake without tables was opened"))?;
        if log_ids.any(|other| *other != log_id) {
            return Err(Fault::retry(format!("the lake at {} is being begun anew", config.location)));
        }
        let holds = pinned.iter().flat_map(|(topic, numbered)| held(*topic, &numbered.manifest)).collect();
        let spool = Spool::make(&config.spool, "read-")?;
        let counts = pinned.get(&Topic::SegmentCounts);
        let as_of = counts.map(|numbered| numbered.manifest.as_of_us.clone()).unwrap_or_default();
        let name = config.name.clone();
        Ok(Self { name, objects, spool, log_id, tables: pinned, as_of, holds, open: None })
    }

    /// Since when it can tell how it was, in microseconds since 1970: an earlier `as_of_us` misses what was dropped.
    #[must_use]
    pub fn history_from_us(&self) -> i64 {
        let tables = self.tables.iter().filter(|(topic, _)| OF_HISTORY.contains(topic));
        tables.map(|(_, of)| of.manifest.history_from_us).max().unwrap_or_default()
    }

    /// Up to when it can: a later `as_of_us` misses what wasn't listed by then.
    #[must_use]
    pub fn as_of(&self) -> &AsOf {
        &self.as_of
    }

    fn file(
        &self,
        at: (Topic, Partition),
        number: u32,
    ) -> Result<Option<(&'static LakeTable, ListedFile)>, Fault> {
        let table = LakeTable::of(at.0).zip(self.tables.get(&at.0));
        let (table, numbered) =
            table.ok_or_else(|| Fault::bug(format!("the lake keeps no topic {}", at.0.name())))?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        Ok(numbered.manifest.files_of(at.1).nth(number).map(|file| (table, file.clone())))
    }

    async fn page(
        &mut self,
        at: (Topic, Partition),
        from: ArchiveCursor,
        filter: &ArchiveFilter,
    ) -> Result<ArchivePage, Fault> {
        let Some((table, file)) = self.file(at, from.file)? else {
            return Ok(ArchivePage { deliveries: Vec::new(), next: None });
        };
        let range = file.range;
        let behind = ArchiveCursor { file: from.file.saturating_add(1), row: 0 };
        let is_later =
            OF_HISTORY.contains(&at.0) && filter.as_of_us.is_some_and(|as_of| file.min_version > as_of);
        if is_later {
            return self.end_of_file(at, behind, Vec::new());
        }
        let mut open = match self.open.take() {
            Some(open) if open.at == at && open.next == from => open,
            Some(_) | None => {
                let (objects, path) = (self.objects.clone(), self.spool.file(0));
                let Some(batches) = open_file(objects, path, table, &file, from.row).await? else {
                    return Err(self.gone(table, &file).await);
                };
                Open { at, next: from, batches, rest: None }
            }
        };
        let (batch, mut open) = tokio::task::spawn_blocking(move || (open.rows(), open))
            .await
            .map_err(|e| Fault::bug("reading a file of the lake panicked").from_source(e))?;
        let Some(batch) = batch? else { return self.end_of_file(at, behind, Vec::new()) };
        // Where it stands in the lake, about: the log's place of it is not kept.
        let mut place = Place { epoch: from.file, offset: open.next.row };
        let mut deliveries = Vec::new();
        for record in lake_records(table, &batch)? {
            if let Some(record) = filter::pass(record, filter)? {
                deliveries.push(Delivery { topic: at.0, partition: range.partition, place, record });
            }
            place.offset += 1;
        }
        let row = open.next.row + batch.num_rows() as u64;
        if row >= open.batches.rows() {
            return self.end_of_file(at, behind, deliveries);
        }
        open.next.row = row;
        let next = Some(open.next);
        self.open = Some(open);
        Ok(ArchivePage { deliveries, next })
    }

    /// What it means that a file is not there: a compaction has removed it, or somebody else has.
    async fn gone(&mut self, table: &LakeTable, file: &ListedFile) -> Fault {
        let name = self.objects.name(&file.object);
        let newest = match Box::pin(Tables::new(self.objects.clone()).newest(table.name, None)).await {
            Ok(newest) => newest,
            Err(fault) => return fault,
        };
        let is_listed = newest.is_some_and(|newest| newest.manifest.files.contains(file));
        if is_listed {
            return Fault::refused(format!("{name} is listed and not there")).repair(VERIFY);
        }
        let what = format!("{name} is gone: a compaction removed it after the grace of readers");
        Fault::refused(what).repair(begin_again(&self.name))
    }

    fn end_of_file(
        &mut self,
        at: (Topic, Partition),
        behind: ArchiveCursor,
        deliveries: Vec<Delivery>,
    ) -> Result<ArchivePage, Fault> {
        let next = self.file(at, behind.file)?.map(|_| behind);
        Ok(ArchivePage { deliveries, next })
    }
}

fn begin_again(name: &str) -> String {
    format!("begin again; a longer sinks.{name}.reader_grace_minutes leaves more time")
}

/// The file at a cursor, downloaded and compared with its line of the manifest; `None` when it isn't there.
async fn open_file(
    objects: Objects,
    path: PathBuf,
    table: &'static LakeTable,
    file: &ListedFile,
    row: u64,
) -> Result<Option<FileReader>, Fault> {
    let name = objects.name(&file.object);
    if Box::pin(objects.download(&file.object, &path)).await?.is_none() {
        return Ok(None);
    }
    let (bytes, sha256) = (file.bytes, file.sha256.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let opened = check_file(&path, bytes, &sha256).and_then(|()| FileReader::open_at(&path, table, row));
        // Who has it open reads on; what stays goes with the spool.
        let _removed = std::fs::remove_file(&path);
        opened.map_err(|fault| (fault, path))
    });
    let opened =
        opened.await.map_err(|e| Fault::bug("opening a file of the lake panicked").from_source(e))?;
    opened.map(Some).map_err(|(fault, path)| match fault.kind {
        FaultKind::Refused => {
            Fault::refused(fault.message().replace(&path.display().to_string(), &name)).repair(VERIFY)
        }
        FaultKind::Retry | FaultKind::BadRecord | FaultKind::Config | FaultKind::Fenced | FaultKind::Bug => {
            fault
        }
    })
}

/// The newest manifests.
async fn now(config: &LakeConfig, tables: &Tables) -> Result<BTreeMap<Topic, Numbered>, Fault> {
    let mut pinned = BTreeMap::new();
    for (table, newest) in newest_of_all(config, tables).await? {
        let newest = newest.ok_or_else(|| {
            Fault::retry(format!("the lake at {} has no table {} yet", config.location, table.name))
        })?;
        pinned.insert(table.topic, newest);
    }
    Ok(pinned)
}

/// The manifests that a pin names.
async fn at_pin(config: &LakeConfig, tables: &Tables, pin: &str) -> Result<BTreeMap<Topic, Numbered>, Fault> {
    let numbers: BTreeMap<Topic, u64> = serde_json::from_str(pin)
        .map_err(|e| Fault::bug(format!("'{pin}' names no moment of a lake")).from_source(e))?;
    let mut pinned = BTreeMap::new();
    for (topic, number) in numbers {
        let table = LakeTable::of(topic)
            .ok_or_else(|| Fault::bug(format!("the lake keeps no topic {}", topic.name())))?;
        let manifest = tables.numbered(table.name, number).await?.ok_or_else(|| {
            Fault::refused(format!(
                "manifest {number} of {} is gone from the lake at {}: a compaction removed it after the grace of readers",
                table.name, config.location
            ))
            .repair(begin_again(&config.name))
        })?;
        pinned.insert(topic, Numbered { number, manifest });
    }
    Ok(pinned)
}

fn held(topic: Topic, manifest: &Manifest) -> Vec<Archived> {
    let of = |(partition, reach): (&Partition, &crate::manifest::Reach)| {
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
    manifest.covered.iter().map(of).collect()
}

impl ArchiveReader for LakeReader {
    fn log_id(&self) -> &LogId {
        &self.log_id
    }

    fn pin(&self) -> String {
        let numbers: BTreeMap<Topic, u64> =
            self.tables.iter().map(|(topic, of)| (*topic, of.number)).collect();
        // Names and numbers always have a JSON form.
        serde_json::to_string(&numbers).unwrap_or_default()
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
        Box::pin(self.page(at, from, filter))
    }
}

#[cfg(test)]
mod tests;
