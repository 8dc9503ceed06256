//! Where things stand in the log, and in what order sinks take them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a log, made with it. A sink that knows another one refuses (PROTOCOL.md §1).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub String);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the N totally ordered parts of the log's identity topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A point in one partition of one topic of the log. The epoch grows when a log is copied (PROTOCOL.md §1, Place).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The log's epoch.
    pub epoch: u32,
    /// The record's offset in its partition.
    pub offset: u64,
}

/// Counts the commits of one roster partition from 1; what sinks order by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// Of one identity, strictly increasing, in microseconds since 1970; the ReplacingMergeTree version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

impl Version {
    /// `max(previous + 1, floor + 1, source time)` (PROTOCOL.md §4, Version). Never a clock of ours.
    #[must_use]
    pub fn next(previous: Self, floor: Self, source_time_us: i64) -> Self {
        Self((previous.0 + 1).max(floor.0 + 1).max(source_time_us))
    }
}
