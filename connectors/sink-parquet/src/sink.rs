//! The lake as an archive: cuts become files, files become listed.
//!
//! ```text
//! take ─▶ Buffer ─▶ upload: sorted file in the spool ─▶ object, named by range and content
//!                   list:   one manifest per table ─▶ the rows are dropped, the cut is covered
//! ```
//!
//! Why it is right: a cut is in the log's progress before `upload`, so a restart takes its records again and makes the
//! same file, whose name is taken: done. A manifest lists a cut only where what is covered ends, and is put only if
//! nobody else did; so a lost answer, an instance that was thought dead, and a compaction beside all come to the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use rollcall_columns::{LAKE_TABLES, LakeTable};
use rollcall_model::archive::{Archive, AsOf, Buffered, Covered, Cut};
use rollcall_model::log::Fut;
use rollcall_model::{Delivery, Fault, LogId, OutRecord, Partition, Seq, Topic};

use crate::buffer::Buffer;
use crate::config::LakeConfig;
use crate::file::{FileFacts, FileSettings, write_sorted};
use crate::manifest::{Addition, ListedFile, Manifest, Numbered, Range, Tables, object_name};
use crate::objects::{Objects, spool_fault};

/// The topics of the lake's tables.
const TOPICS: [Topic; 4] =
    [Topic::Identities, Topic::Memberships, Topic::MembershipChanges, Topic::SegmentCounts];

type At = (Topic, Partition);

/// Keeps what rosters decided in a lake.
#[derive(Debug)]
pub struct LakeSink {
    config: LakeConfig,
    open: Option<Open>,
    buffers: BTreeMap<At, Buffer>,
    covered: BTreeMap<At, Seq>,
    /// Cuts whose file is there, but not listed; of one without rows, none.
    uploaded: BTreeMap<Cut, Option<ListedFile>>,
}

/// A lake that was prepared.
#[derive(Clone, Debug)]
struct Open {
    objects: Objects,
    tables: Tables,
    log: LogId,
    /// The newest manifest's number, per table.
    known: BTreeMap<Topic, u64>,
}

impl LakeSink {
    /// Of a lake; nothing is asked of it yet.
    #[must_use]
    pub fn new(config: LakeConfig) -> Self {
        let (buffers, covered, uploaded) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { config, open: None, buffers, covered, uploaded }
    }

    fn open(&mut self) -> Result<&mut Open, Fault> {
        self.open.as_mut().ok_or_else(|| Fault::bug("the lake was used before it was prepared"))
    }

    fn forget(&mut self) {
        self.buffers.clear();
        self.uploaded.clear();
        self.covered.clear();
    }

    fn spool(&self) -> PathBuf {
        self.config.spool.join("cuts")
    }

