//! The log on Apache Kafka: more than one machine, the same guarantees.
//!
//! ```text
//!  tasks ──commit──▶ producer: one transaction ──▶ topics PREFIX.* ──▶ consumer: read_committed ──▶ tasks
//!                        │ progress in it               ▲    │
//!                        └──▶ PREFIX.progress ──follower──┘    └── upkeep drops what every task has read
//!  workers ──group over the empty topic PREFIX.tasks──▶ which worker runs which task
//! ```
//!
//! In: [`Commit`](rollcall_model::Commit)s of records and progress. Out: the same records in order. Why it is right:
//!
//! - **Atomic and durable**: a commit is one transaction with `acks=all`; readers see committed records alone
//!   ([`producer`], [`consumer`]).
//! - **One writer per task**: its transactional id is the task's; opening fences the older writer, ends what that left
//!   open, and only then reads where the task stands ([`progress`]).
//! - **Order**: partitions are written explicitly and their number is fixed with the log ([`topics`]).
//! - **Nothing unread goes**: retention is ours, not the brokers' ([`upkeep`]). Compacted topics keep the newest record
//!   per key, whoever has read the older ones.
//! - **Never a guess**: a place that is gone, topics that are other than they must be, a second log with the same prefix:
//!   each is refused with what repairs it.
//! - **Groups only spread**: which worker runs a task is the group's matter, exactness isn't ([`group`]).

mod client;
mod config;
mod consumer;
mod context;
mod fault;
mod group;
mod oauth;
mod pieces;
mod producer;
mod progress;
mod times;
mod topics;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{
    Consumer, Fault, FaultKind, Fut, Log, LogId, Opened, Partition, Place, Progress, ReadRange, Topic,
};
use rollcall_schema_registry::AvroCodec;
use tokio::task::JoinHandle;

pub use config::{
    Clock, DEFAULT_REQUEST_TIMEOUT_MS, DEFAULT_SESSION_TIMEOUT_MS, DEFAULT_TRANSACTION_TIMEOUT_MS,
    DEFAULT_UPKEEP_INTERVAL_MS, KafkaLogConfig, OauthConfig, SaslConfig, TlsConfig,
};
pub use group::KafkaGroup;

use crate::client::{Questions, blocking};
use crate::consumer::{KafkaConsumer, check_place};
use crate::producer::{KafkaProducer, Writer, known};
use crate::progress::{Follower, LABEL_KEY, Label};

/// The task under which a log is labelled.
const LABELLING: &str = "log";
/// Workers that start at once label one after another.
const LABEL_TRIES: usize = 10;

/// A log on Kafka. Dropping it ends its clients; producers and consumers that outlive it go on.
pub struct KafkaLog {
    config: KafkaLogConfig,
    label: Label,
    questions: Arc<Questions>,
    progress: Arc<Follower>,
    message_bytes_max: u64,
    codec: Option<Arc<AvroCodec>>,
    upkeep: JoinHandle<()>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

impl KafkaLog {
    /// Opens the log with a prefix, or makes it: its topics and its label.
    ///
    /// # Errors
    /// A [`Fault`]: `Retry` when no broker answers, `Config` when a right or a setting is missing, `Refused` when the
    /// topics are another log's or have changed.
    pub async fn open(config: KafkaLogConfig) -> Result<Self, Fault> {
        Self::open_as(config, None).await
    }

    /// Opens the log with a prefix, and makes none.
    ///
    /// # Errors
    /// As [`KafkaLog::open`]; `Config` when no log is there.
    pub async fn open_existing(config: KafkaLogConfig) -> Result<Self, Fault> {
        config.check()?;
        if topics::is_there(&Questions::new(&config)?, &config).await? {
            return Self::open_as(config, None).await;
        }
        Err(Fault::config(format!("there is no log '{}' at {}", config.prefix, config.brokers)).repair(
            "name the brokers and the prefix that log.brokers and log.prefix named when rollcall ran",
        ))
    }

