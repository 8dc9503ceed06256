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
use rollcall_model::{Fault, Log, Partition, Place, Seq, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::now_us;
use crate::roster_task;
use crate::wiring::OpenArchive;

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
pub(crate) struct Reading {
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
pub(crate) struct Part {
    topic: Topic,
    partition: Partition,
    cursor: ArchiveCursor,
    /// Rows read of it, about: what a file has besides records is counted at its end.
    read: u64,
    rows: u64,
}

impl Part {
    pub(crate) fn at(&self) -> (Topic, Partition) {
        (self.topic, self.partition)
    }

    pub(crate) fn cursor(&self) -> ArchiveCursor {
        self.cursor
    }
}

impl Reading {
    /// Some parts of an archive, from their beginning.
    pub(crate) fn of<'a>(
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
        let left: Vec<Part> = parts.into_iter().filter(|held| held.files > 0).map(part).collect();
        let total = left.iter().map(|part| part.rows).sum();
        Self { archive: archive.to_owned(), pin: reader.pin(), left, read: 0, total }
    }

    pub(crate) fn pin(&self) -> String {
        self.pin.clone()
    }

    /// What is read next; `None` when all is read.
    pub(crate) fn next(&self) -> Option<Part> {
        self.left.first().copied()
    }

    /// So many records of the first part were read, and it goes on there.
    pub(crate) fn advance(&mut self, records: usize, next: Option<ArchiveCursor>) {
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

    /// As a task shows it.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let read = self.read + self.left.first().map_or(0, |part| part.read);
        json!({ "from": self.archive, "read": read, "total": self.total })
    }
}

/// The place of the log that goes on where an archive ends, of a partition of a topic.
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
    held: &Archived,
    tombstone_retention: Duration,
) -> Result<Place, Fault> {
    let (topic, partition) = (held.topic, held.partition);
    let range = log.range(topic, partition).await?;
    let until = held.covered.until;
    if held.covered.seq == Seq::default() {
        return Ok(range.start);
    }
    if until.epoch < log.epoch() {
        refuse_another_life(log, archive, held).await?;
        return Ok(range.start);
    }
    if until > range.end {
        return Err(ahead(
            archive,
            held,
            &format!("it goes on at {until:?}, the log ends at {:?}", range.end),
        ));
    }
    if topic == Topic::SegmentCounts {
        return Ok(range.start);
    }
    let kept_ms = u64::try_from(tombstone_retention.as_millis()).unwrap_or(u64::MAX);
    let oldest_ms = u64::try_from(now_us() / 1_000).unwrap_or_default().saturating_sub(kept_ms);
    if until < log.offset_at(topic, partition, oldest_ms).await? {
        return Err(Fault::refused(format!(
            "lake '{archive}' holds {}/{partition} up to offset {}, and what follows is older than tombstones are kept: \
             who was deleted there may have left the log",
            topic.name(),
            until.offset
        ))
        .repair("let the lake's sink catch up (rollcall status), or rebuild without --from"));
    }
    Ok(until.max(range.start))
}

/// The log that the archive is of went on after it was copied, and this is the copy.
async fn refuse_another_life(log: &dyn Log, archive: &str, held: &Archived) -> Result<(), Fault> {
    let progress = log.tasks().await?.remove(&roster_task::name(held.partition));
    let seq = progress.and_then(|progress| progress.state.get("seq")?.as_u64()).unwrap_or_default();
    if held.covered.seq.0 > seq {
        return Err(ahead(archive, held, &format!("the log, which was copied, has come to commit {seq}")));
    }
    Ok(())
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
