//! Which tasks run in this worker: all of them, or those that the group of workers says are its own.
//!
//! ```text
//! Workers.next ─▶ tasks that are no longer ours: stopped, waited for ─▶ ours: started ─▶ said to the others ─▶ next
//! ```
//!
//! A task is stopped before its number is let go, so that it rarely runs twice; where it does (a worker that was taken for
//! dead), the log fences the older one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::{Fault, FaultKind, Workers};
use tracing::{info, warn};

use crate::admin::Admin;
use crate::peers::Peers;
use crate::tasks::{TaskBody, Tasks};

/// The log that can't be asked now may be a moment later.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What can run here.
pub(crate) struct Spread {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) bodies: BTreeMap<String, Arc<TaskBody>>,
    pub(crate) admin: Admin,
    pub(crate) peers: Arc<Peers>,
    pub(crate) address: SocketAddr,
}

impl Spread {
    /// Runs everything.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn all(&self) -> Result<(), Fault> {
        let names = self.bodies.keys().cloned().collect();
        self.run_these(&names).await
    }

    /// Runs what the group says, for ever.
    ///
    /// # Errors
    /// A [`Fault`] when this worker can't be a member.
    pub(crate) async fn share(
        &self,
        mut workers: Box<dyn Workers>,
        numbers: &BTreeMap<String, u16>,
        mut joined: impl FnMut(),
    ) -> Result<std::convert::Infallible, Fault> {
        let by_number: BTreeMap<u16, &String> =
            numbers.iter().map(|(name, number)| (*number, name)).collect();
        loop {
            let mine = workers.next().await?;
            // A number that this topology has no task for is a task of a newer one, or of one that is no more.
            let names = mine.iter().filter_map(|number| by_number.get(number)).map(|name| (*name).clone());
            let names: BTreeSet<String> = names.filter(|name| self.bodies.contains_key(name)).collect();
            while let Err(fault) = self.run_these(&names).await {
                if fault.kind != FaultKind::Retry {
                    return Err(fault);
                }
                warn!("tasks wait to be started: {fault}");
                tokio::time::sleep(TRY_AGAIN).await;
            }
            joined();
            let peers = Arc::clone(&self.peers);
            let address = self.address;
            // Not waited for: the group waits for nobody.
            tokio::spawn(async move { peers.say(address, names, crate::clock::now_us()).await });
        }
    }

    async fn run_these(&self, names: &BTreeSet<String>) -> Result<(), Fault> {
        let running: BTreeSet<String> =
            self.bodies.keys().filter(|name| self.tasks.has(name)).cloned().collect();
        let leaving: BTreeSet<String> = running.difference(names).cloned().collect();
        let coming: Vec<&String> = names.difference(&running).collect();
        if !leaving.is_empty() {
            info!(tasks = list(leaving.iter()), "no longer this worker's");
            self.tasks.stop(&leaving).await?;
        }
        if coming.is_empty() {
            return Ok(());
        }
        info!(tasks = list(coming.iter().copied()), "this worker's");
        let paused = self.admin.paused().await?;
        for name in coming {
            if let Some(body) = self.bodies.get(name) {
                self.tasks.start(name, paused.contains(name), Arc::clone(body));
            }
        }
        Ok(())
    }
}

fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}
