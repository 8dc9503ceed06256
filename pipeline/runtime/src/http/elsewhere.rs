//! What is asked of one worker and is another's affair: passed on, or put together from all.
//!
//! A request that was passed on once goes no further, so workers that are wrong about each other answer "nowhere".

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Answer, App, Refusal};
use crate::peers::{Answered, FORWARDED};
use crate::tasks::TaskStatus;

/// How long a task that runs nowhere is waited for: workers are sharing their tasks anew.
const SHARING_WAIT_MAX: Duration = Duration::from_secs(10);
const SHARING_LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a worker says that was taken for the one that runs a task.
const NOT_MINE: StatusCode = StatusCode::MISDIRECTED_REQUEST;

fn nowhere(task: &str, status: StatusCode) -> Refusal {
    Refusal::new(status, format!("{task} runs in no worker right now"))
        .repair("wait until the workers have shared their tasks anew: rollcall status")
}

/// Whether another worker passed this request on.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

impl App {
    /// Asks the worker that runs a task, and waits a while for one that is between two workers; `None` where that is this one, or nobody knows the task: then the handler says
    /// what there is.
    pub(super) async fn elsewhere(
        &self,
        headers: &HeaderMap,
        task: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Json<Value>>, Refusal> {
        let until = Instant::now() + SHARING_WAIT_MAX;
        loop {
            if self.tasks.has(task) || !self.names.contains(task) {
                return Ok(None);
            }
            if is_forwarded(headers) {
                return Err(nowhere(task, NOT_MINE));
            }
            if let Some(worker) = self.peers.runner(task).await? {
                let answered = self.peers.ask(&worker, method.clone(), path, body).await?;
                if answered.status != NOT_MINE.as_u16() {
                    return as_own(answered).map(Some);
                }
            }
            if Instant::now() >= until {
                return Err(nowhere(task, StatusCode::CONFLICT));
            }
            tokio::time::sleep(SHARING_LOOK_EVERY).await;
        }
    }

    /// The first good answer of the other workers.
    pub(super) async fn anywhere(&self, headers: &HeaderMap, path: &str) -> Option<Json<Value>> {
        if is_forwarded(headers) {
            return None;
        }
        for worker in self.peers.others().await.ok()?.into_values().filter(|w| !w.tasks.is_empty()) {
            if let Ok(answered) = self.peers.ask(&worker, Method::GET, path, None).await
                && let Ok(answer) = as_own(answered)
            {
                return Some(answer);
            }
        }
        None
    }

    /// Every task of every worker, by name, as its worker shows it. What each worker has for itself is shown by
    /// this one alone.
    pub(super) async fn board_of_all(
        &self,
        headers: &HeaderMap,
    ) -> Result<BTreeMap<String, Map<String, Value>>, Refusal> {
        let mut all: BTreeMap<String, Map<String, Value>> = self.own_board();
        let missing = |all: &BTreeMap<_, _>| self.names.iter().any(|name| !all.contains_key(name));
        if is_forwarded(headers) || !missing(&all) {
            return Ok(all);
        }
        let mut asking = tokio::task::JoinSet::new();
        for (id, worker) in self.peers.others().await? {
            if !worker.tasks.is_empty() {
                let peers = std::sync::Arc::clone(&self.peers);
                asking.spawn(async move { (id, peers.ask(&worker, Method::GET, "/status", None).await) });
            }
        }
        for (id, answered) in asking.join_all().await {
            let Ok(answered) = answered else { continue };
            let tasks = answered.body.get("tasks").and_then(Value::as_array).cloned().unwrap_or_default();
            for task in tasks {
                let Value::Object(mut task) = task else { continue };
                let Some(name) = task.get("task").and_then(Value::as_str).map(str::to_owned) else {
                    continue;
                };
                if self.names.contains(&name) && !all.contains_key(&name) {
                    task.insert("worker".to_owned(), json!(id));
                    all.insert(name, task);
                }
            }
        }
        for name in &self.names {
            if !all.contains_key(name) {
                let task = json!({ "task": name, "state": "unassigned" });
                if let Value::Object(task) = task {
                    all.insert(name.clone(), task);
                }
            }
        }
        Ok(all)
    }

    fn own_board(&self) -> BTreeMap<String, Map<String, Value>> {
        let shown = |name: &String, status: &TaskStatus| {
            let mut task = Map::from_iter([("task".to_owned(), json!(name))]);
            if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
                task.extend(fields);
            }
            task.insert("worker".to_owned(), json!(self.peers.id()));
            task
        };
        self.tasks
            .board()
            .snapshot()
            .iter()
            .map(|(name, status)| (name.clone(), shown(name, status)))
            .collect()
    }
}

/// Another worker's answer as one's own: what it refused is refused.
fn as_own(answered: Answered) -> Answer {
    if (200..300).contains(&answered.status) {
        return Ok(Json(answered.body));
    }
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let text = |name: &str| answered.body.get(name).and_then(Value::as_str).map(str::to_owned);
    let refusal = Refusal::new(status, text("error").unwrap_or_else(|| "another worker refused".to_owned()));
    Err(match text("repair") {
        Some(repair) => refusal.repair(repair),
        None => refusal,
    })
}