    /// An empty folder for the files of cuts: what a kill left is made again.
    fn clean_spool(&self) -> Result<(), Fault> {
        let spool = self.spool();
        match std::fs::remove_dir_all(&spool) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(spool_fault(&spool, e)),
            Ok(()) | Err(_) => {}
        }
        std::fs::create_dir_all(&spool).map_err(|e| spool_fault(&spool, e))
    }

    async fn prepare_lake(&mut self, log: &LogId) -> Result<Vec<(At, Covered)>, Fault> {
        self.forget();
        self.clean_spool()?;
        let objects = Box::pin(Objects::open(&self.config)).await?;
        let tables = Tables::new(objects.clone());
        let mut listed = Vec::new();
        for table in &LAKE_TABLES {
            let newest = tables.newest(table.name, None).await?;
            self.refuse_others(newest.as_ref(), log)?;
            listed.push(newest);
        }
        let mut known = BTreeMap::new();
        let mut covered = Vec::new();
        for (table, newest) in LAKE_TABLES.iter().zip(listed) {
            let newest = match newest {
                Some(newest) => newest,
                None => self.begin(&objects, table, log).await?,
            };
            if known.is_empty() {
                tables.gives_names_once(&newest).await?;
            }
            objects.abort_uploads(&format!("{}/", table.name)).await?;
            known.insert(table.topic, newest.number);
            covered.extend(newest.manifest.covered.iter().map(|(partition, reach)| {
                ((table.topic, *partition), Covered { seq: reach.seq, until: reach.until })
            }));
        }
        self.covered = covered.iter().map(|(at, covered)| (*at, covered.seq)).collect();
        self.open = Some(Open { objects, tables, log: log.clone(), known });
        Ok(covered)
    }

    async fn begin(&self, objects: &Objects, table: &LakeTable, log: &LogId) -> Result<Numbered, Fault> {
        let tables = Tables::new(objects.clone());
        let begun = tables.change(table.name, None, |current| {
            Ok(current.is_none().then(|| self.begun(table, log, objects.now_us())))
        });
        let begun = Box::pin(begun).await?;
        self.refuse_others(begun.as_ref(), log)?;
        begun.ok_or_else(|| Fault::retry(format!("the lake's table {} vanished", table.name)))
    }

    fn begun(&self, table: &LakeTable, log: &LogId, now_us: i64) -> Manifest {
        Manifest::begin((table.name, table.schema.version), log, &self.config.name, now_us)
    }

    /// A lake has one writer, and holds the records of one log.
    fn refuse_others(&self, listed: Option<&Numbered>, log: &LogId) -> Result<(), Fault> {
        let Some(Numbered { manifest, .. }) = listed else { return Ok(()) };
        let (name, place) = (&self.config.name, &self.config.location);
        if manifest.log_id != *log {
            return Err(Fault::refused(format!(
                "the lake at {place} holds records of the log {}, and this log is {log}",
                manifest.log_id
            ))
            .repair(format!(
                "to keep it, give sinks.{name} another bucket or prefix; to begin it anew: rollcall rebuild {name}"
            )));
        }
        if manifest.writer != *name {
            return Err(Fault::refused(format!(
                "the lake at {place} is written by the sink {}, and this is {name}",
                manifest.writer
            ))
            .repair(format!(
                "give sinks.{name} a bucket or prefix of its own; if {} is no more, to take its place: rollcall \
                 rebuild {name}",
                manifest.writer
            )));
        }
        Ok(())
    }

    async fn upload_cuts(&mut self, cuts: &[Cut]) -> Result<u64, Fault> {
        let mut rows = 0;
        for cut in cuts {
            if let Some(uploaded_rows) = self.is_uploaded(cut).await? {
                rows += uploaded_rows;
                continue;
            }
            let at = (cut.topic, cut.partition);
            if self.covered.get(&at).is_some_and(|covered| *covered >= cut.last) {
                continue;
            }
            let batches = match self.buffers.get_mut(&at) {
                Some(buffer) => buffer.up_to(cut.last)?,
                None => Vec::new(),
            };
            let file =
                if batches.is_empty() { None } else { Some(Box::pin(self.upload_one(cut, batches)).await?) };
            rows += file.as_ref().map_or(0, |file| file.rows);
            self.uploaded.insert(*cut, file);
        }
        Ok(rows)
    }

    /// How many rows the file of a cut has, if it is there.
    async fn is_uploaded(&self, cut: &Cut) -> Result<Option<u64>, Fault> {
        Ok(match (self.uploaded.get(cut), &self.open) {
            (Some(None), _) => Some(0),
            (Some(Some(file)), Some(open)) => open.objects.head(&file.object).await?.map(|_| file.rows),
            (Some(Some(_)) | None, _) => None,
        })
    }

    async fn upload_one(&mut self, cut: &Cut, batches: Vec<RecordBatch>) -> Result<ListedFile, Fault> {
        let table = table_of(cut.topic)?;
        let spool = self.spool();
        let file = tempfile::Builder::new().prefix("cut-").tempfile_in(&spool);
        let file = file.map_err(|e| spool_fault(&spool, e))?.into_temp_path();
        let settings = file_settings(&self.config);
        let path = file.to_path_buf();
        let written =
            tokio::task::spawn_blocking(move || write_sorted(&path, table, &batches, &settings)).await;
        let facts =
            written.map_err(|e| Fault::bug("writing a file of the lake panicked").from_source(e))??;
        let Open { objects, log, .. } = self.open()?;
        let range = Range { partition: cut.partition, first_seq: cut.first, last_seq: cut.last };
        let listed = listed(object_name(table.name, log, range, None, &facts.sha256), range, (0, 1), facts);
        let put = objects.upload_file(&listed.object, &file).await?;
        tracing::debug!(object = listed.object, rows = listed.rows, bytes = listed.bytes, ?put, "uploaded");
        Ok(listed)
    }

    async fn list_cuts(&mut self, cuts: &[Cut]) -> Result<(), Fault> {
        for table in &LAKE_TABLES {
            let cuts: Vec<&Cut> = cuts.iter().filter(|cut| cut.topic == table.topic).collect();
            if !cuts.is_empty() {
                Box::pin(self.list_in(table, &cuts)).await?;
            }
        }
        Ok(())
    }

    async fn list_in(&mut self, table: &LakeTable, cuts: &[&Cut]) -> Result<(), Fault> {
        let additions = self.additions(cuts)?;
        let config = self.config.clone();
        let Open { objects, tables, log, known } = self.open()?;
        let log = log.clone();
        let decide = |current: Option<&Manifest>| {
            let current = ours(table, current, &log, &config.name)?;
            let next = current.append(&additions, objects.now_us())?;
            Ok(next.map(|next| Manifest { schema_version: table.schema.version, ..next }))
        };
        let files: Vec<&str> =
            additions.iter().filter_map(|addition| Some(addition.file.as_ref()?.object.as_str())).collect();
        let known_to_us = known.get(&table.topic).copied();
        let listed = Box::pin(tables.change_with(table.name, known_to_us, &files, decide)).await?;
        if let Some(listed) = listed {
            known.insert(table.topic, listed.number);
        }
        self.settle(cuts)
    }

    async fn note_as_of(&mut self, as_of: &AsOf) -> Result<(), Fault> {
        let table = table_of(Topic::SegmentCounts)?;
        let name = self.config.name.clone();
        let Open { objects, tables, log, known } = self.open()?;
        let log = log.clone();
        let decide =
            |current: Option<&Manifest>| Ok(ours(table, current, &log, &name)?.note(as_of, objects.now_us()));
        let known_to_us = known.get(&table.topic).copied();
        if let Some(noted) = Box::pin(tables.change(table.name, known_to_us, decide)).await? {
            known.insert(table.topic, noted.number);
        }
        Ok(())
    }

    fn additions(&self, cuts: &[&Cut]) -> Result<Vec<Addition>, Fault> {
        let mut additions = Vec::new();
        for cut in cuts {
            let at = (cut.topic, cut.partition);
            match self.uploaded.get(*cut) {
                Some(file) => additions.push(Addition { cut: **cut, file: file.clone() }),
                None if self.covered.get(&at).is_some_and(|covered| *covered >= cut.last) => {}
                None => {
                    return Err(Fault::bug(format!(
                        "a cut of the lake is to be listed before it was uploaded: {cut:?}"
                    )));
                }
            }
        }
        additions.sort_by_key(|addition| addition.cut);
        Ok(additions)
    }

    /// The cuts are covered: their rows are of no more use.
    fn settle(&mut self, cuts: &[&Cut]) -> Result<(), Fault> {
        for cut in cuts {
            let at = (cut.topic, cut.partition);
            let covered = self.covered.entry(at).or_default();
            *covered = cut.last.max(*covered);
            if let Some(buffer) = self.buffers.get_mut(&at) {
                buffer.drop_up_to(cut.last)?;
            }
            self.uploaded.remove(*cut);
        }
        Ok(())
    }

    async fn reset_lake(&mut self, log: &LogId) -> Result<(), Fault> {
        self.forget();
        self.clean_spool()?;
        let objects = Box::pin(Objects::open(&self.config)).await?;
        let tables = Tables::new(objects.clone());
        for table in &LAKE_TABLES {
            let change = tables.change(table.name, None, |current| {
                let begun = self.begun(table, log, objects.now_us());
                Ok(Some(match current {
                    Some(current) => current.anew(begun),
                    None => begun,
                }))
            });
            Box::pin(change).await?;
        }
        Ok(())
    }
}

