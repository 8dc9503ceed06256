//! A log that fails on purpose: its commits follow a script.
//!
//! ```text
//! commit ──▶ next step of the script ──▶ Pass          written, answered
//!                                        FailBefore    not written, "try again"
//!                                        LoseAnswer    written, "try again": the case that matters
//!                                        Fence         not written, another writer has the task
//! ```
//!
//! Reading is never disturbed. When the script is at its end everything passes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rollcall_model::{
    Commit, Committed, Consumer, Fault, FaultKind, Fut, Log, LogId, Opened, Partition, Place, Producer,
    Progress, ReadRange, Topic,
};

/// What becomes of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is written and answered.
    Pass,
    /// It fails with [`FaultKind::Retry`] before anything is written.
    FailBefore,
    /// It is written, but its writer is told [`FaultKind::Retry`].
    LoseAnswer,
    /// It fails with [`FaultKind::Fenced`] before anything is written.
    Fence,
}

/// A log whose commits follow a script, in the order in which they come, whoever makes them. Clones share it.
#[derive(Clone)]
pub struct FaultyLog {
    inner: Arc<dyn Log>,
    script: Arc<Mutex<VecDeque<Step>>>,
}

impl std::fmt::Debug for FaultyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyLog").field("script", &self.script).finish_non_exhaustive()
    }
}

impl FaultyLog {
    /// Wraps a log.
    #[must_use]
    pub fn new(inner: Arc<dyn Log>, script: impl IntoIterator<Item = Step>) -> Self {
        Self { inner, script: Arc::new(Mutex::new(script.into_iter().collect())) }
    }

    /// Adds a step to the end of the script.
    pub fn then(&self, step: Step) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(step);
    }

    /// Steps not yet taken.
    #[must_use]
    pub fn steps_left(&self) -> usize {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Log for FaultyLog {
    fn id(&self) -> &LogId {
        self.inner.id()
    }

    fn epoch(&self) -> u32 {
        self.inner.epoch()
    }

    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        Box::pin(async move {
            let Opened { producer, progress } = self.inner.open(task).await?;
            let producer = FaultyProducer { inner: producer, script: Arc::clone(&self.script) };
            Ok(Opened { producer: Box::new(producer), progress })
        })
    }

    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
        self.inner.consumer(from)
    }

    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        self.inner.range(topic, partition)
    }

    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        self.inner.offset_at(topic, partition, time_ms)
    }

    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        self.inner.tasks()
    }

    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        self.inner.forget(task)
    }
}

struct FaultyProducer {
    inner: Box<dyn Producer>,
    script: Arc<Mutex<VecDeque<Step>>>,
}

impl Producer for FaultyProducer {
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed> {
        Box::pin(async move {
            let step = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match step.unwrap_or(Step::Pass) {
                Step::Pass => self.inner.commit(commit).await,
                Step::FailBefore => Err(Fault::retry("scripted: failed before the write")),
                Step::LoseAnswer => {
                    self.inner.commit(commit).await?;
                    Err(Fault::retry("scripted: written, the answer was lost"))
                }
                Step::Fence => Err(Fault::new(FaultKind::Fenced, "scripted: a newer writer has this task")),
            }
        })
    }
}
