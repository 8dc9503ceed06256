//! What is listed: the truth about a table of the lake.
//!
//! ```text
//! <table>/manifests/<n>.json   the highest n is the truth   ── decide ──▶ <n + 1>.json, put if absent
//!                                       ▲                                      │ taken
//!                                       └──────────────────────────────────────┘
//! ```
//!
//! A [`Manifest`] names every file of a table and how far each partition is covered. It changes by one more manifest,
//! never in place ([`Tables`]), so a reader that holds one sees the table as it was at one moment, and two that write
//! at once are told so: the second looks again at what the first did.
//!
//! What a manifest no longer lists is `retired`: it stays for readers that hold an older manifest, then is `doomed`,
//! removed, and forgotten. Each step is a manifest of its own, so an object is never both listed and about to go.

mod change;
mod tables;
mod tiling;

use std::collections::BTreeMap;

use rollcall_model::archive::AsOf;
use rollcall_model::{Fault, LogId, Partition, Place, Seq};
use serde::{Deserialize, Serialize};

pub(crate) use change::Addition;
pub(crate) use tables::{Numbered, Tables, key_of, manifests_of, number_of};
#[cfg(test)]
pub(crate) use tiling::Untiled;

/// Of manifests that this version writes; it refuses newer ones.
pub(crate) const FORMAT: u32 = 1;
/// What repairs a manifest that can't be understood.
const PUT_BACK: &str = "put back what was there, from a backup or an older version of the object";

/// A table of the lake at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Of this document.
    pub(crate) format: u32,
    /// The table: its folder.
    pub(crate) table: String,
    /// Of the table's columns, in the newest file.
    pub(crate) schema_version: u32,
    /// The log whose records it holds.
    pub(crate) log_id: LogId,
    /// The sink that writes it, as the topology names it.
    pub(crate) writer: String,
    /// When it was written, by the clock of who wrote it.
    pub(crate) created_at_us: i64,
    /// What was so before this time isn't whole any more.
    pub(crate) history_from_us: i64,
    /// Up to when the lake lacks nothing of what a source's stream said, in all tables. The manifests of `segment_counts` say it, whose topic holds
    /// the watermarks; of the other tables those that were the newest then, or newer ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) as_of_us: AsOf,
    /// How far each partition is covered; one that is absent is covered up to nothing.
    pub(crate) covered: BTreeMap<Partition, Reach>,
    /// The files, in the order of partition, range and part.
    pub(crate) files: Vec<ListedFile>,
    /// Ranges without a row, in the order of partition and range; neighbours are one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) empty: Vec<Range>,
    /// What was listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) retired: Vec<Retired>,
}

/// How far a partition is covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// The first commit: 1, or the one after what retention has dropped.
    pub(crate) first: Seq,
    /// The last, whole.
    pub(crate) seq: Seq,
    /// The log's place that goes on after it.
    pub(crate) until: Place,
}

/// A range of commits of a partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Range {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first commit.
    pub(crate) first_seq: Seq,
    /// The last.
    pub(crate) last_seq: Seq,
}

/// A file, or one of several that hold a range together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ListedFile {
    /// Its key, relative to the lake.
    pub(crate) object: String,
    /// What it holds, or holds together with the range's other files.
    #[serde(flatten)]
    pub(crate) range: Range,
    /// Which of the range's files, from 0; their keys don't overlap and grow.
    pub(crate) part: u16,
    /// How many there are.
    pub(crate) parts: u16,
    /// Rows.
    pub(crate) rows: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// Of the whole file, in hex.
    pub(crate) sha256: String,
    /// The lowest version; of counts, the lowest seq.
    pub(crate) min_version: i64,
    /// The highest.
    pub(crate) max_version: i64,
    /// Of rows that say when it happened, the earliest, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_event_us: Option<i64>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_event_us: Option<i64>,
}

/// An object that was listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Retired {
    /// Its key, relative to the lake.
    pub(crate) object: String,
    /// Since when it isn't listed.
    pub(crate) at_us: i64,
    /// Whether somebody is removing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) doomed: bool,
}

