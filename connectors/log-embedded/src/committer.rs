//! The one writer of the store: it takes jobs in order and makes those that wait durable together.
//!
//! ```text
//! producers ─┐ jobs, bounded                 ┌─▶ one batch, one sync ─▶ state ─▶ consumers wake
//! open ──────┼──────────────▶ take all that ─┤
//! forget ────┤                 wait (a group)└─▶ answers
//! upkeep ────┘
//! ```
//!
//! Right because there is one writer and one order: a commit queued before an `open` of its task is in the progress
//! that this `open` returns, one queued after it is fenced. While a group is synced the next one gathers, so eight
//! tasks share a sync without anybody waiting for company. When a write fails nobody can know what is on disk: all of
//! the group are told to try again, and the store is opened anew before anything else is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{Commit, Committed, Fault, FaultKind, Partition, Place, Progress, Topic};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{Encoded, Part, Task};
use crate::shared::{Shared, State};
use crate::store::{Batch, Store};
use crate::upkeep::Removal;

/// Jobs that may wait; whoever comes later waits outside.
pub(crate) const QUEUE_JOBS_MAX: usize = 64;
/// Jobs that share a sync.
const GROUP_JOBS_MAX: usize = 64;
/// Bytes after which a group takes no further job: what has to be in memory at once stays bounded.
const GROUP_BYTES_MAX: u64 = 16 << 20;

/// What the committer is asked for.
pub(crate) enum Job {
    /// Records and progress of a task's writer.
    Commit { task: Arc<str>, writer: u64, commit: EncodedCommit, answer: Answer<Committed> },
    /// A new writer of a task.
    Open { task: String, answer: Answer<(u64, Option<Progress>)> },
    /// A task goes.
    Forget { task: String, answer: Answer<()> },
    /// What compaction or retention found to drop; answered with whether it still may.
    Remove { removal: Removal, answer: Answer<bool> },
    /// Nothing more comes.
    Close,
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Fault>>;

/// A commit in the store's form.
#[derive(Debug)]
pub(crate) struct EncodedCommit {
    records: Vec<Encoded>,
    progress: Option<Progress>,
    /// A full log stops what sources write, and nothing else.
    is_of_source: bool,
}

impl EncodedCommit {
    pub(crate) fn new(commit: Commit, shared: &Shared) -> Result<Self, Fault> {
        let now_ms = shared.config.clock.now_ms();
        for (topic, partition) in commit.progress.iter().flat_map(|progress| progress.reads.keys()) {
            shared.known(*topic, *partition)?;
        }
        let mut records = Vec::with_capacity(commit.records.len());
        for record in &commit.records {
            shared.known(record.topic, record.partition)?;
            records.push(Encoded::new(record, now_ms)?);
        }
        // Who moves on with what it reads makes room, even where it tells other partitions something by the way (a
        // roster's `suspend`): were that stopped, a full log would stay full.
        let reads = commit.progress.as_ref().is_some_and(|progress| !progress.reads.is_empty());
        let is_of_source = !reads && records.iter().any(|record| is_source_topic(record.topic));
        Ok(Self { records, progress: commit.progress, is_of_source })
    }

