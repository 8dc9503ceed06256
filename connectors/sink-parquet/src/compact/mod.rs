//! Many small files become few, and what nobody may ask for any more goes.
//!
//! ```text
//! plan (pure) ─▶ per partition: files ─▶ spool ─▶ merge, in passes ─▶ parts ─▶ objects ─▶ one manifest
//!                               retention: the oldest ranges are listed no more
//! clean: strays and what was replaced ─▶ retired ─▶ (the grace) ─▶ doomed ─▶ removed ─▶ forgotten; old manifests
//! ```
//!
//! Safe beside a running sink and beside itself: each change is decided on the newest manifest and put if nobody else's
//! came first; what it replaces must be listed still. A reader that opened an older manifest has the grace to end: an
//! object goes only when that time has passed since it was listed no more.
//!
//! Exact: per key, rows are in order of version, so a row is dropped when the one after it was there already at the
//! beginning of the history that is kept. For every time since then, the newest row of each key is the same as before.

mod clean;
mod merge;
mod plan;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rollcall_columns::LakeTable;
use rollcall_model::{Fault, Partition};
use serde::Serialize;

use crate::config::LakeConfig;
use crate::file::{FileFacts, check_file};
use crate::list::newest_of_all;
use crate::manifest::{ListedFile, Manifest, Range, Tables, object_name};
use crate::objects::Objects;
use crate::sink::{file_settings, listed};
use crate::spool::Spool;
use merge::Merge;
use plan::{Limits, Step};

/// A machine whose clock is off by more decides nothing about time.
const CLOCK_OFF_US_MAX: i64 = 300_000_000;
const DAY_US: i64 = 86_400_000_000;
const MINUTE_US: i64 = 60_000_000;
/// About how large a file may become.
const FILE_BYTES: u64 = 256 << 20;
/// Files that are merged at once.
const FAN_IN_MAX: usize = 16;

/// Something that a compaction does, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CompactStep {
    /// The table.
    pub table: String,
    /// The partition.
    pub partition: Partition,
    /// Whether files are merged, or dropped because they are too old.
    pub what: CompactWhat,
    /// Files read or dropped.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files there are after it; not known of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_after: Option<u64>,
    /// Rows after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_after: Option<u64>,
    /// Bytes after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_after: Option<u64>,
}

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompactWhat {
    /// Files become fewer.
    Merge,
    /// Files are older than what is kept.
    Drop,
}

/// What was cleaned up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cleaned {
    /// Objects removed.
    pub objects: u64,
    /// Manifests removed.
    pub manifests: u64,
    /// Objects that no manifest knew, which go after the grace.
    pub strays: u64,
    /// Uploads ended that a killed writer left.
    pub uploads: u64,
}

/// What a compaction would do.
///
/// # Errors
/// A [`Fault`] when the lake can't be read.
pub async fn plan_compaction(config: &LakeConfig) -> Result<Vec<CompactStep>, Fault> {
    let compaction = Compaction::open(config).await?;
    let limits = compaction.limits();
    let mut steps = Vec::new();
    for (table, newest) in newest_of_all(config, &compaction.tables).await? {
        let Some(newest) = newest else { continue };
        steps.extend(plan::steps(table, &newest.manifest, &limits).iter().map(|step| step.told(table, None)));
    }
    Ok(steps)
}

/// Compacts a lake. `done` is called after each step.
///
/// # Errors
/// A [`Fault`] when a file is not what was listed, this machine's clock is wrong, or the lake can't be reached. What was
/// done until then stays done.
pub async fn compact(
    config: &LakeConfig,
    done: &mut (dyn FnMut(&CompactStep) + Send),
) -> Result<Cleaned, Fault> {
    let compaction = Compaction::open(config).await?;
    let limits = compaction.limits();
    Box::pin(compaction.run(&limits, done)).await
}

/// A lake that is compacted.
struct Compaction<'a> {
    config: &'a LakeConfig,
    objects: Objects,
    tables: Tables,
    began: Instant,
}

