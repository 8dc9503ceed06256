//! What all parts of an open log share: the state that readers see, and the store behind it.
//!
//! ```text
//! committer ──writes──▶ Store ──then──▶ State ──then──▶ `changed` wakes consumers
//!                                         ▲ one lock: a commit is in all its partitions at once or in none
//! ```
//!
//! The committer alone changes the state, and only after the store has it durable; so whatever a reader finds here
//! survives a crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rollcall_model::{Fault, LogId, Partition, Topic};
use tokio::sync::watch;

use crate::codec::{Part, Task};
use crate::config::EmbeddedLogConfig;
use crate::folder::Folder;
use crate::store::Store;

/// What readers see of the log.
#[derive(Debug, Default)]
pub(crate) struct State {
    parts: BTreeMap<(Topic, Partition), Part>,
    tasks: BTreeMap<String, Task>,
    bytes: u64,
}

impl State {
    pub(crate) fn new(parts: BTreeMap<(Topic, Partition), Part>, tasks: BTreeMap<String, Task>) -> Self {
        let bytes = parts.values().map(|part| part.bytes).sum();
        Self { parts, tasks, bytes }
    }

    pub(crate) fn part(&self, topic: Topic, partition: Partition) -> Part {
        self.parts.get(&(topic, partition)).copied().unwrap_or_default()
    }

    pub(crate) fn parts(&self) -> &BTreeMap<(Topic, Partition), Part> {
        &self.parts
    }

    pub(crate) fn task(&self, name: &str) -> Task {
        self.tasks.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn tasks(&self) -> &BTreeMap<String, Task> {
        &self.tasks
    }

    /// What all records cost.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first offset of a partition that some task reading it has not read; its end when all have. Nothing at or
    /// above it is ever dropped. `newer` is what some tasks are about to become.
    pub(crate) fn safe_point(
        &self,
        topic: Topic,
        partition: Partition,
        newer: &BTreeMap<String, Task>,
    ) -> u64 {
        let settled = self.tasks.iter().filter(|(name, _)| !newer.contains_key(*name)).map(|(_, task)| task);
        let unread = settled
            .chain(newer.values())
            .filter_map(|task| task.progress.as_ref()?.reads.get(&(topic, partition)))
            .map(|place| place.offset);
        unread.chain([self.part(topic, partition).end]).min().unwrap_or_default()
    }

    /// The task that has most left to read, and how many records.
    pub(crate) fn slowest_task(&self) -> Option<(&str, u64)> {
        let unread = |task: &Task| -> u64 {
            let reads = task.progress.iter().flat_map(|progress| &progress.reads);
            reads
                .map(|((topic, partition), at)| self.part(*topic, *partition).end.saturating_sub(at.offset))
                .sum()
        };
        self.tasks
            .iter()
            .map(|(name, task)| (name.as_str(), unread(task)))
            .filter(|(_, unread)| *unread > 0)
            .max_by_key(|(_, unread)| *unread)
    }

    pub(crate) fn apply(&mut self, parts: BTreeMap<(Topic, Partition), Part>, tasks: BTreeMap<String, Task>) {
        for (key, part) in parts {
            let before = self.parts.insert(key, part).unwrap_or_default();
            self.bytes = self.bytes.saturating_sub(before.bytes) + part.bytes;
        }
        self.tasks.extend(tasks);
    }

    /// Readers below this point are refused from here on.
    pub(crate) fn raise_start(&mut self, topic: Topic, partition: Partition, start: u64) {
        let part = self.parts.entry((topic, partition)).or_default();
        part.start = part.start.max(start);
    }
}

/// What the parts of an open log share.
pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) epoch: u32,
    pub(crate) partitions: u16,
    pub(crate) config: EmbeddedLogConfig,
    pub(crate) folder: Folder,
    pub(crate) changed: watch::Sender<u64>,
    state: RwLock<State>,
    /// `None` once the log is closed, or while it could not be opened again after a failed write.
    store: RwLock<Option<Store>>,
    upkeep: Mutex<()>,
    /// What the next writes do instead of succeeding.
    #[cfg(test)]
    pub(crate) failing: Mutex<std::collections::VecDeque<crate::tests::Failing>>,
}

impl Shared {
    pub(crate) fn new(
        (id, epoch, partitions): (LogId, u32, u16),
        config: EmbeddedLogConfig,
        folder: Folder,
        store: Store,
        state: State,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            epoch,
            partitions,
            config,
            folder,
            changed: watch::Sender::new(0),
            state: RwLock::new(state),
            store: RwLock::new(Some(store)),
            upkeep: Mutex::default(),
            #[cfg(test)]
            failing: Mutex::default(),
        })
    }

    // State and store stay whole when a thread dies with a guard: the state is only changed by assignments that
    // can't fail, the store only taken or put.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store_slot(&self) -> RwLockWriteGuard<'_, Option<Store>> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One pass of upkeep at a time: each step builds on what the one before has removed.
    pub(crate) fn upkeep_turn(&self) -> MutexGuard<'_, ()> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the store; blocks, so never on an async thread.
    pub(crate) fn with_store<T>(&self, work: impl FnOnce(&Store) -> Result<T, Fault>) -> Result<T, Fault> {
        match &*self.store.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => work(store),
            None => Err(self.closed()),
        }
    }

    pub(crate) fn closed(&self) -> Fault {
        Fault::retry(format!("the log in {} is closed", self.folder.path().display()))
    }

    /// That a partition exists.
    pub(crate) fn known(&self, topic: Topic, partition: Partition) -> Result<(), Fault> {
        let count = if topic.is_partitioned() { self.partitions } else { 1 };
        if partition.0 < count {
            return Ok(());
        }
        let name = topic.name();
        Err(Fault::bug(format!(
            "{name} has {count} partitions, numbered from 0; {partition} is none of them"
        )))
    }

    pub(crate) fn wake_consumers(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}
