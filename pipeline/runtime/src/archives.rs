//! Archives that sinks and stores are rebuilt from, and where the log goes on behind them.
//!
//! ```text
//! archive  ├──────── covered, commit by commit ───────┤
//! log           ├ start (compacted) ───────────── until ├──── what is newer ────▶
//! ```
//!
//! In: an archive's name, and the moment it is read at. Out: a reader of it, and a place of the log for each part that
//! it holds. Right because of what is covered nothing is missing, and the log has lost nothing behind it: that is what
//! is looked at here, before anything is emptied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::archive::{ArchiveCursor, ArchiveReader, Archived};
use rollcall_model::log::PollLimit;
use rollcall_model::{Fault, Log, Partition, Place, Seq, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::now_us;
use crate::lake_task;
use crate::roster_task;
use crate::sink_task;
use crate::wiring::OpenArchive;

const FIRST: PollLimit = PollLimit { records_max: 1, bytes_max: 1 << 20, wait: Duration::from_millis(200) };

type Reads = BTreeMap<(Topic, Partition), Place>;

/// The archives of a topology, by name.
#[derive(Clone, Default)]
pub(crate) struct Archives {
    by_name: Arc<BTreeMap<String, OpenArchive>>,
}

impl Archives {
    pub(crate) fn new(by_name: BTreeMap<String, OpenArchive>) -> Self {
        Self { by_name: Arc::new(by_name) }
    }

    /// Opens an archive as it is now, or as it was listed at a moment. One of another log is refused.
    ///
    /// # Errors
    /// A config fault that names the archives there are; a refusal; a [`Fault`] of the archive.
    pub(crate) async fn open(
        &self,
        log: &dyn Log,
        name: &str,
        pin: Option<String>,
    ) -> Result<Box<dyn ArchiveReader>, Fault> {
        let Some(open) = self.by_name.get(name) else {
            let names: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Fault::config(format!("'{name}' is no lake of this topology; there are: {there}"))
                .repair("--from NAME: a sink of type parquet, as the topology names it"));
        };
        let reader = open(pin).await?;
        if reader.log_id() != log.id() {
            return Err(Fault::refused(format!(
                "lake '{name}' is of log {}; this is log {}: its commits say nothing of ours",
                reader.log_id(),
                log.id()
            ))
            .repair("rebuild without --from: the compacted topics of this log hold everything"));
        }
        Ok(reader)
    }
}

/// Part by part, how far an archive has been read: what is remembered of a rebuild from it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// The archive.
    pub(crate) archive: String,
    /// The moment at which it is read.
    pin: String,
    /// What is left, in the order in which it is read; of the first, from the cursor on.
    left: Vec<Part>,
    /// Rows of what is behind it.
    read: u64,
    /// Rows in all.
    total: u64,
}

/// A partition of a topic.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Part {
    topic: Topic,
    partition: Partition,
    cursor: ArchiveCursor,
    /// Rows read of it, about: what a file has besides records is counted at its end.
    read: u64,
    rows: u64,
}

impl Part {
    /// Which.
    #[must_use]
    pub fn at(&self) -> (Topic, Partition) {
        (self.topic, self.partition)
    }

    /// Where it is read on.
    #[must_use]
    pub fn cursor(&self) -> ArchiveCursor {
        self.cursor
    }
}

impl Reading {
    /// Some parts of an archive, from their beginning: all images before all sets, whose versions have a part in the same
    /// count.
    pub fn of<'a>(
        archive: &str,
        reader: &dyn ArchiveReader,
        parts: impl IntoIterator<Item = &'a Archived>,
    ) -> Self {
        let part = |held: &Archived| Part {
            topic: held.topic,
            partition: held.partition,
            cursor: ArchiveCursor::default(),
            read: 0,
            rows: held.rows,
        };
        let mut left: Vec<Part> = parts.into_iter().filter(|held| held.files > 0).map(part).collect();
        left.sort_unstable_by_key(Part::at);
        let total = left.iter().map(|part| part.rows).sum();
        Self { archive: archive.to_owned(), pin: reader.pin(), left, read: 0, total }
    }

    /// The moment at which it is read.
    #[must_use]
    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// What is read next; `None` when all is read.
    #[must_use]
    pub fn next(&self) -> Option<Part> {
        self.left.first().copied()
    }

    /// So many records of the first part were read, and it goes on there.
    pub fn advance(&mut self, records: usize, next: Option<ArchiveCursor>) {
        let Some(part) = self.left.first_mut() else { return };
        match next {
            Some(next) => {
                let same_file = next.file == part.cursor.file;
                let rows = if same_file { next.row.saturating_sub(part.cursor.row) } else { records as u64 };
                part.read = (part.read + rows).min(part.rows);
                part.cursor = next;
            }
            None => {
                self.read += part.rows;
                self.left.remove(0);
            }
        }
    }

    /// Rows read, about, and rows in all.
    #[must_use]
    pub fn rows(&self) -> (u64, u64) {
        (self.read + self.left.first().map_or(0, |part| part.read), self.total)
    }

    /// As a task shows it.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let (read, total) = self.rows();
        json!({ "from": self.archive, "read": read, "total": total })
    }
}

