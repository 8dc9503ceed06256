//! What it answers about sinks and stores that are filled anew.

use serde::{Deserialize, Serialize};

/// How far a rebuild has read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RebuildSum {
    /// The lake; the log without one.
    #[serde(default)]
    pub(crate) from: Option<String>,
    /// Rows read.
    pub(crate) read: u64,
    /// Rows in all.
    pub(crate) total: u64,
}

/// `POST /rebuild/…`: what is read of a partition of a topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlannedRebuild {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: u16,
    /// Files of the lake.
    pub(crate) files: u32,
    /// Their rows.
    pub(crate) rows: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The last commit that they hold.
    pub(crate) covered_seq: u64,
    /// Where the log goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_from: Option<u64>,
    /// Up to where it is read then, counted in offsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_until: Option<u64>,
}

/// `POST /rebuild/…`.
#[derive(Debug, Deserialize)]
pub(crate) struct Rebuilding {
    /// What is read of a lake; nothing where none was named.
    #[serde(default)]
    pub(crate) plan: Option<Vec<PlannedRebuild>>,
}
