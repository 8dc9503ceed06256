//! The writer of a task: it puts a commit into the store's form, queues it and waits until it is durable.

use std::sync::Arc;

use rollcall_model::{Commit, Committed, Fault, FaultKind, Fut, Producer};
use tokio::sync::{mpsc, oneshot};

use crate::committer::{EncodedCommit, Job};
use crate::shared::Shared;

/// The one writer of a task.
pub(crate) struct EmbeddedProducer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) task: Arc<str>,
    pub(crate) writer: u64,
    /// A commit was queued and its outcome never heard: another one on top could write it twice.
    pub(crate) outcome_unknown: bool,
}

impl EmbeddedProducer {
    async fn commit(&mut self, commit: Commit) -> Result<Committed, Fault> {
        if self.outcome_unknown {
            return Err(Fault::retry(format!(
                "the last commit of task '{}' has an unknown outcome: it has to open again to learn where it stands",
                self.task
            )));
        }
        let commit = EncodedCommit::new(commit, &self.shared)?;
        let (answer, answered) = oneshot::channel();
        let place = self.jobs.reserve().await.map_err(|_| self.shared.closed())?;
        // From here on it may be written, also when this future is dropped.
        self.outcome_unknown = true;
        place.send(Job::Commit { task: Arc::clone(&self.task), writer: self.writer, commit, answer });
        let outcome = answered.await.unwrap_or_else(|_| Err(self.shared.closed()));
        self.outcome_unknown = match &outcome {
            Ok(_) => false,
            Err(fault) => match fault.kind {
                FaultKind::Retry => true,
                FaultKind::BadRecord
                | FaultKind::Config
                | FaultKind::Refused
                | FaultKind::Fenced
                | FaultKind::Bug => false,
            },
        };
        outcome
    }
}

impl Producer for EmbeddedProducer {
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed> {
        Box::pin(self.commit(commit))
    }
}