impl<'a> Compaction<'a> {
    async fn open(config: &'a LakeConfig) -> Result<Self, Fault> {
        let objects = Box::pin(Objects::open(config)).await?;
        let tables = Tables::new(objects.clone());
        // An answer of the store says what time it is there.
        newest_of_all(config, &tables).await?;
        clocks_agree(config, objects.ahead_us().unwrap_or_default())?;
        Ok(Self { config, objects, tables, began: Instant::now() })
    }

    fn limits(&self) -> Limits {
        let now_us = self.objects.now_us();
        let days = |days: u32| now_us - i64::from(days) * DAY_US;
        Limits {
            now_us,
            history_from_us: days(self.config.history_days),
            events_from_us: (self.config.retention_days > 0).then(|| days(self.config.retention_days)),
            readers_until_us: now_us - i64::from(self.config.reader_grace_minutes) * MINUTE_US,
            file_bytes: FILE_BYTES,
            fan_in: FAN_IN_MAX,
        }
    }

    /// The time now: what is retired hours after the beginning stays for the whole grace all the same.
    fn now_us(&self, limits: &Limits) -> i64 {
        let elapsed_us = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        limits.now_us.saturating_add(elapsed_us)
    }

    async fn run(
        &self,
        limits: &Limits,
        done: &mut (dyn FnMut(&CompactStep) + Send),
    ) -> Result<Cleaned, Fault> {
        let mut cleaned = Cleaned::default();
        for (table, newest) in newest_of_all(self.config, &self.tables).await? {
            let Some(newest) = newest else { continue };
            for step in plan::steps(table, &newest.manifest, limits) {
                let after = match &step {
                    Step::Merge { range, files } => {
                        Box::pin(self.merge(table, &newest.manifest, limits, (*range, files))).await?
                    }
                    Step::Drop { range, files } => {
                        Box::pin(self.drop_old(table, limits, *range, files)).await?;
                        Vec::new()
                    }
                };
                done(&step.told(table, Some(&after)));
            }
            Box::pin(self.clean(table, limits, &mut cleaned)).await?;
        }
        Ok(cleaned)
    }

    /// Merges files, and lists what comes of it in their place.
    async fn merge(
        &self,
        table: &'static LakeTable,
        manifest: &Manifest,
        limits: &Limits,
        (range, files): (Range, &[ListedFile]),
    ) -> Result<Vec<ListedFile>, Fault> {
        let spool = Spool::make(&self.config.spool, "compact-")?;
        let (rows, bytes) =
            files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
        let merge = Merge {
            table,
            settings: file_settings(self.config),
            dropped_until: limits.dropped_until(table),
            // Rows are alike: as many as make about one file.
            file_rows: (rows * limits.file_bytes).checked_div(bytes).unwrap_or(rows).max(1),
        };
        let parts = Box::pin(self.passes(&spool, merge, files, limits.fan_in)).await?;
        let count = u16::try_from(parts.len())
            .map_err(|_| Fault::bug(format!("{} files of one range", parts.len())))?;
        let mut new = Vec::new();
        for (part, (path, facts)) in (0..count).zip(parts) {
            let name = object_name(table.name, &manifest.log_id, range, Some(part), &facts.sha256);
            self.objects.upload_file(&name, &path).await?;
            new.push(listed(name, range, (part, count), facts));
        }
        self.put_in_place(table, limits, range, (files, &new)).await?;
        Ok(new)
    }

    async fn put_in_place(
        &self,
        table: &LakeTable,
        limits: &Limits,
        range: Range,
        (files, new): (&[ListedFile], &[ListedFile]),
    ) -> Result<(), Fault> {
        let old: Vec<String> = files.iter().map(|file| file.object.clone()).collect();
        let objects: Vec<&str> = new.iter().map(|file| file.object.as_str()).collect();
        let change = self.tables.change_with(table.name, None, &objects, |current| {
            let current = current.ok_or_else(|| vanished(table))?;
            let lists = |object: &String| current.files.iter().any(|file| file.object == *object);
            // The answer to an earlier try was lost.
            let is_done = !old.iter().any(lists) && new.iter().all(|file| lists(&file.object));
            if is_done {
                return Ok(None);
            }
            let mut next = current.replace(&old, range, new, self.now_us(limits))?;
            next.schema_version = next.schema_version.max(table.schema.version);
            if limits.dropped_until(table).is_some() {
                next.history_from_us = next.history_from_us.max(limits.history_from_us);
            }
            Ok(Some(next))
        });
        Box::pin(change).await.map(drop)
    }

