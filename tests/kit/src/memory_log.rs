//! A log in memory: every rule of [`rollcall_model::Log`], no disk, no clock of its own.
//!
//! ```text
//! commit ──▶ one mutex ──▶ partitions: offset ▸ record      readers sleep until `changed` moves
//!                          tasks: writer epoch, progress
//! ```
//!
//! Right because everything happens under one lock: a commit is there whole or not at all, and what a reader sees is
//! one state. Time is whatever [`MemoryLog::set_now_ms`] last said, so a run repeats exactly.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{
    Commit, Committed, Consumer, Fault, FaultKind, Fut, Log, LogId, Opened, Partition, Place, Producer,
    Progress, ReadRange, Record, Retention, Topic,
};
use tokio::sync::watch;

/// What old records of a [`MemoryLog`] may take; nothing goes before [`MemoryLog::compact_now`] or
/// [`MemoryLog::retain_now`] is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimits {
    /// Records of time-retained topics older than this go.
    pub retention_ms: u64,
    /// The oldest records of a time-retained partition go when keys and values take more than this.
    pub retention_bytes_max: u64,
    /// Tombstones of compacted topics older than this go.
    pub tombstone_retention_ms: u64,
}

impl Default for MemoryLimits {
    /// Keeps everything.
    fn default() -> Self {
        Self { retention_ms: u64::MAX, retention_bytes_max: u64::MAX, tombstone_retention_ms: u64::MAX }
    }
}

/// A log in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: LogId,
    partitions: u16,
    limits: MemoryLimits,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    now_ms: u64,
    parts: BTreeMap<(Topic, Partition), Part>,
    writers: BTreeMap<String, u64>,
    tasks: BTreeMap<String, Progress>,
}

#[derive(Debug, Default)]
struct Part {
    start: u64,
    end: u64,
    records: BTreeMap<u64, Kept>,
}

#[derive(Debug)]
struct Kept {
    at_ms: u64,
    record: Record,
}

impl Kept {
    fn bytes(&self) -> u64 {
        (self.record.key.len() + self.record.value.as_ref().map_or(0, Vec::len)) as u64
    }
}

/// A log in memory has one epoch for life.
const EPOCH: u32 = 0;

fn at(offset: u64) -> Place {
    Place { epoch: EPOCH, offset }
}

impl MemoryLog {
    /// An empty log that keeps everything.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self::with_limits("memory", partitions, MemoryLimits::default())
    }

    /// An empty log with an id and limits.
    #[must_use]
    pub fn with_limits(id: &str, partitions: u16, limits: MemoryLimits) -> Self {
        let shared = Shared {
            id: LogId(id.to_owned()),
            partitions,
            limits,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the time that the next records get.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.shared.lock().now_ms = now_ms;
    }

    /// Keeps the newest record per key of compacted topics, leaving what a task has not read; tombstones older than
    /// their retention go.
    pub fn compact_now(&self) {
        let mut state = self.shared.lock();
        let oldest_ms = state.now_ms.checked_sub(self.shared.limits.tombstone_retention_ms);
        for ((topic, partition), safe) in state.safe_points() {
            if topic.retention() != Retention::Compacted {
                continue;
            }
            let Some(part) = state.parts.get_mut(&(topic, partition)) else { continue };
            let newest: HashMap<Vec<u8>, u64> =
                part.records.range(..safe).map(|(offset, kept)| (kept.record.key.clone(), *offset)).collect();
            part.records.retain(|offset, kept| {
                let is_newest = newest.get(&kept.record.key) == Some(offset);
                let outlived =
                    kept.record.value.is_none() && oldest_ms.is_some_and(|oldest| kept.at_ms < oldest);
                *offset >= safe || (is_newest && !outlived)
            });
        }
    }

    /// Drops what is too old or too much of time-retained topics, leaving what a task has not read.
    pub fn retain_now(&self, now_ms: u64) {
        let limits = self.shared.limits;
        let mut state = self.shared.lock();
        for ((topic, partition), safe) in state.safe_points() {
            if topic.retention() != Retention::Time {
                continue;
            }
            let Some(part) = state.parts.get_mut(&(topic, partition)) else { continue };
            let mut bytes: u64 = part.records.values().map(Kept::bytes).sum();
            while let Some(first) = part.records.first_entry() {
                let too_old =
                    now_ms.checked_sub(limits.retention_ms).is_some_and(|oldest| first.get().at_ms < oldest);
                if *first.key() >= safe || !(too_old || bytes > limits.retention_bytes_max) {
                    break;
                }
                bytes -= first.get().bytes();
                part.start = first.key() + 1;
                first.remove();
            }
        }
    }

    /// Everything a partition holds, in order; for assertions.
    #[must_use]
    pub fn records(&self, topic: Topic, partition: Partition) -> Vec<Fetched> {
        let state = self.shared.lock();
        let part = state.parts.get(&(topic, partition));
        part.into_iter()
            .flat_map(|part| &part.records)
            .map(|(offset, kept)| Fetched { place: at(*offset), record: kept.record.clone(), foreign: false })
            .collect()
    }
}