/// The places of the log that go on where an archive ends, of some partitions of topics.
///
/// Of segment-counts it is the topic's start: it is compacted to a record per segment and environment, and holds the
/// watermarks, which no archive keeps. Of an archive that was last written before the log was copied it is the start,
/// too: its places are those of the old log, a copy is made when everybody has read everything, and what is taken twice
/// changes nothing. Everything else goes on at [`until`](rollcall_model::archive::Covered::until).
///
/// # Errors
/// Refused when the archive is ahead of the log, or so far behind that deletions have left the log in between.
pub(crate) async fn goes_on(
    log: &dyn Log,
    archive: &str,
    parts: &[Archived],
    tombstone_retention: Duration,
) -> Result<Reads, Fault> {
    let kept_ms = u64::try_from(tombstone_retention.as_millis()).unwrap_or(u64::MAX);
    let oldest_ms = u64::try_from(now_us() / 1_000).unwrap_or_default().saturating_sub(kept_ms);
    let tasks = log.tasks().await?;
    let mut places = Reads::new();
    for part in parts {
        let at = (part.topic, part.partition);
        let range = log.range(at.0, at.1).await?;
        let until = part.covered.until;
        let place = if part.covered.seq == Seq::default() {
            range.start
        } else if until.epoch < log.epoch() {
            // The log that it is of may have gone on after it was copied, and this is the copy.
            let roster = tasks.get(&roster_task::name(part.partition));
            let seq = roster.and_then(|progress| progress.state.get("seq")?.as_u64()).unwrap_or_default();
            if part.covered.seq.0 > seq {
                return Err(ahead(archive, part, &format!("the log is a copy and has come to commit {seq}")));
            }
            range.start
        } else if until > range.end {
            let ends = format!("it goes on at offset {}, the log ends at {}", until.offset, range.end.offset);
            return Err(ahead(archive, part, &ends));
        } else if part.topic == Topic::SegmentCounts {
            range.start
        } else {
            // What the archive's own task has passed by was no row, and the log held it until then.
            // It says so of what is listed by now, which may be more than the reader's.
            let progress = tasks.get(&sink_task::name(archive));
            let progress = progress.filter(|p| lake_task::covered(&p.state, at) == Some(part.covered.seq));
            let passed = progress.and_then(|progress| progress.reads.get(&at));
            let seen = passed.copied().unwrap_or(until).max(until);
            let old = log.offset_at(at.0, at.1, oldest_ms).await?;
            if seen < old && first_from(log, at, seen).await?.is_some_and(|first| first < old) {
                return Err(behind(archive, part));
            }
            until.max(range.start)
        };
        places.insert(at, place);
    }
    Ok(places)
}

/// The first record that is left from a place on.
async fn first_from(log: &dyn Log, at: (Topic, Partition), from: Place) -> Result<Option<Place>, Fault> {
    let mut consumer = log.consumer(BTreeMap::from([(at, from)])).await?;
    Ok(consumer.poll(FIRST).await?.first().map(|fetched| fetched.place))
}

fn behind(archive: &str, part: &Archived) -> Fault {
    Fault::refused(format!(
        "lake '{archive}' holds {}/{} up to offset {}, and what follows is older than tombstones are kept: who was \
         deleted there may have left the log",
        part.topic.name(),
        part.partition,
        part.covered.until.offset
    ))
    .repair("let the lake's sink catch up (rollcall status), or rebuild without --from")
}

fn ahead(archive: &str, held: &Archived, what: &str) -> Fault {
    Fault::refused(format!(
        "lake '{archive}' holds {}/{} up to commit {}, which this log doesn't have: {what}. The log was set back, or \
         another one goes on under the same id",
        held.topic.name(),
        held.partition,
        held.covered.seq.0
    ))
    .repair("rebuild without --from; then begin the lake anew: rollcall rebuild LAKE")
}
