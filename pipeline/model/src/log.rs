//! The log: where everything meets.
//!
//! ```text
//! task ──open──▶ Opened { producer, progress }      the newest opener of a task fences the older ones
//! producer.commit(records + progress)               all of it, durable, or none of it
//! consumer.poll                                     only what is committed, per partition in order
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::place::{LogId, Partition, Place};
use crate::topic::Topic;

/// What the traits' methods return: one box per batch, which costs nothing beside what the batch does.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// A record of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The topic.
    pub topic: Topic,
    /// The partition, always explicit; 0 where the topic isn't partitioned.
    pub partition: Partition,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` removes the key from a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Name and text.
    pub headers: Vec<(String, String)>,
}

/// Where a task stands: what it has read of each partition, and what it must remember.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The next offset to read, per topic and partition. Retention never drops what a task has not read.
    #[serde(with = "reads_as_list")]
    pub reads: BTreeMap<(Topic, Partition), Place>,
    /// The task's own state.
    pub state: serde_json::Value,
}

/// JSON object keys are text: the map travels as a list.
mod reads_as_list {
    use super::{BTreeMap, Partition, Place, Topic};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        reads: &BTreeMap<(Topic, Partition), Place>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        reads.iter().map(|((t, p), place)| (t, p, place)).collect::<Vec<_>>().serialize(s)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<(Topic, Partition), Place>, D::Error> {
        Ok(Vec::<(Topic, Partition, Place)>::deserialize(d)?
            .into_iter()
            .map(|(t, p, o)| ((t, p), o))
            .collect())
    }
}

/// What becomes durable together.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    /// The records, in order per partition.
    pub records: Vec<Record>,
    /// The task's new progress; `None` leaves it.
    pub progress: Option<Progress>,
}

/// Proof of a commit: where the first record of each partition came to stand. Offsets grow with each record, not
/// always by one: a log may need some for itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// First place per topic and partition written to.
    pub first: BTreeMap<(Topic, Partition), Place>,
}

/// A task's writer, with what it last committed: nobody can write before fencing and reading where to go on.
pub struct Opened {
    /// The writer.
    pub producer: Box<dyn Producer>,
    /// What the task last committed.
    pub progress: Option<Progress>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// A record with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Where it stands.
    pub place: Place,
    /// The record.
    pub record: Record,
    /// Whether it was not written through the log: where others can write too, their records are told apart by this.
    /// Nothing follows from them; where something is kept, they are kept in quarantine.
    pub foreign: bool,
}

/// What is there of a partition: `[start, end)`.
///
/// Commits become visible in all their partitions, but not everywhere at one moment. Whoever goes from one topic to
/// another (a bootstrap) takes `stable` of the one it will go on with first, then reads the other up to an `end` asked
/// for afterwards: what lies below that `stable` has all its records below that `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRange {
    /// The first offset still there.
    pub start: Place,
    /// Below it everything is decided: who reads from here on misses nothing that is committed later.
    pub stable: Place,
    /// Above everything that is committed by now. A consumer that has reached it has brought all of that.
    pub end: Place,
}

/// Bounds of one poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollLimit {
    /// At most this many records.
    pub records_max: usize,
    /// About this many bytes of keys and values at most (at least one record).
    pub bytes_max: usize,
    /// How long to wait for the first record.
    pub wait: Duration,
}

/// A durable, partitioned, replayable log with one atomic commit.
pub trait Log: Send + Sync {
    /// Its identity.
    fn id(&self) -> &LogId;
    /// Its epoch: grows with `log copy`.
    fn epoch(&self) -> u32;
    /// Its number of partitions, fixed when it was made.
    fn partitions(&self) -> u16;
    /// Becomes the only writer of a task: older producers of it fail with [`crate::FaultKind::Fenced`] from here on.
    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened>;
    /// Reads from given places on. A place before the range is an error, never a reset.
    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>>;
    /// What is there of a partition.
    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange>;
    /// The first place whose record is of a time or later; where decided records end (`stable`) when all are older.
    /// Times are those at which records were written, in milliseconds since 1970, and need not grow with the places.
    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place>;
    /// The progress of every task that has one, as far as it is decided: a dead task's last commit may keep that open
    /// until the task is opened again.
    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>>;
    /// Forgets a task that will not come back, so that it holds no retention up.
    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()>;
}

/// The one writer of a task.
pub trait Producer: Send {
    /// Makes records and progress durable and visible together. After an error other than
    /// [`crate::FaultKind::Retry`] nothing of it is or will be visible; after `Retry` it may be, and the task must
    /// open again to learn where it stands.
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed>;
}

/// The workers that share a log's tasks, as one of them sees it. Tasks are numbers: all workers count them alike.
pub trait Workers: Send {
    /// The tasks that are this worker's from here on; answers when that changes. Asking again says that whatever is no
    /// longer this worker's has stopped. Cancel-safe.
    fn next(&mut self) -> Fut<'_, BTreeSet<u16>>;
}

/// A reader of some partitions.
pub trait Consumer: Send {
    /// The next committed records: per partition in order, without gaps but those of compaction and of a log's own
    /// marks. Empty when none came in time, which says nothing about how many there are. Cancel-safe.
    fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>>;
    /// Up to where everything was brought, per partition: past the last record, and past what was compacted away or is
    /// the log's own behind it.
    fn reached(&self) -> BTreeMap<(Topic, Partition), Place>;
}
