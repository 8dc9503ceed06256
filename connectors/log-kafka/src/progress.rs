//! The topic `progress`, followed: what each task last committed, and which log this is.
//!
//! ```text
//! progress  "log"    ▸ label: id, epoch, partitions
//!           task     ▸ its progress          (header rollcall-cut: which of its keys stand in pieces)
//! ```
//!
//! Whoever asks gets what was committed before the question: the answer waits until everything written by then is
//! decided and read. An offset of the consumer group would not do: it can expire, and isn't part of the commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rollcall_model::log::PollLimit;
use rollcall_model::{Consumer as _, Fault, FaultKind, Fetched, LogId, Partition, Place, Progress, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Questions;
use crate::config::KafkaLogConfig;
use crate::consumer::KafkaConsumer;
use crate::pieces::CutKeys;

/// The key of the label.
pub(crate) const LABEL_KEY: &str = "log";
/// Header of a progress record: the task's keys in pieces.
pub(crate) const CUT: &str = "rollcall-cut";
/// Form of the label.
const LABEL_FORMAT: u32 = 1;

const POLL: PollLimit =
    PollLimit { records_max: 10_000, bytes_max: 16 << 20, wait: Duration::from_millis(500) };
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Commits under way end within milliseconds, but for those of the dead.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Which log the topics with a prefix are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    format: u32,
    pub(crate) log_id: LogId,
    pub(crate) epoch: u32,
    pub(crate) partitions: u16,
}

impl Label {
    pub(crate) fn new(log_id: LogId, epoch: u32, partitions: u16) -> Self {
        Self { format: LABEL_FORMAT, log_id, epoch, partitions }
    }
}

/// What a task last committed.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) progress: Option<Progress>,
    pub(crate) cut: CutKeys,
}

#[derive(Debug, Default)]
struct State {
    label: Option<Label>,
    tasks: BTreeMap<String, Kept>,
    /// Why the topic can't be followed, for who waits.
    broken: Option<(FaultKind, String, Option<String>)>,
}

/// The follower.
#[derive(Debug)]
pub(crate) struct Follower {
    state: Arc<Mutex<State>>,
    reached: watch::Receiver<i64>,
    work: JoinHandle<()>,
    config: KafkaLogConfig,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.work.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    /// Begins to follow.
    pub(crate) fn start(config: &KafkaLogConfig, questions: &Arc<Questions>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (moved, reached) = watch::channel(0);
        let work = tokio::spawn(follow(config.clone(), Arc::clone(questions), Arc::clone(&state), moved));
        Self { state, reached, work, config: config.clone() }
    }

    /// What every task committed before this was asked, as far as it is decided. A dead worker's commit that is still open
    /// holds back the end of the topic until its task is opened by another worker; which must not wait for this.
    pub(crate) async fn tasks(&self, questions: &Questions) -> Result<BTreeMap<String, Kept>, Fault> {
        self.catch_up(questions, KNOWN_WITHIN).await?;
        Ok(lock(&self.state).tasks.clone())
    }

    /// What a task committed before this was asked.
    pub(crate) async fn task(&self, questions: &Questions, task: &str) -> Result<Kept, Fault> {
        if !self.catch_up(questions, self.patience()).await? {
            return Err(self.stalled(questions).await);
        }
        Ok(lock(&self.state).tasks.get(task).cloned().unwrap_or_default())
    }

    /// Which log this is, if it is one yet.
    pub(crate) async fn label(&self, questions: &Questions) -> Result<Option<Label>, Fault> {
        if !self.catch_up(questions, self.patience()).await? {
            return Err(self.stalled(questions).await);
        }
        Ok(lock(&self.state).label.clone())
    }

    /// What is known without waiting; for what may be late, such as retention.
    pub(crate) fn known(&self) -> BTreeMap<String, Kept> {
        lock(&self.state).tasks.clone()
    }

    /// Another task's commit may be under way before the end; it ends within its timeout.
    fn patience(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.transaction_timeout_ms)) + RETRY_PAUSE * 30
    }

    async fn stalled(&self, questions: &Questions) -> Fault {
        let (topic, read) = (self.config.topic(Topic::Progress), *self.reached.borrow());
        match questions.offsets(topic.clone(), 0).await {
            Ok(offsets) if offsets.stable < offsets.end => Fault::retry(format!(
                "the topic {topic} can't be read to its end at {}: a commit at {} has been under way for longer than \
                 log.transaction_timeout_ms",
                offsets.end, offsets.stable
            ))
            .repair("docs/runbook.md, \"A commit that never ends\""),
            Ok(offsets) => Fault::retry(format!(
                "the topic {topic} is read slowly: it begins at {}, is read to {read} and ends at {}",
                offsets.start, offsets.end
            )),
            Err(fault) => fault,
        }
    }

    /// Whether everything that was written before this was asked has been decided and read within a time.
    async fn catch_up(&self, questions: &Questions, within: Duration) -> Result<bool, Fault> {
        let end = questions.offsets(self.config.topic(Topic::Progress), 0).await?.end;
        let mut reached = self.reached.clone();
        let waited = tokio::time::timeout(within, reached.wait_for(|at| *at >= end)).await;
        if let Some((kind, what, repair)) = lock(&self.state).broken.clone() {
            return Err(Fault { repair, ..Fault::new(kind, what) });
        }
        match waited {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(Fault::retry("the topic progress is no longer followed")),
            Err(_) => Ok(false),
        }
    }
}

