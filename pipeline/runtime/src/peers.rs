//! The workers of a log, as they speak to each other: who runs what, and where it is asked.
//!
//! ```text
//! worker ──when its tasks change──▶ progress worker/ID: address, tasks
//! a request for a task that runs elsewhere ──▶ the worker that said last that it runs it
//! ```
//!
//! Only requests go this way: nothing that is exact hangs on what a worker says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use rollcall_model::{Commit, Fault, FaultKind, Log, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

/// Header of a request that comes from another worker: it goes no further.
pub(crate) const FORWARDED: &str = "x-rollcall-forwarded";
/// What the names of their places in the log begin with.
pub(crate) const PREFIX: &str = "worker/";
/// A worker on the same network answers a connect at once or never.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// What a worker may take to say how it is.
const STATUS_WITHIN: Duration = Duration::from_secs(3);
/// What a command may take there.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// What a worker says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Worker {
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    /// What it runs.
    pub(crate) tasks: BTreeSet<String>,
    /// When it said so, by its own clock: of two that name a task, the later one is asked.
    pub(crate) said_us: i64,
}

/// The other workers of a log.
pub(crate) struct Peers {
    log: Arc<dyn Log>,
    id: String,
    http: reqwest::Client,
    token: Option<String>,
    /// What is said is said in its order.
    saying: Mutex<()>,
}

/// What another worker answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Peers {
    pub(crate) fn new(log: Arc<dyn Log>, id: String, token: Option<String>) -> Result<Self, Fault> {
        let http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).no_proxy().build();
        let http = http.map_err(|e| Fault::bug("no HTTP client can be made").from_source(e))?;
        Ok(Self { log, id, http, token, saying: Mutex::default() })
    }

    /// This worker's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Says what this worker runs. That it can't be said stops nothing.
    pub(crate) async fn say(&self, address: SocketAddr, tasks: BTreeSet<String>, said_us: i64) {
        let said = Worker { address, tasks, said_us };
        let name = format!("{PREFIX}{}", self.id);
        let _turn = self.saying.lock().await;
        let saying = async {
            let state =
                serde_json::to_value(&said).map_err(|e| Fault::bug("a worker has no JSON").from_source(e))?;
            let progress = Progress { reads: BTreeMap::new(), state };
            let mut opened = self.log.open(&name).await?;
            opened.producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await
        };
        if let Err(fault) = saying.await {
            tracing::warn!("the other workers don't know what this one runs: {fault}");
        }
    }

    /// The other workers, by id.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn others(&self) -> Result<BTreeMap<String, Worker>, Fault> {
        let tasks = self.log.tasks().await?;
        let workers = tasks.into_iter().filter_map(|(name, progress)| {
            let id = name.strip_prefix(PREFIX)?.to_owned();
            Some((id, serde_json::from_value(progress.state).ok()?))
        });
        Ok(workers.filter(|(id, _)| *id != self.id).collect())
    }

    /// The worker that said last that it runs a task.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn runner(&self, task: &str) -> Result<Option<Worker>, Fault> {
        let others = self.others().await?.into_values().filter(|worker| worker.tasks.contains(task));
        Ok(others.max_by_key(|worker| worker.said_us))
    }

    /// Asks another worker; it answers for itself alone.
    ///
    /// # Errors
    /// A passing fault when it doesn't answer.
    pub(crate) async fn ask(
        &self,
        worker: &Worker,
        method: Method,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<Answered, Fault> {
        let url = format!("http://{}/api/v1{path_and_query}", worker.address);
        let within = if method == Method::GET { STATUS_WITHIN } else { COMMAND_WITHIN };
        let mut request = self.http.request(method, url).timeout(within).header(FORWARDED, &self.id);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let silent = |e: reqwest::Error| {
            Fault::new(FaultKind::Retry, format!("the worker at {} does not answer", worker.address))
                .from_source(e.without_url())
                .repair("see whether it runs; its tasks go to the others once its session is over")
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status().as_u16();
        let body = response.json().await.map_err(silent)?;
        Ok(Answered { status, body })
    }
}