impl State {
    /// Of each partition: the first offset that some task reading it has not read, or its end.
    fn safe_points(&self) -> BTreeMap<(Topic, Partition), u64> {
        let mut safe: BTreeMap<_, _> = self.parts.iter().map(|(at, part)| (*at, part.end)).collect();
        for (key, place) in self.tasks.values().flat_map(|progress| &progress.reads) {
            safe.entry(*key).and_modify(|offset| *offset = place.offset.min(*offset));
        }
        safe
    }

    fn bounds(&self, key: (Topic, Partition)) -> (u64, u64) {
        self.parts.get(&key).map_or((0, 0), |part| (part.start, part.end))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, topic: Topic, partition: Partition) -> Result<(), Fault> {
        let count = if topic.is_partitioned() { self.partitions } else { 1 };
        if partition.0 < count {
            return Ok(());
        }
        Err(Fault::bug(format!("{} has {count} partitions, {partition} is none of them", topic.name())))
    }

    fn commit(&self, task: &str, epoch: u64, commit: Commit) -> Result<Committed, Fault> {
        for record in &commit.records {
            self.known(record.topic, record.partition)?;
        }
        let mut state = self.lock();
        if state.writers.get(task) != Some(&epoch) {
            return Err(Fault::new(
                FaultKind::Fenced,
                format!("task '{task}' has a newer writer than number {epoch}"),
            ));
        }
        let mut committed = Committed::default();
        let now_ms = state.now_ms;
        for record in commit.records {
            let key = (record.topic, record.partition);
            let part = state.parts.entry(key).or_default();
            committed.first.entry(key).or_insert_with(|| at(part.end));
            part.records.insert(part.end, Kept { at_ms: now_ms, record });
            part.end += 1;
        }
        if let Some(progress) = commit.progress {
            state.tasks.insert(task.to_owned(), progress);
        }
        drop(state);
        self.changed.send_modify(|version| *version += 1);
        Ok(committed)
    }
}

impl Log for MemoryLog {
    fn id(&self) -> &LogId {
        &self.shared.id
    }

