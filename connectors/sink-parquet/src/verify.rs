//! Whether a lake is what its manifests say.
//!
//! ```text
//! newest manifest ─▶ every commit listed once?
//!                 └▶ each file: there? ─▶ spool ─▶ size, sha256 ─▶ rows, versions, seqs, order ─▶ parts apart?
//! ```
//!
//! A few files at once, each in the spool while it is looked at and gone after it: memory and disk stay flat however
//! large the lake is. What a compaction replaces meanwhile is no fault.

mod content;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rollcall_columns::LakeTable;
use rollcall_model::{Fault, FaultKind};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::config::{LakeConfig, Location};
use crate::list::newest_of_all;
use crate::manifest::{ListedFile, Manifest, Range, Tables};
use crate::objects::Objects;
use crate::spool::Spool;
use content::Ends;

/// Files that are looked at together.
const FILES_IN_FLIGHT_MAX: usize = 4;
/// Faults that are named; more are counted.
const PROBLEMS_MAX: usize = 1_000;

/// Something in a lake that isn't as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// The table.
    pub table: String,
    /// The object, where it is one's, as people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What repairs it.
    pub repair: String,
}

/// A table that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifiedTable {
    /// Its name.
    pub table: String,
    /// Files listed.
    pub files: u64,
    /// Rows that they should hold.
    pub rows: u64,
    /// Bytes that they should have.
    pub bytes: u64,
    /// Files that were replaced while they were looked at.
    pub replaced: u64,
    /// Objects that no manifest knows: left by a writer that was killed. A compaction removes them.
    pub strays: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// The tables.
    pub tables: Vec<VerifiedTable>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How much more is wrong than is named.
    pub problems_unnamed: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.problems_unnamed == 0
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_unnamed += 1;
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Files looked at.
    pub files: u64,
    /// Of how many.
    pub files_of: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// Of how many.
    pub bytes_of: u64,
}

/// Reads all of a lake and compares it with its manifests. `progress` is called after each file.
///
/// # Errors
/// A [`Fault`] when it can't be read at all; what is wrong inside is in the report.
pub async fn verify(
    config: &LakeConfig,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<VerifyReport, Fault> {
    let objects = Box::pin(Objects::look(config)).await?;
    let tables = Tables::new(objects.clone());
    let spool = Spool::make(&config.spool, "verify-")?;
    let mut walk = Walk { config, objects, tables, spool, report: VerifyReport::default() };
    let listed = newest_of_all(config, &walk.tables).await?;
    let files = || listed.iter().filter_map(|(_, newest)| Some(&newest.as_ref()?.manifest.files)).flatten();
    let mut at = Progress {
        files_of: files().count() as u64,
        bytes_of: files().map(|file| file.bytes).sum(),
        ..Progress::default()
    };
    let log = listed.iter().find_map(|(_, newest)| Some(newest.as_ref()?.manifest.log_id.clone()));
    for (table, newest) in &listed {
        let Some(newest) = newest else {
            walk.wrong(table, None, "has no manifest, unlike other tables".to_owned());
            continue;
        };
        if log.as_ref() != Some(&newest.manifest.log_id) {
            walk.wrong(table, None, format!("is of the log {}, unlike other tables", newest.manifest.log_id));
        }
        Box::pin(walk.table(table, &newest.manifest, &mut at, progress)).await?;
    }
    Ok(walk.report)
}

struct Walk<'a> {
    config: &'a LakeConfig,
    objects: Objects,
    tables: Tables,
    spool: Spool,
    report: VerifyReport,
}

/// What became of a look at a file.
struct Looked {
    at: usize,
    found: Found,
}

enum Found {
    Sound(Ends),
    NotThere,
    Wrong(String),
}

