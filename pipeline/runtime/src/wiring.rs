//! What the runtime is given: connectors already built or the means to build them. Only the binary knows which exist.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::archive::ArchiveReader;
use rollcall_model::shards::{ItemBackfillPlan, Stream};
use rollcall_model::source::BackfillPlan;
use rollcall_model::{
    Archive, Candidates, EnvironmentId, Fut, ItemPages, ListedPage, Log, Position, SegmentId, ShardSource,
    Shards, Sieve, Sifted, Sink, Source, SourceName, Workers,
};
use rollcall_platforms::ItemPlatform;

/// Starts a source at a position (none: for the first time), with a backfill to go on with.
pub type StartSource =
    Box<dyn Fn(Option<Position>, Option<BackfillPlan>) -> Fut<'static, Box<dyn Source>> + Send + Sync>;
/// Connects a sink.
pub type StartSink = Box<dyn Fn() -> Fut<'static, Box<dyn Sink>> + Send + Sync>;
/// Connects an archive.
pub type StartArchive = Box<dyn Fn() -> Fut<'static, Box<dyn Archive>> + Send + Sync>;
/// Lists the members of a segment in an environment from the columnar mirror.
pub type ListMembers = Box<dyn Fn(MembersRequest) -> Fut<'static, serde_json::Value> + Send + Sync>;

/// Counts and lists the identities that a predicate holds for.
pub type SiftIdentities = Box<dyn Fn(Sieve, ListedPage) -> Fut<'static, Sifted> + Send + Sync>;
/// Reads the next identities that a predicate holds for or that are members: at most so many, after an id.
pub type ReadCandidates = Box<dyn Fn(Sieve, Option<String>, u32) -> Fut<'static, Candidates> + Send + Sync>;

/// Opens an archive of the topology: as it is listed now, or as it was at a moment that
/// [`pin`](ArchiveReader::pin) named.
pub type OpenArchive = Box<dyn Fn(Option<String>) -> Fut<'static, Box<dyn ArchiveReader>> + Send + Sync>;

/// The columnar mirror, as far as drafts of rules are tried on it.
pub struct Mirror {
    /// Counts and lists.
    pub sift: SiftIdentities,
    /// Reads.
    pub candidates: ReadCandidates,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}

/// A source of the topology.
pub struct SourceWiring {
    /// Its name.
    pub name: SourceName,
    /// The platform whose tables it reads, as topology.yaml names it.
    pub platform: &'static str,
    /// The source that owns environments kept elsewhere, if the topology has one.
    pub edge: Option<SourceName>,
    /// How to start it.
    pub start: StartSource,
}

/// Where a reader of a stream in shards starts.
#[derive(Clone, PartialEq, Debug)]
pub struct ReaderStart {
    /// The stream.
    pub stream: Stream,
    /// Which reader it is.
    pub index: u16,
    /// What it has read.
    pub own: Shards,
    /// What the others have read.
    pub others: BTreeMap<u16, Shards>,
}

/// Looks at a source and says where its stream begins now.
pub type BeginStream = Box<dyn Fn() -> Fut<'static, Stream> + Send + Sync>;
/// Accepts what a stream has lost until now: its next epoch, and from when on something may be missing, by the source's
/// clock, in microseconds. Takes what all readers have read.
pub type AcceptLoss = Box<dyn Fn(Stream, BTreeMap<u16, Shards>) -> Fut<'static, (Stream, i64)> + Send + Sync>;
/// Starts a reader of a stream.
pub type StartReader = Box<dyn Fn(ReaderStart) -> Fut<'static, Box<dyn ShardSource>> + Send + Sync>;
/// Opens a backfill, or goes on with it.
pub type StartBackfill = Box<dyn Fn(ItemBackfillPlan) -> Fut<'static, Box<dyn ItemPages>> + Send + Sync>;

/// A source of the topology whose stream is in shards.
pub struct ItemSourceWiring {
    /// Its name.
    pub name: SourceName,
    /// The platform whose items it reads.
    pub platform: ItemPlatform,
    /// How many tasks share its shards.
    pub readers: u16,
    /// What clocks may differ by: cuts of backfills are so much earlier than their reading.
    pub clock_slack_ms: u64,
    /// Whether the first load is a scan that starts by itself.
    pub loads_by_itself: bool,
    /// Where its stream begins.
    pub begin: BeginStream,
    /// How a loss is accepted.
    pub accept_loss: AcceptLoss,
    /// How to start a reader.
    pub start_reader: StartReader,
    /// How to open a backfill.
    pub start_backfill: StartBackfill,
}

/// A sink of the topology.
pub struct SinkWiring {
    /// Its name.
    pub name: String,
    /// How to connect it.
    pub start: StartSink,
    /// Whether it can name the members of a segment, not only count them.
    pub lists_members: bool,
    /// When its buffer is flushed.
    pub flush: FlushBounds,
    /// How often it compares itself with what other writers may have changed; never when `None`.
    pub reconcile_every: Option<Duration>,
}

/// A sink of the topology that is an archive.
pub struct LakeWiring {
    /// Its name.
    pub name: String,
    /// How to connect it.
    pub start: StartArchive,
    /// When what is buffered becomes files.
    pub bounds: LakeBounds,
}

/// When what is buffered becomes files: whichever bound is met first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LakeBounds {
    /// Age of the oldest record.
    pub age: Duration,
    /// Bytes in memory of one partition of a topic.
    pub file_bytes: u64,
    /// Bytes in memory of all together.
    pub buffer_bytes: u64,
}

/// When a buffer goes out: whichever bound is met first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushBounds {
    /// Records.
    pub rows: usize,
    /// Bytes of keys and values, about.
    pub bytes: usize,
    /// Age of the oldest record.
    pub age: Duration,
}

/// A page of members to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembersRequest {
    /// The segment.
    pub segment_id: SegmentId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its api key.
    pub environment_key: String,
    /// Part of an identifier.
    pub query: Option<String>,
    /// At most this many.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Joins the workers that share the log's tasks, which are so many.
pub type JoinWorkers = Box<dyn Fn(u16) -> Fut<'static, Box<dyn Workers>> + Send + Sync>;

/// Everything a worker runs.
pub struct Wiring {
    /// Its name among the workers.
    pub worker: String,
    /// How it joins the others; `None` where it is alone.
    pub join: Option<JoinWorkers>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where roster stores are kept.
    pub store_path: PathBuf,
    /// The sources of rows.
    pub sources: Vec<SourceWiring>,
    /// The sources of items, whose streams are in shards.
    pub item_sources: Vec<ItemSourceWiring>,
    /// The sinks.
    pub sinks: Vec<SinkWiring>,
    /// The sinks that are archives.
    pub lakes: Vec<LakeWiring>,
    /// The archives that sinks and stores can be rebuilt from, by the name of the sink that keeps each.
    pub archives: BTreeMap<String, OpenArchive>,
    /// Who lists members, when a sink can.
    pub members: Option<ListMembers>,
    /// Where drafts of rules are tried, when a sink can.
    pub mirror: Option<Mirror>,
    /// How long tombstones are kept.
    pub tombstone_retention: Duration,
}

macro_rules! opaque_debug {
    ($($ty:ident { $field:ident })*) => {$(
        impl std::fmt::Debug for $ty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($ty)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    )*};
}
opaque_debug! { SourceWiring { name } ItemSourceWiring { name } SinkWiring { name } LakeWiring { name } Wiring { store_path } }