/// What is listed of a table, if it is still this sink's.
fn ours<'a>(
    table: &LakeTable,
    current: Option<&'a Manifest>,
    log: &LogId,
    name: &str,
) -> Result<&'a Manifest, Fault> {
    let Some(current) = current else {
        return Err(Fault::refused(format!("the lake's table {} is there no more", table.name))
            .repair(format!("put it back, or rollcall rebuild {name} makes the lake anew")));
    };
    if current.log_id != *log || current.writer != name {
        return Err(Fault::refused(format!(
            "the lake's table {} was taken over by the sink {} for the log {}",
            table.name, current.writer, current.log_id
        ))
        .repair(format!("give sinks.{name} a bucket or prefix of its own")));
    }
    Ok(current)
}

fn table_of(topic: Topic) -> Result<&'static LakeTable, Fault> {
    LakeTable::of(topic).ok_or_else(|| Fault::bug(format!("the lake keeps no topic {}", topic.name())))
}

/// How files are written.
pub(crate) fn file_settings(config: &LakeConfig) -> FileSettings {
    FileSettings { row_group_rows: config.row_group_rows, zstd_level: config.compression.zstd_level }
}

/// A file as a manifest lists it; `part` is which of how many.
pub(crate) fn listed(object: String, range: Range, part: (u16, u16), facts: FileFacts) -> ListedFile {
    let (part, parts) = part;
    let FileFacts { rows, bytes, sha256, min_version, max_version, min_event_us, max_event_us, .. } = facts;
    ListedFile {
        object,
        range,
        part,
        parts,
        rows,
        bytes,
        sha256,
        min_version,
        max_version,
        min_event_us,
        max_event_us,
    }
}