    fn cost_bytes(&self) -> u64 {
        self.records.iter().map(Encoded::cost_bytes).sum()
    }
}

/// Topics that fill from outside; all others follow from them.
fn is_source_topic(topic: Topic) -> bool {
    match topic {
        Topic::IdentityChanges | Topic::Catalog | Topic::CatalogRows => true,
        Topic::Identities
        | Topic::Memberships
        | Topic::MembershipChanges
        | Topic::SegmentCounts
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => false,
    }
}

/// An answer that waits for its group to be durable.
enum Pending {
    Committed(Answer<Committed>, Committed),
    Opened(Answer<(u64, Option<Progress>)>, u64, Option<Progress>),
    Removed(Answer<bool>, bool),
    Done(Answer<()>),
}

impl Pending {
    // Whoever asked may be gone: then nobody wants the answer.
    fn succeed(self) {
        match self {
            Self::Committed(answer, committed) => drop(answer.send(Ok(committed))),
            Self::Opened(answer, writer, progress) => drop(answer.send(Ok((writer, progress)))),
            Self::Removed(answer, applied) => drop(answer.send(Ok(applied))),
            Self::Done(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn fail(self, fault: Fault) {
        match self {
            Self::Committed(answer, _) => drop(answer.send(Err(fault))),
            Self::Opened(answer, ..) => drop(answer.send(Err(fault))),
            Self::Removed(answer, _) => drop(answer.send(Err(fault))),
            Self::Done(answer) => drop(answer.send(Err(fault))),
        }
    }
}

/// Runs until it is told to close, or until nobody is left who could ask.
pub(crate) fn run(shared: &Shared, mut jobs: mpsc::Receiver<Job>) {
    let mut first_job = jobs.blocking_recv();
    while let Some(first) = first_job {
        let mut group = vec![first];
        let mut bytes = 0;
        while group.len() < GROUP_JOBS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(job) = jobs.try_recv() else { break };
            if let Job::Commit { commit, .. } = &job {
                bytes += commit.cost_bytes();
            }
            group.push(job);
        }
        let closing = group.iter().any(|job| matches!(job, Job::Close));
        write_group(shared, group);
        if closing {
            return;
        }
        first_job = jobs.blocking_recv();
    }
}

fn write_group(shared: &Shared, group: Vec<Job>) {
    if let Err(fault) = reopen_if_broken(shared) {
        for job in group {
            refuse(job, again(&fault));
        }
        return;
    }
    let mut pending = Vec::with_capacity(group.len());
    let written = shared.with_store(|store| {
        let free_bytes = shared.folder.free_bytes()?;
        let mut draft = Draft::new(shared, store, free_bytes);
        for job in group {
            if let Some(answer) = draft.take(job) {
                pending.push(answer);
            }
        }
        draft.write()
    });
    match written {
        Ok((parts, tasks)) => {
            shared.state_mut().apply(parts, tasks);
            shared.wake_consumers();
            pending.into_iter().for_each(Pending::succeed);
        }
        Err(fault) => {
            tracing::error!(%fault, "a write to the log failed; the store is opened anew");
            drop(shared.store_slot().take());
            if let Err(fault) = reopen_if_broken(shared) {
                tracing::error!(%fault, "the log's store can't be opened; the next writer tries again");
            }
            for answer in pending {
                answer.fail(again(&fault));
            }
        }
    }
}

/// After a failed write only the disk knows what is there: the store is opened anew and the state read from it.
fn reopen_if_broken(shared: &Shared) -> Result<(), Fault> {
    let mut slot = shared.store_slot();
    if slot.is_some() {
        return Ok(());
    }
    let store = Store::open(&shared.folder.store_path(), &shared.config)?;
    let loaded = store.load()?;
    *slot = Some(store);
    drop(slot);
    *shared.state_mut() = State::new(loaded.parts, loaded.tasks);
    shared.wake_consumers();
    tracing::info!("the log's store is open again");
    Ok(())
}

/// The same fault for one more of those who wait. They all try again: nothing here is theirs to repair.
fn again(fault: &Fault) -> Fault {
    Fault { kind: FaultKind::Retry, what: fault.to_string(), repair: None, source: None }
}

fn refuse(job: Job, fault: Fault) {
    match job {
        Job::Commit { answer, .. } => drop(answer.send(Err(fault))),
        Job::Open { answer, .. } => drop(answer.send(Err(fault))),
        Job::Forget { answer, .. } => drop(answer.send(Err(fault))),
        Job::Remove { answer, .. } => drop(answer.send(Err(fault))),
        Job::Close => {}
    }
}

type Touched = (BTreeMap<(Topic, Partition), Part>, BTreeMap<String, Task>);

/// A group on its way into one batch, beside the state that it will make.
struct Draft<'a> {
    shared: &'a Shared,
    batch: Batch<'a>,
    parts: BTreeMap<(Topic, Partition), Part>,
    tasks: BTreeMap<String, Task>,
    bytes: u64,
    free_bytes: u64,
    is_empty: bool,
}

impl<'a> Draft<'a> {
    fn new(shared: &'a Shared, store: &'a Store, free_bytes: u64) -> Self {
        Self {
            shared,
            batch: store.batch(),
            parts: BTreeMap::new(),
            tasks: BTreeMap::new(),
            bytes: shared.state().bytes(),
            free_bytes,
            is_empty: true,
        }
    }

    /// Adds a job, or answers it right away when it can't be done.
    fn take(&mut self, job: Job) -> Option<Pending> {
        match job {
            Job::Commit { task, writer, commit, answer } => match self.commit(&task, writer, commit) {
                Ok(committed) => Some(Pending::Committed(answer, committed)),
                Err(fault) => {
                    drop(answer.send(Err(fault)));
                    None
                }
            },
            Job::Open { task, answer } => {
                let entry = self.task(&task);
                entry.writer += 1;
                let (writer, progress) = (entry.writer, entry.progress.clone());
                Some(Pending::Opened(answer, writer, progress))
            }
            Job::Forget { task, answer } => {
                let entry = self.task(&task);
                entry.writer += 1;
                entry.progress = None;
                Some(Pending::Done(answer))
            }
            Job::Remove { removal, answer } => {
                let applied = self.remove(&removal);
                Some(Pending::Removed(answer, applied))
            }
            Job::Close => None,
        }
    }

