//! What becomes of old records: compaction by key and retention by age and size, in bounded steps beside the commits.
//!
//! ```text
//! compacted   offsets 0 …………… cleaned ………………… safe ………… end
//!                      one record per key │ next step │ not yet read by some task: left alone
//!             a step reads some records from `cleaned` on. Each replaces what the index of kept records
//!             has for its key; the replaced record goes, and `cleaned` moves, in one batch.
//! time        the oldest records go while they are too old or too many, never at or above `safe`
//! ```
//!
//! Right because a step only decides what to remove and the committer writes it like any commit: a crash leaves whole
//! steps. The index of kept records is written by compaction alone, so commits stay appends, and a record goes only
//! when a newer one of its key stands below `safe` too: who reads from the start always ends with the newest record of
//! every key, and a task that keeps its place in the log misses nothing at all. A tombstone is kept like any other
//! record, but goes when it is older than its retention.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rollcall_model::{Fault, Partition, Retention, Topic};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{Kept, Tombstone, cost_bytes};
use crate::committer::Job;
use crate::shared::Shared;
use crate::store::Store;

/// Records that one step reads at most, so that commits never wait long behind it.
const STEP_RECORDS_MAX: usize = 1_000;

/// What a step found to remove.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) topic: Topic,
    pub(crate) partition: Partition,
    /// All of it stands below this offset; the removal holds only while every task has read up to here.
    pub(crate) upto: u64,
    /// The partition starts here from now on; 0 leaves it.
    pub(crate) start: u64,
    /// Compaction has come to here; 0 leaves it.
    pub(crate) cleaned: u64,
    pub(crate) records: Vec<u64>,
    pub(crate) bytes: u64,
    pub(crate) kept: Vec<(Vec<u8>, Option<Kept>)>,
    pub(crate) tombstones: Vec<(u64, Option<Tombstone>)>,
}

impl Removal {
    fn new(topic: Topic, partition: Partition, upto: u64) -> Self {
        Self {
            topic,
            partition,
            upto,
            start: 0,
            cleaned: 0,
            records: Vec::new(),
            bytes: 0,
            kept: Vec::new(),
            tombstones: Vec::new(),
        }
    }

    fn drop_record(&mut self, offset: u64, bytes: u64) {
        self.records.push(offset);
        self.bytes += bytes;
    }
}

