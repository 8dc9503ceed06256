//! The log on local disk, in process: the default, one binary and no server beside it.
//!
//! ```text
//!  tasks ──commit──▶ producer ──queue──▶ committer ──one batch, one sync──▶ store ──▶ state ──wakes──▶ consumers ──▶ tasks
//!                                            ▲                                          │
//!                                            └────────── upkeep: what may go ───────────┘
//! ```
//!
//! In: [`Commit`](rollcall_model::Commit)s of records and progress. Out: the same records in order, to whoever asks,
//! for as long as they are kept. Why it is right:
//!
//! - **Atomic and durable**: a commit is (part of) one batch of the store, synced before anything of it is visible and
//!   before it is acknowledged ([`committer`]). After a crash a batch is there whole or not at all ([`store`]).
//! - **Order**: one committer gives the offsets, +1 per record and partition, and writes them with the records.
//! - **One writer per task**: `open` raises the task's writer number durably; an older number is fenced.
//! - **Nothing unread goes**: compaction and retention stop at the lowest place of the tasks that read a partition
//!   ([`upkeep`]). The price is a log that fills up: then the sources stop, and the fault names the slowest task.
//! - **Never two**: a folder is locked by its process, carries its log's id, and refuses another partition count.
//!
//! docs/adr/0001-log-store.md says why the store is fjall.

mod codec;
mod committer;
mod config;
mod consumer;
mod folder;
mod journal;
mod producer;
mod shared;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod times;
mod upkeep;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use rollcall_model::{
    Consumer, Fault, Fut, Log, LogId, Opened, Partition, Place, Progress, ReadRange, Topic,
};
use tokio::sync::{mpsc, oneshot};

pub use config::{
    Clock, DEFAULT_BYTES_MAX, DEFAULT_CACHE_BYTES, DEFAULT_DISK_FREE_BYTES_MIN, DEFAULT_OPEN_FILES_MAX,
    DEFAULT_PARTITIONS, DEFAULT_RETENTION_BYTES_MAX, DEFAULT_RETENTION_MS, DEFAULT_TOMBSTONE_RETENTION_MS,
    DEFAULT_UPKEEP_INTERVAL_MS, EmbeddedLogConfig,
};
pub use stats::{LogStats, TopicStats};

use crate::committer::{Job, QUEUE_JOBS_MAX};
use crate::consumer::EmbeddedConsumer;
use crate::folder::{FOLDER_FORMAT, Folder, Label};
use crate::producer::EmbeddedProducer;
use crate::shared::{Shared, State};
use crate::store::Store;

/// A log that is new has not been copied yet.
const FIRST_EPOCH: u32 = 0;