    fn epoch(&self) -> u32 {
        EPOCH
    }

    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        Box::pin(async move {
            let mut state = self.shared.lock();
            let epoch = state.writers.entry(task.to_owned()).or_default();
            *epoch += 1;
            let producer =
                MemoryProducer { shared: Arc::clone(&self.shared), task: task.to_owned(), epoch: *epoch };
            Ok(Opened { producer: Box::new(producer), progress: state.tasks.get(task).cloned() })
        })
    }

    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
        Box::pin(async move {
            let mut cursors = Vec::new();
            for ((topic, partition), place) in from {
                self.shared.known(topic, partition)?;
                let (start, end) = self.shared.lock().bounds((topic, partition));
                if place.epoch != EPOCH || place.offset > end {
                    return Err(Fault::refused(format!(
                        "{}/{partition} ends at {end} of epoch {EPOCH}; {} of epoch {} is another log's",
                        topic.name(),
                        place.offset,
                        place.epoch
                    )));
                }
                below_start(topic, partition, place.offset, start)?;
                cursors.push(Cursor { topic, partition, next: place.offset });
            }
            let changed = self.shared.changed.subscribe();
            let consumer = MemoryConsumer { shared: Arc::clone(&self.shared), changed, cursors };
            Ok(Box::new(consumer) as Box<dyn Consumer>)
        })
    }

    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        Box::pin(async move {
            self.shared.known(topic, partition)?;
            let (start, end) = self.shared.lock().bounds((topic, partition));
            Ok(ReadRange { start: at(start), stable: at(end), end: at(end) })
        })
    }

    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        Box::pin(async move {
            self.shared.known(topic, partition)?;
            let state = self.shared.lock();
            let records = state.parts.get(&(topic, partition)).into_iter().flat_map(|part| &part.records);
            let first = records.filter(|(_, kept)| kept.at_ms >= time_ms).map(|(offset, _)| *offset).next();
            Ok(at(first.unwrap_or_else(|| state.bounds((topic, partition)).1)))
        })
    }

    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        Box::pin(async move { Ok(self.shared.lock().tasks.clone()) })
    }

    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        Box::pin(async move {
            let mut state = self.shared.lock();
            state.tasks.remove(task);
            if let Some(epoch) = state.writers.get_mut(task) {
                *epoch += 1;
            }
            Ok(())
        })
    }
}

fn below_start(topic: Topic, partition: Partition, next: u64, start: u64) -> Result<(), Fault> {
    if next >= start {
        return Ok(());
    }
    Err(Fault::refused(format!("{}/{partition} starts at {start}, {next} is gone", topic.name()))
        .repair("rollcall rebuild"))
}

#[derive(Debug)]
struct MemoryProducer {
    shared: Arc<Shared>,
    task: String,
    epoch: u64,
}

impl Producer for MemoryProducer {
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed> {
        Box::pin(async move { self.shared.commit(&self.task, self.epoch, commit) })
    }
}

#[derive(Debug)]
struct MemoryConsumer {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    cursors: Vec<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    topic: Topic,
    partition: Partition,
    next: u64,
}

impl MemoryConsumer {
    /// One record of each partition in turn, until the limit is reached or nothing is left.
    fn take(&mut self, limit: PollLimit) -> Result<Vec<Fetched>, Fault> {
        let state = self.shared.lock();
        let mut fetched = Vec::new();
        let mut bytes = 0;
        let mut dry = BTreeSet::new();
        while dry.len() < self.cursors.len() {
            for (index, cursor) in self.cursors.iter_mut().enumerate() {
                let Some(part) = state.parts.get(&(cursor.topic, cursor.partition)) else {
                    dry.insert(index);
                    continue;
                };
                below_start(cursor.topic, cursor.partition, cursor.next, part.start)?;
                let Some((offset, kept)) = part.records.range(cursor.next..).next() else {
                    cursor.next = part.end;
                    dry.insert(index);
                    continue;
                };
                let size = kept.bytes() as usize;
                if fetched.len() >= limit.records_max.max(1)
                    || (!fetched.is_empty() && bytes + size > limit.bytes_max)
                {
                    // The next poll begins with the partition that this one had no room for.
                    self.cursors.rotate_left(index);
                    return Ok(fetched);
                }
                bytes += size;
                cursor.next = offset + 1;
                fetched.push(Fetched { place: at(*offset), record: kept.record.clone(), foreign: false });
            }
        }
        Ok(fetched)
    }
}

impl Consumer for MemoryConsumer {
    fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>> {
        Box::pin(async move {
            let mut time_up = std::pin::pin!(tokio::time::sleep(limit.wait));
            loop {
                self.changed.mark_unchanged();
                let fetched = self.take(limit)?;
                if !fetched.is_empty() {
                    return Ok(fetched);
                }
                tokio::select! {
                    biased;
                    // An error: nobody is left who could write.
                    changed = self.changed.changed() => if changed.is_err() { return Ok(Vec::new()) },
                    () = &mut time_up => return Ok(Vec::new()),
                }
            }
        })
    }

    fn reached(&self) -> BTreeMap<(Topic, Partition), Place> {
        self.cursors.iter().map(|cursor| ((cursor.topic, cursor.partition), at(cursor.next))).collect()
    }
}
