//! What it answers about the log: topics, and sinks sent back in it.

use serde::{Deserialize, Serialize};

/// `GET /topics`.
#[derive(Debug, Deserialize)]
pub(crate) struct Topics {
    /// One per topic and partition.
    pub(crate) topics: Vec<TopicPartition>,
}

/// A partition of a topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicPartition {
    /// The topic.
    pub(crate) name: String,
    /// The partition.
    pub(crate) partition: u16,
    /// The first offset there.
    pub(crate) start: u64,
    /// The offset that the next record will take.
    pub(crate) end: u64,
}

/// `GET /topics/TOPIC`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicDescription {
    /// The topic.
    pub(crate) topic: String,
    /// What its keys look like.
    pub(crate) key: String,
    /// What its records say.
    pub(crate) holds: String,
    /// Whether it is made for readers outside.
    pub(crate) public: bool,
    /// The JSON Schema of its values.
    pub(crate) schema: String,
    /// `compacted` or `time`.
    pub(crate) retention: String,
    /// What is there.
    pub(crate) partitions: Vec<DescribedPartition>,
    /// The tasks that read it.
    pub(crate) readers: Vec<TopicReader>,
}

/// A partition of a described topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DescribedPartition {
    /// The partition.
    pub(crate) partition: u16,
    /// The first offset there.
    pub(crate) start: u64,
    /// The offset that the next record will take.
    pub(crate) end: u64,
    /// Records at most: compaction leaves fewer than offsets.
    pub(crate) records: u64,
}

/// A task that reads a topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicReader {
    /// The task.
    pub(crate) task: String,
    /// What lies before it in all, in records at most.
    pub(crate) behind: u64,
    /// Where it stands.
    pub(crate) partitions: Vec<ReaderPlace>,
}

/// Where a task stands in a partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReaderPlace {
    /// The partition.
    pub(crate) partition: u16,
    /// The next offset it reads.
    pub(crate) at: u64,
    /// What lies before it.
    pub(crate) behind: u64,
}

/// `GET` and `POST /replay/SINK`.
#[derive(Debug, Deserialize)]
pub(crate) struct Replaying {
    /// What will be done; where a replay was asked for and is not under way already.
    #[serde(default)]
    pub(crate) plan: Vec<PlannedReplay>,
    /// The one under way.
    pub(crate) replay: Option<ReplayUnderway>,
    /// Whether an operator has paused the sink.
    #[serde(default)]
    pub(crate) paused: bool,
    /// What the sink's task does.
    #[serde(default)]
    pub(crate) state: Option<String>,
    /// Why it retries or failed.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// What repairs that.
    #[serde(default)]
    pub(crate) repair: Option<String>,
}

/// One partition of a topic, in a plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlannedReplay {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: u16,
    /// The first offset taken again.
    pub(crate) from: u64,
    /// Where the sink stands: what comes from here on is new.
    pub(crate) until: u64,
    /// Records at most: compaction leaves fewer than offsets.
    pub(crate) records: u64,
    /// The time of the first, microseconds since 1970.
    #[serde(default)]
    pub(crate) since_us: Option<i64>,
}

/// A replay under way.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReplayUnderway {
    /// The how manieth of its sink.
    pub(crate) number: u64,
    /// How far each partition is.
    pub(crate) partitions: Vec<ReplayedPartition>,
}

/// How far a partition is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ReplayedPartition {
    /// The partition.
    pub(crate) partition: u16,
    /// What is behind it.
    pub(crate) replayed: u64,
    /// What there is in all.
    pub(crate) total: u64,
    /// Whether it has caught up.
    pub(crate) done: bool,
}