    /// Makes a log with the identity of another, the target of `log copy`; or opens what was made so, to go on with it.
    ///
    /// # Errors
    /// As [`KafkaLog::open`]; `Refused` when another log is there.
    pub async fn create_copy(config: KafkaLogConfig, id: LogId, epoch: u32) -> Result<Self, Fault> {
        Self::open_as(config, Some((id, epoch))).await
    }

    async fn open_as(config: KafkaLogConfig, copy: Option<(LogId, u32)>) -> Result<Self, Fault> {
        config.check()?;
        let questions = Arc::new(Questions::new(&config)?);
        let codec = match &config.schema_registry {
            Some(registry) => Some(Arc::new(AvroCodec::connect(registry.clone(), &config.prefix).await?)),
            None => None,
        };
        let checked = topics::prepare(&questions, &config).await?;
        let progress = Arc::new(Follower::start(&config, &questions));
        let label = label(&config, &questions, &progress, checked.message_bytes_max, copy).await?;
        let upkeep = tokio::spawn(upkeep::run(config.clone(), Arc::clone(&questions), Arc::clone(&progress)));
        let message_bytes_max = checked.message_bytes_max;
        Ok(Self { config, label, questions, progress, message_bytes_max, codec, upkeep })
    }

    /// Joins the workers that share this log's tasks.
    ///
    /// # Errors
    /// A [`Fault`] of the brokers; `Refused` when another worker bears this id.
    pub async fn join(&self, worker: &str, tasks: u16) -> Result<KafkaGroup, Fault> {
        topics::prepare_tasks(&self.questions, &self.config, tasks).await?;
        let (config, worker, bytes) = (self.config.clone(), worker.to_owned(), self.message_bytes_max);
        blocking(move || KafkaGroup::join(&config, &worker, bytes)).await
    }

    /// One pass of retention, as of a time.
    ///
    /// # Errors
    /// A [`Fault`] of the brokers; what was done stays done.
    pub async fn retain_now(&self, now_ms: u64) -> Result<(), Fault> {
        // What tasks have read must be known as of now.
        self.progress.tasks(&self.questions).await?;
        upkeep::retain(&self.config, &self.questions, &self.progress, now_ms).await
    }

    async fn writer(&self, task: &str) -> Result<Writer, Fault> {
        let (config, task) = (self.config.clone(), task.to_owned());
        let (epoch, bytes) = (self.label.epoch, self.message_bytes_max);
        let codec = self.codec.clone();
        blocking(move || Writer::open(&config, &task, epoch, bytes, codec)).await
    }
}

/// Reads which log this is; a new one gets its identity. Of workers that start at once, one gives it.
async fn label(
    config: &KafkaLogConfig,
    questions: &Questions,
    progress: &Follower,
    message_bytes_max: u64,
    copy: Option<(LogId, u32)>,
) -> Result<Label, Fault> {
    let mut tried: Option<Label> = None;
    for _ in 0..LABEL_TRIES {
        if let Some(label) = progress.label(questions).await? {
            // Ours, though the answer was lost.
            if tried.as_ref() == Some(&label) {
                return Ok(label);
            }
            if let Some((id, epoch)) = &copy
                && (id, *epoch) != (&label.log_id, label.epoch)
            {
                return Err(Fault::refused(format!(
                    "another log ({} of epoch {}) is there already under the prefix '{}' at {}",
                    label.log_id, label.epoch, config.prefix, config.brokers
                ))
                .repair("copy to another prefix, or delete the topics if they are of no use"));
            }
            if label.partitions != config.partitions {
                let (made, wanted) = (label.partitions, config.partitions);
                return Err(Fault::config(format!(
                    "log.partitions is {wanted}, but the log '{}' was made with {made}; their number is fixed",
                    config.prefix
                ))
                .repair(format!("set log.partitions: {made}, or another log.prefix for a new log")));
            }
            return Ok(label);
        }
        let tasks = progress.tasks(questions).await?;
        if let Some(task) = tasks.keys().next() {
            return Err(Fault::refused(format!(
                "{} holds the progress of tasks ('{task}') and no label: the log '{}' has lost which one it is",
                config.topic(Topic::Progress),
                config.prefix
            ))
            .repair(
                "restore the topic from a mirror; or take another log.prefix and run rollcall rebuild for every sink",
            ));
        }
        let new = config.clone();
        let mut writer = blocking(move || Writer::open(&new, LABELLING, 0, message_bytes_max, None)).await?;
        // Fenced first, looked second: who labelled before is seen, who would label now is refused.
        if progress.label(questions).await?.is_some() {
            continue;
        }
        let (id, epoch) = match &copy {
            Some((id, epoch)) => (id.clone(), *epoch),
            None => (new_id()?, 0),
        };
        let label = Label::new(id, epoch, config.partitions);
        let value = serde_json::to_vec(&label)
            .map_err(|e| Fault::bug("the log's label can't be written as JSON").from_source(e))?;
        tried = Some(label.clone());
        match blocking(move || writer.put(LABEL_KEY, Some(value))).await {
            Ok(()) => return Ok(label),
            Err(fault) if matches!(fault.kind, FaultKind::Fenced | FaultKind::Retry) => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::retry(format!("the log '{}' could not be labelled", config.prefix)))
}

fn new_id() -> Result<LogId, Fault> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|e| Fault::retry("the operating system gave no random number").from_source(e))?;
    Ok(LogId(format!("{:032x}", u128::from_be_bytes(random))))
}