async fn follow(
    config: KafkaLogConfig,
    questions: Arc<Questions>,
    state: Arc<Mutex<State>>,
    moved: watch::Sender<i64>,
) {
    loop {
        let Err(fault) = follow_once(&config, &questions, &state, &moved).await;
        // What is known may be old by the time it is followed again.
        moved.send_replace(0);
        tracing::warn!("the topic progress can't be followed: {fault}");
        if fault.kind != FaultKind::Retry {
            lock(&state).broken = Some((fault.kind, fault.message(), fault.repair));
            // Who waits looks at the cause.
            moved.send_replace(i64::MAX);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        moved.send_replace(0);
    }
}

async fn follow_once(
    config: &KafkaLogConfig,
    questions: &Questions,
    state: &Mutex<State>,
    moved: &watch::Sender<i64>,
) -> Result<std::convert::Infallible, Fault> {
    let at = (Topic::Progress, Partition(0));
    // The end as it is now: on a busy log, the end as it is then is never reached.
    let range = questions.offsets(config.topic(at.0), 0).await?;
    // Offsets of this topic are nobody's places, so they need no epoch.
    let place = Place { epoch: 0, offset: u64::try_from(range.start).unwrap_or_default() };
    let mut consumer = KafkaConsumer::new(config, 0, &BTreeMap::from([(at, place)]), None)?;
    // Compaction may have taken what an earlier try had read; all of it comes again.
    let mut fresh = State::default();
    let mut is_fresh = true;
    loop {
        let records = consumer.poll(POLL).await?;
        let reached = consumer.reached().get(&at).map_or(0, |place| place.offset);
        if is_fresh {
            for fetched in records {
                take(config, &mut fresh, fetched)?;
            }
            if i64::try_from(reached).unwrap_or(i64::MAX) < range.stable {
                continue;
            }
            *lock(state) = std::mem::take(&mut fresh);
            is_fresh = false;
        } else {
            let mut state = lock(state);
            for fetched in records {
                take(config, &mut state, fetched)?;
            }
        }
        moved.send_if_modified(|at| {
            let reached = i64::try_from(reached).unwrap_or(i64::MAX);
            std::mem::replace(at, reached) != reached
        });
    }
}

fn take(config: &KafkaLogConfig, state: &mut State, fetched: Fetched) -> Result<(), Fault> {
    if fetched.foreign {
        tracing::warn!(
            "somebody else's record stands in {} at offset {}; it is passed over",
            config.topic(Topic::Progress),
            fetched.place.offset
        );
        return Ok(());
    }
    let unreadable = |e: serde_json::Error| {
        let name = config.topic(Topic::Progress);
        Fault::refused(format!("{name} can't be read at offset {}", fetched.place.offset))
            .from_source(e)
            .repair("run the version of rollcall that wrote the log")
    };
    let key = String::from_utf8_lossy(&fetched.record.key).into_owned();
    let Some(value) = &fetched.record.value else {
        if key == LABEL_KEY {
            state.label = None;
        }
        state.tasks.remove(&key);
        return Ok(());
    };
    if key == LABEL_KEY {
        let label: Label = serde_json::from_slice(value).map_err(unreadable)?;
        if label.format != LABEL_FORMAT {
            return Err(Fault::refused(format!(
                "the log '{}' is of form {}, this version reads form {LABEL_FORMAT}",
                config.prefix, label.format
            ))
            .repair("run the version of rollcall that wrote the log"));
        }
        state.label = Some(label);
        return Ok(());
    }
    let cut = fetched.record.headers.iter().find(|(name, _)| name == CUT);
    let cut = cut.map(|(_, text)| serde_json::from_str(text).map_err(unreadable)).transpose()?;
    let progress: Option<Progress> = serde_json::from_slice(value).map_err(unreadable)?;
    state.tasks.insert(key, Kept { progress, cut: cut.unwrap_or_default() });
    Ok(())
}