/// The name of a file's object. The hash makes it the name of its content: what has this name is this file.
pub(crate) fn object_name(table: &str, log: &LogId, range: Range, part: Option<u16>, sha256: &str) -> String {
    let Range { partition, first_seq, last_seq } = range;
    let part = part.map(|part| format!("-{part:04}")).unwrap_or_default();
    let hash: String = sha256.chars().take(16).collect();
    let folder = files_of(table, partition);
    format!("{folder}{log}-{:020}-{:020}{part}-{hash}.parquet", first_seq.0, last_seq.0)
}

/// The folder of a table's files of a partition.
pub(crate) fn files_of(table: &str, partition: Partition) -> String {
    format!("{table}/partition={partition}/")
}

/// The range in the name of an object of ours; `None` for what has no such name.
pub(crate) fn range_of(table: &str, log: &LogId, partition: Partition, object: &str) -> Option<Range> {
    let name = object.strip_prefix(&files_of(table, partition))?.strip_prefix(&format!("{log}-"))?;
    let (first, rest) = name.split_once('-')?;
    let (last, _) = rest.split_once('-')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok().map(Seq))?;
    Some(Range { partition, first_seq: number(first)?, last_seq: number(last)? })
}

impl Manifest {
    /// Of a table that holds nothing yet. `table` is its name and the version of its columns.
    pub(crate) fn begin(table: (&str, u32), log: &LogId, writer: &str, now_us: i64) -> Self {
        Self {
            format: FORMAT,
            table: table.0.to_owned(),
            schema_version: table.1,
            log_id: log.clone(),
            writer: writer.to_owned(),
            created_at_us: now_us,
            history_from_us: now_us,
            as_of_us: AsOf::new(),
            covered: BTreeMap::new(),
            files: Vec::new(),
            empty: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Reads one. `name` is what people call it.
    pub(crate) fn read(name: &str, table: &str, bytes: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let broken = |error: serde_json::Error| {
            Fault::refused(format!("{name} is no manifest of a lake")).repair(PUT_BACK).from_source(error)
        };
        let Format { format } = serde_json::from_slice(bytes).map_err(broken)?;
        if format > FORMAT {
            return Err(Fault::refused(format!(
                "{name} has format {format}, and this version of rollcall reads up to {FORMAT}"
            ))
            .repair("run the version of rollcall that wrote it, or a newer one"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(broken)?;
        manifest.sound(name, table)?;
        Ok(manifest)
    }

    /// Names come from outside: none may point elsewhere.
    fn sound(&self, name: &str, table: &str) -> Result<(), Fault> {
        let wrong = |what: String| Fault::refused(format!("{name} {what}")).repair(PUT_BACK);
        if self.table != table {
            return Err(wrong(format!("is of the table '{}', not {table}", self.table)));
        }
        for object in self.files.iter().map(|f| &f.object).chain(self.retired.iter().map(|r| &r.object)) {
            let mut steps = object.split('/');
            let inside = steps.next() == Some(table)
                && steps.next().is_some_and(|folder| folder.starts_with("partition="))
                && steps.next().is_some_and(|file| file.ends_with(".parquet"))
                && steps.next().is_none();
            if !inside {
                return Err(wrong(format!("lists '{object}', which is no file of the table")));
            }
        }
        if let Some(file) = self.files.iter().find(|file| file.part >= file.parts) {
            return Err(wrong(format!("lists '{}' as part {} of {}", file.object, file.part, file.parts)));
        }
        Ok(())
    }

    /// Its text.
    pub(crate) fn text(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(self).map_err(|e| Fault::bug("a manifest has no JSON form").from_source(e))
    }

    /// How far a partition is covered.
    pub(crate) fn covered(&self, partition: Partition) -> Reach {
        let nothing = Reach { first: Seq(1), seq: Seq(0), until: Place::default() };
        self.covered.get(&partition).copied().unwrap_or(nothing)
    }

    /// The files of a partition, in the order of range and part.
    pub(crate) fn files_of(&self, partition: Partition) -> impl Iterator<Item = &ListedFile> {
        self.files.iter().filter(move |file| file.range.partition == partition)
    }
}

#[cfg(test)]
mod tests;