impl Log for KafkaLog {
    fn id(&self) -> &LogId {
        &self.label.log_id
    }

    fn epoch(&self) -> u32 {
        self.label.epoch
    }

    fn partitions(&self) -> u16 {
        self.label.partitions
    }

    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        Box::pin(async move {
            // In this order: nothing of the task can be committed between the two.
            let mut writer = self.writer(task).await?;
            let kept = self.progress.task(&self.questions, task).await?;
            let progress = kept.progress.clone();
            writer.resume(kept);
            Ok(Opened { producer: Box::new(KafkaProducer { writer: Some(Box::new(writer)) }), progress })
        })
    }

    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
        Box::pin(async move {
            for ((topic, partition), place) in &from {
                known(&self.config, *topic, *partition)?;
                let offsets = self.questions.offsets(self.config.topic(*topic), partition.0.into()).await?;
                let bounds = (offsets.start, offsets.end);
                check_place(&self.config, self.label.epoch, (*topic, *partition), *place, bounds)?;
            }
            let consumer = KafkaConsumer::new(&self.config, self.label.epoch, &from, self.codec.clone())?;
            Ok(Box::new(consumer) as Box<dyn Consumer>)
        })
    }

    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        Box::pin(async move {
            known(&self.config, topic, partition)?;
            let offsets = self.questions.offsets(self.config.topic(topic), partition.0.into()).await?;
            let at = |offset: i64| Place {
                epoch: self.label.epoch,
                offset: u64::try_from(offset).unwrap_or_default(),
            };
            Ok(ReadRange { start: at(offsets.start), stable: at(offsets.stable), end: at(offsets.end) })
        })
    }

    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        Box::pin(async move {
            known(&self.config, topic, partition)?;
            let name = self.config.topic(topic);
            let number = i32::from(partition.0);
            let offset = times::offset_at(&self.config, &self.questions, name, number, time_ms).await?;
            Ok(Place { epoch: self.label.epoch, offset: u64::try_from(offset).unwrap_or_default() })
        })
    }

    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        Box::pin(async move {
            let tasks = self.progress.tasks(&self.questions).await?;
            Ok(tasks.into_iter().filter_map(|(name, kept)| Some((name, kept.progress?))).collect())
        })
    }

    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        Box::pin(async move {
            let mut writer = self.writer(task).await?;
            let task = task.to_owned();
            blocking(move || writer.put(&task, None)).await
        })
    }
}