fn seq_of(record: &OutRecord) -> Option<Seq> {
    match record {
        OutRecord::Identity(record) => Some(record.seq),
        OutRecord::Membership(record) => Some(record.seq),
        OutRecord::MembershipChange(record) => Some(record.seq),
        OutRecord::Count(record) => Some(record.seq),
        // How far a source has come; nothing that is kept.
        OutRecord::Watermark(_) => None,
    }
}

impl Archive for LakeSink {
    fn reads(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn prepare<'a>(&'a mut self, log: &'a LogId, _partitions: u16) -> Fut<'a, Vec<(At, Covered)>> {
        Box::pin(self.prepare_lake(log))
    }

    fn take(&mut self, delivery: &Delivery) -> Result<(), Fault> {
        let at = (delivery.topic, delivery.partition);
        let Some(seq) = seq_of(&delivery.record) else { return Ok(()) };
        if self.covered.get(&at).is_some_and(|covered| seq <= *covered) {
            return Ok(());
        }
        let table = table_of(delivery.topic)?;
        self.buffers.entry(at).or_insert_with(|| Buffer::new(table, at.1)).take(&delivery.record)
    }

    fn buffered(&self, at: At) -> Buffered {
        self.buffers.get(&at).map(Buffer::holds).unwrap_or_default()
    }

    fn upload<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, u64> {
        Box::pin(self.upload_cuts(cuts))
    }

    fn list<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, ()> {
        Box::pin(self.list_cuts(cuts))
    }

    fn note<'a>(&'a mut self, as_of: &'a AsOf) -> Fut<'a, ()> {
        Box::pin(self.note_as_of(as_of))
    }

    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()> {
        Box::pin(self.reset_lake(log))
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