/// The log in a folder. Dropping it finishes what is queued, stops its threads and lets the folder go; producers and
/// consumers that outlive it fail.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    committer: Option<JoinHandle<()>>,
    upkeep: Option<(std_mpsc::Sender<()>, JoinHandle<()>)>,
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the log in a folder, or makes it. Blocks while it reads what a crash left.
    ///
    /// # Errors
    /// A [`Fault`]: `Config` when another process holds the folder or the partition count differs, `Refused` when the
    /// folder is of a newer format or was tampered with, `Retry` when the disk is full or fails.
    pub fn open(path: impl AsRef<Path>, config: EmbeddedLogConfig) -> Result<Self, Fault> {
        Self::open_as(path.as_ref(), config, None)
    }

    /// Opens a log that is there, with the partitions it was made with.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`]; `Config` when no log is there.
    pub fn open_existing(path: impl AsRef<Path>, config: EmbeddedLogConfig) -> Result<Self, Fault> {
        let path = path.as_ref();
        let Some(label) = folder::label_in(path)? else {
            return Err(Fault::config(format!("there is no log in {}", path.display()))
                .repair("name the folder that log.path named when rollcall ran"));
        };
        Self::open_as(path, EmbeddedLogConfig { partitions: label.partitions, ..config }, None)
    }

    /// Makes a log with the identity of another, the target of `log copy`; or opens what was made so, to go on with it.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`]; `Refused` when another log is there.
    pub fn create_copy(
        path: impl AsRef<Path>,
        config: EmbeddedLogConfig,
        id: LogId,
        epoch: u32,
    ) -> Result<Self, Fault> {
        Self::open_as(path.as_ref(), config, Some((id, epoch)))
    }

    fn open_as(path: &Path, config: EmbeddedLogConfig, copy: Option<(LogId, u32)>) -> Result<Self, Fault> {
        if config.partitions == 0 {
            return Err(Fault::config("log.partitions is 0").repair("set log.partitions to 1 or more"));
        }
        let folder = Folder::hold(path)?;
        let (store, label, state) = open_store(&folder, &config, copy)?;
        let identity = (label.log_id, label.epoch, label.partitions);
        let shared = Shared::new(identity, config, folder, store, state);
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (stop, stopped) = std_mpsc::channel();
        let mut log = Self { shared, jobs, committer: None, upkeep: None };
        log.committer = Some(thread("rollcall-log-commit", {
            let shared = Arc::clone(&log.shared);
            move || committer::run(&shared, queue)
        })?);
        let upkeep = thread("rollcall-log-upkeep", {
            let (shared, jobs) = (Arc::clone(&log.shared), log.jobs.clone());
            move || upkeep::run(&shared, &jobs, &stopped)
        })?;
        log.upkeep = Some((stop, upkeep));
        Ok(log)
    }

    /// One pass of compaction, now.
    ///
    /// # Errors
    /// A [`Fault`] when the store fails; what was done stays done.
    pub async fn compact_now(&self) -> Result<(), Fault> {
        let (shared, jobs) = (Arc::clone(&self.shared), self.jobs.clone());
        off_async(move || upkeep::compact(&shared, &jobs, &|| false)).await
    }

    /// One pass of retention, as of a time.
    ///
    /// # Errors
    /// A [`Fault`] when the store fails; what was done stays done.
    pub async fn retain_now(&self, now_ms: u64) -> Result<(), Fault> {
        let (shared, jobs) = (Arc::clone(&self.shared), self.jobs.clone());
        off_async(move || upkeep::retain(&shared, &jobs, now_ms, &|| false)).await
    }

    /// What the log holds and takes.
    ///
    /// # Errors
    /// A [`Fault`] when its folder can't be measured.
    pub async fn stats(&self) -> Result<LogStats, Fault> {
        let shared = Arc::clone(&self.shared);
        off_async(move || stats::of(&shared)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(committer::Answer<T>) -> Job) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| self.shared.closed())?;
        answered.await.map_err(|_| self.shared.closed())?
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Some((stop, upkeep)) = self.upkeep.take() {
            drop(stop);
            joined(upkeep);
        }
        if let Some(committer) = self.committer.take() {
            let jobs = self.jobs.clone();
            // On a thread of its own, because waiting for room in the queue is not allowed on an async one.
            joined(std::thread::spawn(move || drop(jobs.blocking_send(Job::Close))));
            joined(committer);
        }
        drop(self.shared.store_slot().take());
        self.shared.folder.release();
    }
}

fn joined(handle: JoinHandle<()>) {
    if handle.join().is_err() {
        tracing::error!("a thread of the log panicked");
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|e| Fault::retry(format!("can't start the thread {name}")).from_source(e))
}

async fn off_async<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::bug("work on the log died").from_source(e))?
}