    /// Merges files until few enough are left, each pass reading what the one before wrote.
    async fn passes(
        &self,
        spool: &Spool,
        merge: Merge,
        files: &[ListedFile],
        fan_in: usize,
    ) -> Result<Vec<(PathBuf, FileFacts)>, Fault> {
        let mut numbers = 0..;
        let mut next = || spool.file(numbers.next().unwrap_or_default());
        let is_one_pass = files.len() <= fan_in;
        let mut merged = Vec::new();
        for group in files.chunks(fan_in) {
            let mut inputs = Vec::new();
            for file in group {
                let path = next();
                self.bring(file, &path).await?;
                inputs.push(path);
            }
            merged.push(Box::pin(run(merge, inputs, next(), is_one_pass)).await?);
        }
        while merged.len() > 1 {
            let inputs: Vec<PathBuf> = merged.into_iter().flatten().map(|(path, _)| path).collect();
            let is_last_pass = inputs.len() <= fan_in;
            merged = Vec::new();
            for group in inputs.chunks(fan_in) {
                merged.push(Box::pin(run(merge, group.to_vec(), next(), is_last_pass)).await?);
            }
        }
        Ok(merged.pop().unwrap_or_default())
    }

    /// Brings a file to the spool, if it is what was listed.
    async fn bring(&self, file: &ListedFile, path: &Path) -> Result<(), Fault> {
        let name = self.objects.name(&file.object);
        if self.objects.download(&file.object, path).await?.is_none() {
            return Err(
                Fault::refused(format!("{name} is listed but not there")).repair("rollcall lake verify")
            );
        }
        let (to, bytes, sha256) = (path.to_owned(), file.bytes, file.sha256.clone());
        let checked = tokio::task::spawn_blocking(move || check_file(&to, bytes, &sha256)).await;
        let checked =
            checked.map_err(|e| Fault::bug("checking a file of the lake panicked").from_source(e))?;
        checked.map_err(|fault| Fault { what: format!("{name}: {}", fault.what), ..fault })
    }

    async fn drop_old(
        &self,
        table: &LakeTable,
        limits: &Limits,
        range: Range,
        files: &[ListedFile],
    ) -> Result<(), Fault> {
        let change = self.tables.change(table.name, None, |current| {
            let current = current.ok_or_else(|| vanished(table))?;
            // Another compaction, or a rebuild, came first.
            if !files.iter().all(|file| current.files.contains(file)) {
                return Ok(None);
            }
            current.drop_until(range.partition, range.last_seq, self.now_us(limits)).map(Some)
        });
        Box::pin(change).await.map(drop)
    }
}

fn clocks_agree(config: &LakeConfig, ahead_us: i64) -> Result<(), Fault> {
    if ahead_us.abs() <= CLOCK_OFF_US_MAX {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "this machine's clock and that of {} are {} s apart: what is old could not be told",
        config.location,
        ahead_us.abs() / 1_000_000
    ))
    .repair("set the clock: chronyc makestep, or systemctl restart systemd-timesyncd"))
}

async fn run(
    merge: Merge,
    inputs: Vec<PathBuf>,
    outputs: PathBuf,
    is_last: bool,
) -> Result<Vec<(PathBuf, FileFacts)>, Fault> {
    let merge = if is_last { merge } else { Merge { file_rows: u64::MAX, ..merge } };
    tokio::task::spawn_blocking(move || {
        let merged = merge.run(&inputs, &outputs)?;
        for input in &inputs {
            // What stays goes with the spool.
            let _removed = std::fs::remove_file(input);
        }
        Ok(merged)
    })
    .await
    .map_err(|e| Fault::bug("merging files of the lake panicked").from_source(e))?
}

fn vanished(table: &LakeTable) -> Fault {
    Fault::refused(format!("the lake's table {} is there no more", table.name))
        .repair("rollcall lake verify says what is left")
}

#[cfg(test)]
mod tests;