impl Walk<'_> {
    fn wrong(&mut self, table: &LakeTable, object: Option<&str>, what: String) {
        let name = &self.config.name;
        let anew = format!("rollcall rebuild {name} makes the lake anew from what the log still has");
        let repair = match (object, &self.config.location) {
            (Some(object), Location::Bucket { .. }) => {
                let at = self.objects.name(object);
                format!("put {at} back, from a copy or the bucket's older versions; else {anew}")
            }
            (Some(object), Location::Folder(_)) => {
                format!("put {} back from a copy; else {anew}", self.objects.name(object))
            }
            (None, _) => anew,
        };
        let object = object.map(|object| self.objects.name(object));
        self.report.add(Problem { table: table.name.to_owned(), object, what, repair });
    }

    async fn table(
        &mut self,
        table: &'static LakeTable,
        manifest: &Manifest,
        at: &mut Progress,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Fault> {
        for untiled in manifest.untiled() {
            self.wrong(table, None, untiled.to_string());
        }
        let mut verified = VerifiedTable {
            table: table.name.to_owned(),
            files: manifest.files.len() as u64,
            rows: manifest.files.iter().map(|file| file.rows).sum(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            ..VerifiedTable::default()
        };
        let mut ends: BTreeMap<usize, Ends> = BTreeMap::new();
        let mut looking: JoinSet<Result<Looked, Fault>> = JoinSet::new();
        let mut waiting = manifest.files.iter().enumerate();
        loop {
            while looking.len() < FILES_IN_FLIGHT_MAX
                && let Some((n, file)) = waiting.next()
            {
                looking.spawn(look(self.objects.clone(), table, n, file.clone(), self.spool.file(n)));
            }
            let Some(looked) = looking.join_next().await else { break };
            let Looked { at: n, found } =
                looked.map_err(|e| Fault::bug("looking at a file of the lake panicked").from_source(e))??;
            let file = &manifest.files[n];
            match found {
                Found::Sound(sound) if file.parts > 1 => drop(ends.insert(n, sound)),
                Found::Sound(_) => {}
                Found::NotThere if self.was_replaced(table, file).await? => verified.replaced += 1,
                Found::NotThere => {
                    self.wrong(table, Some(&file.object), "is listed but not there".to_owned())
                }
                Found::Wrong(what) => self.wrong(table, Some(&file.object), what),
            }
            at.files += 1;
            at.bytes += file.bytes;
            progress(*at);
        }
        self.parts_apart(table, manifest, &ends);
        verified.strays = self.strays(table, manifest).await?;
        self.report.tables.push(verified);
        Ok(())
    }

    /// A compaction may have come between.
    async fn was_replaced(&self, table: &LakeTable, file: &ListedFile) -> Result<bool, Fault> {
        let newest = Box::pin(self.tables.newest(table.name, None)).await?;
        Ok(newest.is_some_and(|newest| newest.manifest.files.iter().all(|now| now.object != file.object)))
    }

    /// Parts of a range have keys of their own, in order.
    fn parts_apart(&mut self, table: &LakeTable, manifest: &Manifest, ends: &BTreeMap<usize, Ends>) {
        let mut last: BTreeMap<Range, Vec<u8>> = BTreeMap::new();
        for (n, ends) in ends {
            let file = &manifest.files[*n];
            let Some((first_key, last_key)) = ends else { continue };
            if last.get(&file.range).is_some_and(|before| first_key <= before) {
                self.wrong(table, Some(&file.object), "begins before the part before it ends".to_owned());
            }
            last.insert(file.range, last_key.clone());
        }
    }

    async fn strays(&self, table: &LakeTable, manifest: &Manifest) -> Result<u64, Fault> {
        let known = manifest.known();
        let (mut strays, mut after) = (0, None);
        loop {
            let page = self.objects.list(&format!("{}/partition=", table.name), after.as_deref()).await?;
            strays +=
                page.objects.iter().filter(|object| !known.contains(object.key.as_str())).count() as u64;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(strays),
            }
        }
    }
}

async fn look(
    objects: Objects,
    table: &'static LakeTable,
    at: usize,
    file: ListedFile,
    path: PathBuf,
) -> Result<Looked, Fault> {
    if Box::pin(objects.download(&file.object, &path)).await?.is_none() {
        return Ok(Looked { at, found: Found::NotThere });
    }
    let name = objects.name(&file.object);
    let checked = tokio::task::spawn_blocking(move || {
        let checked = content::check(&path, table, &file);
        // What stays goes with the spool.
        let _removed = std::fs::remove_file(&path);
        checked.map_err(|fault| (fault, path))
    });
    match checked.await.map_err(|e| Fault::bug("looking at a file of the lake panicked").from_source(e))? {
        Ok(ends) => Ok(Looked { at, found: Found::Sound(ends) }),
        Err((fault, path)) => match fault.kind {
            FaultKind::Refused => {
                let what = fault.message().replace(&path.display().to_string(), &name);
                Ok(Looked { at, found: Found::Wrong(what) })
            }
            FaultKind::Retry
            | FaultKind::BadRecord
            | FaultKind::Config
            | FaultKind::Fenced
            | FaultKind::Bug => Err(fault),
        },
    }
}

#[cfg(test)]
mod tests;