fn open_store(
    folder: &Folder,
    config: &EmbeddedLogConfig,
    copy: Option<(LogId, u32)>,
) -> Result<(Store, Label, State), Fault> {
    let place = folder.path().display();
    let said = folder.label()?;
    let removed = |label: &Label| {
        Fault::refused(format!("the folder {place} says it is log {}, but its store was removed", label.log_id))
            .repair(format!(
                "restore {place}/store from a backup; or remove {place} whole, start anew and run rollcall rebuild \
                 for every sink"
            ))
    };
    if let Some(label) = said.as_ref().filter(|_| !folder.store_path().exists()) {
        return Err(removed(label));
    }
    let store = Store::open(&folder.store_path(), config)?;
    let loaded = store.load()?;
    let label = match (said, loaded.label) {
        (Some(said), None) => return Err(removed(&said)),
        (Some(said), Some(label)) if said != label => {
            return Err(Fault::refused(format!(
                "the folder {place} says it is log {}, its store is of log {}",
                said.log_id, label.log_id
            ))
            .repair(format!("restore {place} whole from one backup")));
        }
        (_, Some(label)) => label,
        (None, None) => new_log(&store, config, copy.as_ref())?,
    };
    if let Some((id, epoch)) = copy.filter(|(id, epoch)| (id, *epoch) != (&label.log_id, label.epoch)) {
        return Err(Fault::refused(format!(
            "log {} of epoch {} is in {place}, a copy of {id} with epoch {epoch} was to be made there",
            label.log_id, label.epoch
        ))
        .repair("copy to another folder, or remove this one whole if it is of no use"));
    }
    if label.partitions != config.partitions {
        let (made, wanted) = (label.partitions, config.partitions);
        return Err(Fault::config(format!(
            "log.partitions is {wanted}, but the log in {place} was made with {made}; their number is fixed"
        ))
        .repair(format!(
            "set log.partitions: {made} in topology.yaml, or set another log.path for a new log"
        )));
    }
    folder.set_label(&label)?;
    Ok((store, label, State::new(loaded.parts, loaded.tasks)))
}

fn new_log(store: &Store, config: &EmbeddedLogConfig, copy: Option<&(LogId, u32)>) -> Result<Label, Fault> {
    let (log_id, epoch) = match copy {
        Some((id, epoch)) => (id.clone(), *epoch),
        None => (new_id()?, FIRST_EPOCH),
    };
    let label = Label { format: FOLDER_FORMAT, log_id, epoch, partitions: config.partitions };
    let mut batch = store.batch();
    batch.put_label(&label)?;
    batch.commit()?;
    Ok(label)
}

fn new_id() -> Result<LogId, Fault> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|e| Fault::retry("the operating system gave no random number").from_source(e))?;
    Ok(LogId(format!("{:032x}", u128::from_be_bytes(random))))
}

impl Log for EmbeddedLog {
    fn id(&self) -> &LogId {
        &self.shared.id
    }

    fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        Box::pin(async move {
            let (writer, progress) = self.ask(|answer| Job::Open { task: task.to_owned(), answer }).await?;
            let producer = EmbeddedProducer {
                shared: Arc::clone(&self.shared),
                jobs: self.jobs.clone(),
                task: Arc::from(task),
                writer,
                outcome_unknown: false,
            };
            Ok(Opened { producer: Box::new(producer), progress })
        })
    }

    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
        Box::pin(async move {
            let consumer = EmbeddedConsumer::new(Arc::clone(&self.shared), from)?;
            Ok(Box::new(consumer) as Box<dyn Consumer>)
        })
    }

    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        Box::pin(async move {
            self.shared.known(topic, partition)?;
            let part = self.shared.state().part(topic, partition);
            let at = |offset| Place { epoch: self.shared.epoch, offset };
            Ok(ReadRange { start: at(part.start), stable: at(part.end), end: at(part.end) })
        })
    }

    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        Box::pin(async move {
            self.shared.known(topic, partition)?;
            let shared = Arc::clone(&self.shared);
            let offset = off_async(move || times::offset_at(&shared, topic, partition, time_ms)).await?;
            Ok(Place { epoch: self.shared.epoch, offset })
        })
    }

    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        Box::pin(async move {
            let state = self.shared.state();
            let known =
                state.tasks().iter().filter_map(|(name, task)| Some((name.clone(), task.progress.clone()?)));
            Ok(known.collect())
        })
    }

    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        Box::pin(self.ask(|answer| Job::Forget { task: task.to_owned(), answer }))
    }
}
