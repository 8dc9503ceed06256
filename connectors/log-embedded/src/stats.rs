//! What the log holds and takes, for the status page.

use std::collections::BTreeMap;

use rollcall_model::{Fault, Topic};

use crate::shared::Shared;

/// What a topic holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TopicStats {
    /// Records kept.
    pub records: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

/// What the log holds and takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogStats {
    /// What its folder takes on disk, journals and indexes included.
    pub disk_bytes: u64,
    /// What is free on that disk.
    pub disk_free_bytes: u64,
    /// Bytes of all records, before compression; sources stop when they reach `bytes_max`.
    pub bytes: u64,
    /// The setting.
    pub bytes_max: u64,
    /// Every topic that ever had a record.
    pub topics: BTreeMap<Topic, TopicStats>,
}

pub(crate) fn of(shared: &Shared) -> Result<LogStats, Fault> {
    let disk_bytes = shared.folder.disk_bytes()?;
    let disk_free_bytes = shared.folder.free_bytes()?;
    let state = shared.state();
    let mut topics: BTreeMap<Topic, TopicStats> = BTreeMap::new();
    for ((topic, _), part) in state.parts() {
        let stats = topics.entry(*topic).or_default();
        stats.records += part.records;
        stats.bytes += part.bytes;
    }
    Ok(LogStats {
        disk_bytes,
        disk_free_bytes,
        bytes: state.bytes(),
        bytes_max: shared.config.bytes_max,
        topics,
    })
}
