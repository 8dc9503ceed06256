//! What an archive is: the rosters' topics, kept as files, each one range of seqs of one partition of one topic.
//!
//! ```text
//! Delivery ─take─▶ buffered ─┬─ Cut in progress ─▶ upload ─▶ list ─▶ progress        (Archive, a sink of its own kind)
//!                            └─ a restart cuts the same again
//! listed files ─▶ ArchiveReader ─▶ Delivery ─▶ a sink or a store that is rebuilt     (until Covered; then the log)
//! ```
//!
//! A file's range is in the log before the file is uploaded, so a restart makes the same range again and never one that
//! overlaps it (PROTOCOL.md §5). What is listed is the truth: an uploaded file that isn't listed is nobody's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ids::SourceName;
use crate::log::Fut;
use crate::place::{LogId, Partition, Place, Seq};
use crate::sink::Delivery;
use crate::topic::Topic;

/// A range of commits of one partition of one topic: what one file holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
    /// The first commit: the one after what was covered before. Not every commit has a record of the topic.
    pub first: Seq,
    /// The last commit, whole.
    pub last: Seq,
    /// All records below this place and none above are of commits up to `last`.
    pub until: Place,
}

/// How far an archive holds a partition of a topic: without a gap from the first commit on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Covered {
    /// The last commit that it holds, whole.
    pub seq: Seq,
    /// The place that goes on after it.
    pub until: Place,
}

/// Per source, a time up to which an archive lacks none of the changes that its stream said: of its own clock, in microseconds
/// since 1970. What a later backfill or a replay of parked changes says of that time is not promised.
pub type AsOf = BTreeMap<SourceName, i64>;

/// What is buffered of a partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffered {
    /// Rows.
    pub rows: u64,
    /// Bytes in memory.
    pub bytes: u64,
}

/// Keeps what rosters decided as files.
///
/// Contract: `take` gets each record of a partition of a topic in order and once between two starts; `upload` is called
/// with cuts that are in the log's progress by then, whose records were all taken; `list` with the same cuts, after
/// `upload` answered. Each may be called again with the same cut after a failure or a restart, and then changes nothing
/// that is listed. Two that keep the same archive: the second is refused.
pub trait Archive: Send {
    /// The topics it keeps.
    fn reads(&self) -> &'static [Topic];
    /// Finds out what is listed, makes what is missing, and refuses an archive of another log or writer. What is covered
    /// per topic and partition; a partition that is absent is covered up to nothing.
    fn prepare<'a>(
        &'a mut self,
        log: &'a LogId,
        partitions: u16,
    ) -> Fut<'a, Vec<((Topic, Partition), Covered)>>;
    /// Buffers the rows of a record.
    ///
    /// # Errors
    /// A [`Fault`] of kind `Bug`; no record can cause one.
    fn take(&mut self, delivery: &Delivery) -> Result<(), Fault>;
    /// What is buffered of a partition of a topic.
    fn buffered(&self, at: (Topic, Partition)) -> Buffered;
    /// Makes a durable file of what is buffered for each cut. Rows above a cut stay buffered. Answers the rows uploaded.
    fn upload<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, u64>;
    /// Lists the files of cuts, which are covered from then on.
    fn list<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, ()>;
    /// Notes how far each source has come in what is listed; what was noted of it before and is higher stays.
    fn note<'a>(&'a mut self, as_of: &'a AsOf) -> Fut<'a, ()>;
    /// Begins a new archive of this log in the place of what is listed.
    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()>;
}

/// Which records are read of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ArchiveFilter {
    /// Only of these environments, by api key (counts: by the platform's id); all when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<String>,
    /// Only what was so at this time: versions up to it, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_us: Option<i64>,
}

/// What an archive holds of a partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Archived {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
    /// How far.
    pub covered: Covered,
    /// Files.
    pub files: u32,
    /// Rows in them, older versions included.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where a reader of a partition of a topic stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ArchiveCursor {
    /// The file, in the order of their ranges.
    pub file: u32,
    /// Rows of it that have been read.
    pub row: u64,
}

/// Some records of an archive.
#[derive(Clone, PartialEq, Debug)]
pub struct ArchivePage {
    /// The records, files in the order of their ranges, so of one thing older versions first; but inside one file the images
    /// of an identity that moved stand in the order of its environments.
    pub deliveries: Vec<Delivery>,
    /// Where it goes on; `None` after the last.
    pub next: Option<ArchiveCursor>,
}

/// Reads an archive as it was listed at one moment, whatever is listed meanwhile.
pub trait ArchiveReader: Send {
    /// The log whose records it holds.
    fn log_id(&self) -> &LogId;
    /// Names the moment, so that a reader can be opened at it again.
    fn pin(&self) -> String;
    /// What it holds.
    fn holds(&self) -> &[Archived];
    /// The next records of a partition of a topic, a bounded number of them.
    fn read<'a>(
        &'a mut self,
        at: (Topic, Partition),
        from: ArchiveCursor,
        filter: &'a ArchiveFilter,
    ) -> Fut<'a, ArchivePage>;
}
