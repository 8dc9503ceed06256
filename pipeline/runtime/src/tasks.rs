//! The life of a task: it runs, is retried with a growing pause, stops for good on a fault that needs a person, and
//! is paused and resumed by an operator.
//!
//! ```text
//! starting ─▶ running ─Retry─▶ retrying ─pause─▶ starting
//!                │ Config, Refused, Bug ─▶ failed ─resume─▶ starting
//!                └ pause ─▶ paused ─resume─▶ starting
//! ```
//!
//! A task that was fenced starts anew like one that failed in passing: if it still belongs here, it is its turn again; if
//! it doesn't, it is stopped before long.
//!
//! A task is a future that is dropped to stop it. That is safe: what it had not committed did not happen, what it was
//! committing is learnt when it opens its place in the log again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use rollcall_model::{Fault, FaultKind};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// First pause before a retry.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a retry.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A task that ran this long before failing starts its pauses anew.
const RETRY_RESET_AFTER: Duration = Duration::from_secs(30);

/// What a task is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Opening its place in the log and its connections.
    Starting,
    /// At work.
    Running,
    /// Waiting to try again.
    Retrying,
    /// Stopped by an operator.
    Paused,
    /// Stopped until somebody mends what its error says.
    Failed,
}

/// What is known of a task.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TaskStatus {
    /// What it does.
    pub state: TaskState,
    /// The fault it met last, while it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What repairs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// What the task reports of itself: position, lag, rates.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

/// A task's own view of its status.
#[derive(Clone, Debug)]
pub struct Reporter {
    name: String,
    board: Board,
}

impl Reporter {
    /// Of a task that nobody watches.
    #[cfg(test)]
    pub(crate) fn of_a_test(name: &str) -> Self {
        Self { name: name.to_owned(), board: Board::default() }
    }

    /// The task is at work: an earlier fault is over.
    pub fn running(&self) {
        self.board.with(&self.name, |status| {
            status.state = TaskState::Running;
            status.error = None;
            status.repair = None;
        });
    }

    /// The task can't go on, says so, and itself sees when it can: what repairs it is done elsewhere.
    pub(crate) fn waits_for_repair(&self, fault: &Fault) {
        error!(task = self.name, "{fault}");
        self.board.with(&self.name, |status| {
            status.state = TaskState::Failed;
            status.error = Some(fault.message());
            status.repair.clone_from(&fault.repair);
        });
    }

    /// Says a fact of the task.
    pub fn fact(&self, name: &str, value: impl Into<Value>) {
        self.board.with(&self.name, |status| {
            status.facts.insert(name.to_owned(), value.into());
        });
    }
}

/// The status of every task of the worker.
#[derive(Clone, Debug, Default)]
pub struct Board {
    tasks: Arc<Mutex<BTreeMap<String, TaskStatus>>>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, TaskStatus>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut TaskStatus)) {
        let mut tasks = self.lock();
        let status = tasks.entry(name.to_owned()).or_insert_with(|| TaskStatus {
            state: TaskState::Starting,
            error: None,
            repair: None,
            facts: Map::new(),
        });
        change(status);
    }

    /// What every task does now.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, TaskStatus> {
        self.lock().clone()
    }
}

/// What an operator wants of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Run. The number grows with each `resume`, so that a failed task starts again.
    Run(u64),
    /// Be still.
    Pause,
}

/// What a task runs: made anew for every start.
pub type TaskBody =
    Box<dyn Fn(Reporter) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>> + Send + Sync>;

/// The tasks that run in a worker, by name.
#[derive(Debug, Default)]
pub struct Tasks {
    board: Board,
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    wish: watch::Sender<Wish>,
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Tasks {
    /// The status board.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a task runs here, whatever it is doing.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// The names of those that run here.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.lock().keys().cloned().collect()
    }

    /// Starts a task, if it doesn't run already.
    pub fn start(&self, name: &str, paused: bool, body: Arc<TaskBody>) {
        let mut running = self.lock();
        if running.contains_key(name) {
            return;
        }
        let (wish, wished) = watch::channel(if paused { Wish::Pause } else { Wish::Run(0) });
        let (stop, stopped) = watch::channel(false);
        let reporter = Reporter { name: name.to_owned(), board: self.board.clone() };
        let handle = tokio::spawn(live(reporter, wished, stopped, body));
        running.insert(name.to_owned(), Running { wish, stop, handle });
    }

