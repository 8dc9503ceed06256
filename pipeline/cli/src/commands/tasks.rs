//! `pause`, `resume`: orders to single tasks.

use clap::Args;

use serde_json::json;

use super::Asking;
use crate::api::BackfillStarted;
use crate::failure::{Failure, Outcome};

/// Pause a task until it is resumed, over restarts too
#[derive(Debug, Args)]
pub(super) struct Pause {
    /// As `rollcall status` names it, or backfill/SOURCE
    task: String,
}

/// Resume a paused task, or try a failed one again
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// As `rollcall status` names it, or backfill/SOURCE
    task: String,
}

impl Pause {
    /// Orders it.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        steer(asking, &self.task, true).await?;
        done(asking, &format!("{} is paused; to go on: rollcall resume {}", self.task, self.task))
    }
}

impl Resume {
    /// Orders it.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        steer(asking, &self.task, false).await?;
        done(asking, &format!("{} goes on", self.task))
    }
}

/// A backfill runs inside its source's task and is paused without it.
async fn steer(asking: &Asking, task: &str, pause: bool) -> Result<(), Failure> {
    match task.strip_prefix("backfill/") {
        Some(source) => {
            let body = json!({"source": source, "pause": pause});
            asking.client.post::<BackfillStarted>(&["backfill"], &body).await.map(drop)
        }
        None => asking.client.order(&["tasks", task, if pause { "pause" } else { "resume" }]).await,
    }
}

/// Programs read the exit code.
fn done(asking: &Asking, text: &str) -> Result<Outcome, Failure> {
    if !asking.output.json {
        asking.output.line(text)?;
    }
    Ok(Outcome::Done)
}