/// Runs passes until its sender is dropped.
pub(crate) fn run(shared: &Shared, jobs: &mpsc::Sender<Job>, stop: &Receiver<()>) {
    let pause = Duration::from_millis(shared.config.upkeep_interval_ms.max(1));
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(pause) {
        let stopped = || !matches!(stop.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        let passed = compact(shared, jobs, &stopped)
            .and_then(|()| retain(shared, jobs, shared.config.clock.now_ms(), &stopped));
        if let Err(fault) = passed {
            tracing::warn!(%fault, "upkeep of the log failed; the next pass tries again");
        }
    }
}

/// One pass of compaction over every compacted partition.
pub(crate) fn compact(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    let _turn = shared.upkeep_turn();
    let now_ms = shared.config.clock.now_ms();
    for (topic, partition) in partitions(shared, Retention::Compacted) {
        step_until_done(shared, jobs, stopped, |store| compaction_step(shared, store, topic, partition))?;
        step_until_done(shared, jobs, stopped, |store| {
            tombstone_step(shared, store, topic, partition, now_ms)
        })?;
    }
    Ok(())
}

/// One pass of retention over every time-retained partition.
pub(crate) fn retain(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    now_ms: u64,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    let _turn = shared.upkeep_turn();
    for (topic, partition) in partitions(shared, Retention::Time) {
        step_until_done(shared, jobs, stopped, |store| {
            retention_step(shared, store, topic, partition, now_ms)
        })?;
    }
    Ok(())
}

fn partitions(shared: &Shared, retention: Retention) -> Vec<(Topic, Partition)> {
    let state = shared.state();
    state.parts().keys().copied().filter(|(topic, _)| topic.retention() == retention).collect()
}

fn step_until_done(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    stopped: &dyn Fn() -> bool,
    step: impl Fn(&Store) -> Result<Option<Removal>, Fault>,
) -> Result<(), Fault> {
    while !stopped() {
        let Some(removal) = shared.with_store(&step)? else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        jobs.blocking_send(Job::Remove { removal, answer }).map_err(|_| shared.closed())?;
        let applied = answered.blocking_recv().map_err(|_| shared.closed())??;
        if !applied {
            return Ok(());
        }
    }
    Ok(())
}

fn compaction_step(
    shared: &Shared,
    store: &Store,
    topic: Topic,
    partition: Partition,
) -> Result<Option<Removal>, Fault> {
    let (cleaned, safe) = {
        let state = shared.state();
        (state.part(topic, partition).cleaned, state.safe_point(topic, partition, &Default::default()))
    };
    if cleaned >= safe {
        return Ok(None);
    }
    let mut removal = Removal::new(topic, partition, safe);
    let mut newest: HashMap<Vec<u8>, Kept> = HashMap::new();
    let mut tombstones: HashMap<u64, Option<Tombstone>> = HashMap::new();
    removal.cleaned = safe;
    for (count, entry) in store.records(topic, partition, cleaned, safe).enumerate() {
        let (offset, value_len, decoded) = entry?;
        if count == STEP_RECORDS_MAX {
            removal.cleaned = offset;
            break;
        }
        let is_tombstone = decoded.record.value.is_none();
        // A record's encoding is checked to fit in 32 bits when it is written.
        let kept = Kept { offset, bytes: u32::try_from(value_len).unwrap_or(u32::MAX), is_tombstone };
        let key = decoded.record.key;
        if is_tombstone {
            tombstones.insert(offset, Some(Tombstone { at_ms: decoded.at_ms, key: key.clone() }));
        }
        let before = match newest.get(&key) {
            Some(kept) => Some(*kept),
            None => store.kept(topic, partition, &key)?,
        };
        if let Some(before) = before {
            removal.drop_record(before.offset, cost_bytes(before.bytes as usize));
            if before.is_tombstone {
                tombstones.insert(before.offset, None);
            }
        }
        newest.insert(key, kept);
    }
    removal.kept = newest.into_iter().map(|(key, kept)| (key, Some(kept))).collect();
    removal.tombstones = tombstones.into_iter().collect();
    Ok(Some(removal))
}

fn tombstone_step(
    shared: &Shared,
    store: &Store,
    topic: Topic,
    partition: Partition,
    now_ms: u64,
) -> Result<Option<Removal>, Fault> {
    let Some(oldest_ms) = now_ms.checked_sub(shared.config.tombstone_retention_ms) else { return Ok(None) };
    let mut removal = Removal::new(topic, partition, 0);
    for entry in store.tombstones(topic, partition).take(STEP_RECORDS_MAX) {
        let (offset, tombstone) = entry?;
        if tombstone.at_ms >= oldest_ms {
            break;
        }
        if let Some(kept) = store.kept(topic, partition, &tombstone.key)?.filter(|kept| kept.offset == offset)
        {
            removal.drop_record(offset, cost_bytes(kept.bytes as usize));
            removal.kept.push((tombstone.key, None));
        }
        removal.tombstones.push((offset, None));
        removal.upto = offset + 1;
    }
    Ok((!removal.tombstones.is_empty()).then_some(removal))
}

fn retention_step(
    shared: &Shared,
    store: &Store,
    topic: Topic,
    partition: Partition,
    now_ms: u64,
) -> Result<Option<Removal>, Fault> {
    let (part, safe) = {
        let state = shared.state();
        (state.part(topic, partition), state.safe_point(topic, partition, &Default::default()))
    };
    let oldest_ms = now_ms.saturating_sub(shared.config.retention_ms);
    let bytes_max = shared.config.retention_bytes_max;
    let mut removal = Removal::new(topic, partition, safe);
    for entry in store.records(topic, partition, part.start, safe).take(STEP_RECORDS_MAX) {
        let (offset, value_len, decoded) = entry?;
        let too_many = part.bytes.saturating_sub(removal.bytes) > bytes_max;
        if !too_many && decoded.at_ms >= oldest_ms {
            break;
        }
        removal.drop_record(offset, cost_bytes(value_len));
        removal.start = offset + 1;
    }
    Ok((!removal.records.is_empty()).then_some(removal))
}