    /// Stops some tasks and waits until they have.
    ///
    /// # Errors
    /// A bug fault when one broke off.
    pub async fn stop(&self, names: &BTreeSet<String>) -> Result<(), Fault> {
        let stopping: Vec<_> = {
            let mut running = self.lock();
            names.iter().filter_map(|name| Some((name, running.remove(name)?))).collect()
        };
        for (_, task) in &stopping {
            task.stop.send_replace(true);
        }
        let mut ended = Ok(());
        for (name, task) in stopping {
            if let Err(e) = task.handle.await {
                ended = Err(Fault::bug(format!("the task {name} broke off")).from_source(e));
            }
            self.board.lock().remove(name);
        }
        ended
    }

    /// Ends a task as a killed process would: whatever it was doing just did not happen.
    #[cfg(test)]
    pub(crate) fn kill(&self, name: &str) {
        if let Some(task) = self.lock().remove(name) {
            task.handle.abort();
        }
        self.board.lock().remove(name);
    }

    /// Says a fact of a task that runs here, in its place.
    pub(crate) fn fact(&self, name: &str, fact: &str, value: Value) {
        if self.has(name) {
            self.board.with(name, |status| drop(status.facts.insert(fact.to_owned(), value)));
        }
    }

    /// Pauses or resumes a task.
    ///
    /// # Errors
    /// The names there are, when there is no such task.
    pub fn wish(&self, name: &str, pause: bool) -> Result<(), Vec<String>> {
        let running = self.lock();
        let Some(task) = running.get(name) else { return Err(running.keys().cloned().collect()) };
        task.wish.send_modify(|wish| {
            *wish = match (pause, *wish) {
                (true, _) => Wish::Pause,
                (false, Wish::Run(n)) => Wish::Run(n + 1),
                (false, Wish::Pause) => Wish::Run(0),
            };
        });
        Ok(())
    }
}

enum Ended {
    Stopped,
    Wished,
    Done(Result<(), Fault>),
}

async fn live(
    reporter: Reporter,
    mut wish: watch::Receiver<Wish>,
    mut stop: watch::Receiver<bool>,
    body: Arc<TaskBody>,
) {
    let name = reporter.name.clone();
    let set = |state, fault: Option<&Fault>| {
        reporter.board.with(&name, |status| {
            status.state = state;
            status.error = fault.map(Fault::message);
            status.repair = fault.and_then(|f| f.repair.clone());
        });
    };
    let mut pause = RETRY_PAUSE_MIN;
    while !*stop.borrow() {
        let wanted = *wish.borrow_and_update();
        if wanted == Wish::Pause {
            set(TaskState::Paused, None);
            tokio::select! { _ = wish.changed() => {}, _ = stop.changed() => {} }
            continue;
        }
        reporter.board.with(&name, |status| status.state = TaskState::Starting);
        let started = tokio::time::Instant::now();
        let ended = tokio::select! {
            biased;
            _ = stop.changed() => Ended::Stopped,
            _ = wish.changed() => Ended::Wished,
            result = AssertUnwindSafe(body(reporter.clone())).catch_unwind() => {
                Ended::Done(result.unwrap_or_else(|_| Err(Fault::bug("the task panicked; standard error says where"))))
            }
        };
        let fault = match ended {
            Ended::Stopped => break,
            Ended::Wished | Ended::Done(Ok(())) => continue,
            Ended::Done(Err(fault)) => fault,
        };
        if started.elapsed() > RETRY_RESET_AFTER {
            pause = RETRY_PAUSE_MIN;
        }
        match fault.kind {
            FaultKind::Retry | FaultKind::Fenced => {
                warn!(task = name, pause_ms = pause.as_millis() as u64, "{fault}");
                set(TaskState::Retrying, Some(&fault));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.changed() => {}
                    _ = wish.changed() => {}
                }
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
            FaultKind::BadRecord | FaultKind::Config | FaultKind::Refused | FaultKind::Bug => {
                error!(task = name, "{fault}");
                set(TaskState::Failed, Some(&fault));
                tokio::select! { _ = wish.changed() => {}, _ = stop.changed() => {} }
            }
        }
    }
    info!(task = name, "stopped");
}
