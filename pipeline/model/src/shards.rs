//! A stream in shards (DynamoDB Streams): who reads which, how far, and what may follow.
//!
//! ```text
//!                 source/edge          begins the stream, runs backfills, says how far all have come
//!   Stream ─▶ ┌──────┼──────┐
//!        source/edge/0 …  source/edge/n   one task each, spread over workers; a shard is read by the task that its
//!             └──────┬──────┘             name falls to, its parent perhaps by another
//!                    ▼
//!              progress: Shards          what a task has read, durable with what it read
//! ```
//!
//! A shard begins once its parent is finished *in the log*: the owner of the parent commits the parent's last records and
//! its end together, and the owner of the child looks for that end in the progress of all. So an item's changes stand in
//! the log in the stream's order, whoever reads, and nothing but the log coordinates.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::item::{FoundItem, ItemChange};
use crate::log::{Committed, Fut};
use crate::position::Sequence;
use crate::source::BackfillId;

/// A shard, by the name that the source gives it.
pub type ShardId = String;

/// Where a stream begins: written by `source/<name>` before the first reader reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The stream, as the source names it (an ARN).
    pub name: String,
    /// +1 with each stream of the table and each accepted loss: readers of an older epoch begin anew.
    pub epoch: u64,
    /// What is read of shards that were there at the beginning.
    pub start: StreamStart,
    /// When it began, or its epoch was raised: losses up to then are accepted, later ones are not. By the source's clock,
    /// in microseconds.
    pub began_us: i64,
    /// How many tasks share its shards.
    pub readers: u16,
    /// With [`StreamStart::Latest`]: shards that had ended when it began and have children. They and those before them
    /// are not read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ended: BTreeSet<ShardId>,
}

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStart {
    /// With what is written from now on.
    Latest,
    /// With the oldest that is still there.
    TrimHorizon,
}

/// How far a shard has been read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardProgress {
    /// The shard it came from, if the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ShardId>,
    /// The last record in the log; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Sequence>,
    /// Every record written before this, in microseconds by the source's clock, is in the log.
    pub through_us: i64,
    /// Its end is in the log too: children may begin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// What came from it, once it is finished and they are listed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub children: BTreeSet<ShardId>,
}

/// What one reader has read, and must remember.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Shards {
    /// The epoch of the stream that this speaks of.
    pub epoch: u64,
    /// Its shards: unfinished ones, and finished ones until all that came from them are known to some reader and the
    /// source no longer lists them.
    pub shards: BTreeMap<ShardId, ShardProgress>,
}

/// What a reader says next: records of one shard in order, and where it stands once they are in the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardEvent {
    /// The records.
    pub changes: Vec<ItemChange>,
    /// Shards whose progress changes with them; `None` forgets one.
    pub progress: BTreeMap<ShardId, Option<ShardProgress>>,
}

/// Proof that what a reader said is durable in the log. Only [`SavedShards::by`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedShards {
    shards: Shards,
}

impl SavedShards {
    /// The progress that `committed` made durable.
    #[must_use]
    pub fn by(_committed: &Committed, shards: Shards) -> Self {
        Self { shards }
    }
    /// The progress.
    #[must_use]
    pub fn shards(&self) -> &Shards {
        &self.shards
    }
}

/// One of the readers that share a stream.
///
/// Contract: of each shard the records come in order and once, from where its saved progress stands; a shard begins only
/// when its parent is finished in [`ShardSource::saved`] or [`ShardSource::others`]; a record that can't be had any more
/// is a [`crate::FaultKind::Refused`] that names the window, never a silent jump.
pub trait ShardSource: Send {
    /// Waits for the next event. Cancel-safe: a dropped future loses nothing.
    fn next(&mut self) -> Fut<'_, ShardEvent>;
    /// What was said up to here is in the log.
    ///
    /// # Errors
    /// A [`Fault`] when the source has ended.
    fn saved(&mut self, saved: &SavedShards) -> Result<(), Fault>;
    /// What the other readers have in the log.
    ///
    /// # Errors
    /// A [`Fault`] when the source has ended.
    fn others(&mut self, others: &BTreeMap<u16, Shards>) -> Result<(), Fault>;
    /// How old the oldest record is that is there and unread, at most, in milliseconds, and of which shard.
    fn oldest_unread(&self) -> Option<(ShardId, u64)>;
}

/// Where a backfill of items goes on; in the words of its reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub serde_json::Value);

/// Some items of a backfill.
#[derive(Clone, PartialEq, Debug)]
pub struct ItemPage {
    /// The items.
    pub items: Vec<FoundItem>,
    /// Where the backfill goes on once they are in the log.
    pub next: Cursor,
    /// Whether these are the last.
    pub done: bool,
    /// The items are as they were at this time or later: what the stream says of an item since then wins. By the source's
    /// clock, in microseconds, less what clocks may differ by.
    pub cut_us: i64,
    /// They enter the log once every shard is in it up to here: nothing then goes back to what an item was before.
    pub until_us: i64,
    /// Read capacity units that reading them took.
    pub read_units: f64,
    /// Bytes read for them.
    pub bytes: u64,
}

/// Where a backfill gets its items from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum ItemOrigin {
    /// The table itself, read consistently.
    Scan {
        /// Only the items of this environment, by its api key; nothing is then taken for gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment_key: Option<String>,
    },
    /// An export: `s3://bucket/prefix/AWSDynamoDB/<id>`, or a local folder of the same shape.
    Export {
        /// Where its manifest lies.
        location: String,
    },
}

/// A backfill to run beside a stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ItemBackfillPlan {
    /// Its id.
    pub id: BackfillId,
    /// Where the items come from.
    pub origin: ItemOrigin,
    /// Where to go on; `None` is from the start.
    pub cursor: Option<Cursor>,
}

/// What a backfill covers: known before its first page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "covers", rename_all = "snake_case")]
pub enum Coverage {
    /// The whole table as of a time: what is neither in it nor streamed since is gone.
    Whole {
        /// The time, in microseconds by the source's clock, less what clocks may differ by.
        cut_us: i64,
    },
    /// Every item written or deleted in a window, deletes said as such (an incremental export), but for those made and
    /// deleted in it: one that the stream spoke of last in the window, and that is not in it, is gone.
    Window {
        /// Its start.
        from_us: i64,
        /// Its end.
        to_us: i64,
    },
    /// Only what it brings: nothing follows for other items (one environment).
    Part,
}

/// What reading a backfill will take.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BackfillEstimate {
    /// Items, about.
    pub items: u64,
    /// Bytes, about.
    pub bytes: u64,
    /// Read capacity units of the table; none for an export.
    pub read_units: f64,
    /// How long at the set rate, in seconds; `None` where nothing limits it.
    pub seconds: Option<f64>,
    /// What the numbers rest on, for people.
    pub basis: String,
}

/// A running backfill of items.
pub trait ItemPages: Send {
    /// What it covers.
    fn coverage(&self) -> Coverage;
    /// The next page; asked again after the last one, or when nothing is left, it waits for ever. Cancel-safe.
    fn next(&mut self) -> Fut<'_, ItemPage>;
}