    fn commit(&mut self, task: &str, writer: u64, commit: EncodedCommit) -> Result<Committed, Fault> {
        let newest = self.writer_of(task);
        if writer != newest {
            return Err(Fault::new(
                FaultKind::Fenced,
                format!("task '{task}' was opened again: writer {newest} has it, this is writer {writer}"),
            ));
        }
        self.has_room(&commit)?;
        self.bytes += commit.cost_bytes();
        let mut committed = Committed::default();
        for record in commit.records {
            let (topic, partition) = (record.topic, record.partition);
            let epoch = self.shared.epoch;
            let cost = record.cost_bytes();
            let part = self.part(topic, partition);
            let offset = part.end;
            part.end += 1;
            part.records += 1;
            part.bytes += cost;
            committed.first.entry((topic, partition)).or_insert(Place { epoch, offset });
            self.batch.put_record(topic, partition, offset, record.value);
        }
        if let Some(progress) = commit.progress {
            self.task(task).progress = Some(progress);
        }
        Ok(committed)
    }

    fn has_room(&self, commit: &EncodedCommit) -> Result<(), Fault> {
        let config = &self.shared.config;
        let place = self.shared.folder.path().display();
        let min = config.disk_free_bytes_min;
        let wanted = if commit.is_of_source { min } else { min / 2 };
        if self.free_bytes < wanted {
            return Err(Fault::retry(format!(
                "the disk of {place} is full: {} bytes are free, {wanted} are needed to go on",
                self.free_bytes
            ))
            .repair(format!("make room on the disk that holds {place}; Rollcall goes on by itself")));
        }
        if commit.is_of_source && self.bytes >= config.bytes_max {
            let state = self.shared.state();
            let slowest = match state.slowest_task() {
                Some((task, unread)) => format!("task '{task}' is the slowest with {unread} records unread"),
                None => "every task has read everything".to_owned(),
            };
            return Err(Fault::retry(format!(
                "the log in {place} is full: {} of {} bytes; {slowest}",
                self.bytes, config.bytes_max
            ))
            .repair(
                "see rollcall status for what holds the slowest task up and resume it (rollcall resume TASK), \
                 or raise log.bytes_max in topology.yaml; the source goes on by itself",
            ));
        }
        Ok(())
    }

    fn remove(&mut self, removal: &Removal) -> bool {
        let (topic, partition) = (removal.topic, removal.partition);
        // A task may have gone back since the removal was prepared: what it has not read stays.
        if removal.upto > self.shared.state().safe_point(topic, partition, &self.tasks) {
            return false;
        }
        if removal.start > 0 {
            // Before the records go, so that no reader takes the hole for an end.
            self.shared.state_mut().raise_start(topic, partition, removal.start);
        }
        for offset in &removal.records {
            self.batch.remove_record(topic, partition, *offset);
        }
        for (key, kept) in &removal.kept {
            self.batch.set_kept(topic, partition, key, *kept);
        }
        for (offset, tombstone) in &removal.tombstones {
            self.batch.set_tombstone(topic, partition, *offset, tombstone.as_ref());
        }
        let part = self.part(topic, partition);
        part.start = part.start.max(removal.start);
        part.cleaned = part.cleaned.max(removal.cleaned);
        part.records = part.records.saturating_sub(removal.records.len() as u64);
        part.bytes = part.bytes.saturating_sub(removal.bytes);
        self.bytes = self.bytes.saturating_sub(removal.bytes);
        true
    }

    fn writer_of(&self, name: &str) -> u64 {
        match self.tasks.get(name) {
            Some(task) => task.writer,
            None => self.shared.state().tasks().get(name).map_or(0, |task| task.writer),
        }
    }

    fn part(&mut self, topic: Topic, partition: Partition) -> &mut Part {
        self.is_empty = false;
        let shared = self.shared;
        self.parts.entry((topic, partition)).or_insert_with(|| shared.state().part(topic, partition))
    }

    fn task(&mut self, name: &str) -> &mut Task {
        self.is_empty = false;
        let shared = self.shared;
        self.tasks.entry(name.to_owned()).or_insert_with(|| shared.state().task(name))
    }

    fn write(mut self) -> Result<Touched, Fault> {
        for ((topic, partition), part) in &self.parts {
            self.batch.put_part(*topic, *partition, *part);
        }
        for (name, task) in &self.tasks {
            self.batch.put_task(name, task)?;
        }
        if self.is_empty {
            return Ok((self.parts, self.tasks));
        }
        #[cfg(test)]
        let failing = crate::tests::fail_before(self.shared)?;
        self.batch.commit()?;
        #[cfg(test)]
        crate::tests::fail_after(failing)?;
        Ok((self.parts, self.tasks))
    }
}
