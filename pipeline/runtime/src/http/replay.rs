//! `POST /replay/SINK` sends a sink back in the log, `GET` says how far it is.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use rollcall_model::{Fault, Partition, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, App, Refusal};
use crate::replay::{self, Wanted};
use crate::whence::Whence;

/// A paused task has let go of its place in the log by then.
const LET_GO: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
pub(super) struct ReplayBody {
    from: Whence,
    partitions: Option<BTreeSet<Partition>>,
    topic: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    plan: bool,
}

/// Answers what will be done, and how far it is where it is under way already.
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(sink): Path<String>,
    Json(body): Json<ReplayBody>,
) -> Answer {
    known(&app, &sink)?;
    if app.lakes.contains(&sink) {
        let why = format!(
            "sink {sink} is a lake: it lists every commit once, and what is listed isn't written again"
        );
        return Err(Refusal::new(StatusCode::CONFLICT, why).repair(format!(
            "`rollcall lake verify` says whether something is missing; `rollcall rebuild {sink}` begins it anew"
        )));
    }
    let wanted = wanted(&body)?;
    let same = |replay: &replay::Replay| replay.wanted == wanted;
    let is_underway = replay::underway(&*app.log).await?.get(&sink).is_some_and(|(replay, _)| same(replay));
    if is_underway && !body.plan {
        return progress(State(app), headers, Path(sink)).await;
    }
    let stretches = replay::plan(&app.log, &sink, &wanted).await?;
    let plan = replay::planned(&*app.log, &stretches).await?;
    if !body.plan && !stretches.is_empty() {
        let task = crate::sink_task::name(&sink);
        let given = serde_json::to_value(&body)
            .map_err(|e| Fault::bug("a wish for a replay has no JSON").from_source(e))?;
        let path = format!("/replay/{sink}");
        if let Some(answer) = app.elsewhere(&headers, &task, Method::POST, &path, Some(&given)).await? {
            return Ok(answer);
        }
        // Where the sink stands by then is asked anew.
        with_stopped(&app, &sink, replay::begin(&app.log, &sink, &wanted)).await?;
    }
    let mut answer = progress(State(app), headers, Path(sink)).await?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("plan".to_owned(), json!(plan));
    }
    Ok(answer)
}

/// The replay under way: what the sink's progress says, whichever worker runs it.
pub(super) async fn progress(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(sink): Path<String>,
) -> Answer {
    known(&app, &sink)?;
    let underway = replay::underway(&*app.log).await?.remove(&sink);
    let replay = underway.map(|(replay, reads)| {
        json!({ "number": replay.number, "from": replay.wanted.from, "partitions": replay.shown(&reads) })
    });
    let task = crate::sink_task::name(&sink);
    let status = app.board_of_all(&headers).await?.remove(&task);
    let field = |name: &str| status.as_ref().and_then(|status| status.get(name)).cloned();
    let paused = app.admin.paused().await?.contains(&task);
    Ok(Json(json!({
        "sink": sink, "replay": replay, "paused": paused,
        "state": field("state"), "error": field("error"), "repair": field("repair"),
    })))
}

/// Lets a stopped task go on, also when whoever asked hangs up before it is done.
struct Stopped<'a> {
    app: &'a App,
    name: String,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // The name was known when it was stopped.
        let _known = self.app.tasks.wish(&self.name, false);
    }
}

/// Does something to a sink's progress while its task stands still. One that an operator paused stays so.
pub(super) async fn with_stopped<T>(
    app: &App,
    sink: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Refusal> {
    let name = crate::sink_task::name(sink);
    if app.admin.paused().await?.contains(&name) {
        return Ok(work.await?);
    }
    app.tasks.wish(&name, true).map_err(|names| unknown(sink, &names))?;
    let stopped = Stopped { app, name };
    // Whoever does it opens the task's place in the log: should it still be at work, it is fenced.
    tokio::time::sleep(LET_GO).await;
    let done = work.await;
    drop(stopped);
    Ok(done?)
}

fn unknown(sink: &str, tasks: &[String]) -> Refusal {
    let names: Vec<_> = tasks.iter().filter_map(|name| name.strip_prefix("sink/")).collect();
    Refusal::not_found(format!("there is no sink '{sink}'; there are {}", names.join(", ")))
}

/// Refuses a sink that there isn't, naming those there are.
pub(super) fn known(app: &App, sink: &str) -> Result<(), Refusal> {
    let mut names = app.sinks.iter().map(|(name, _)| name).chain(&app.lakes);
    if names.any(|name| name == sink) {
        return Ok(());
    }
    let names = app.sinks.iter().map(|(name, _)| name).chain(&app.lakes);
    let tasks: Vec<_> = names.map(|name| crate::sink_task::name(name)).collect();
    Err(unknown(sink, &tasks))
}

fn wanted(body: &ReplayBody) -> Result<Wanted, Refusal> {
    if body.from == Whence::End {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "nothing is replayed from the end"));
    }
    let topic = body.topic.as_deref().map(|name| {
        Topic::by_name(name).ok_or_else(|| Refusal::not_found(format!("there is no topic '{name}'")))
    });
    Ok(Wanted { from: body.from, partitions: body.partitions.clone(), topic: topic.transpose()? })
}

/// Checks pass a sink by while it is sent back: it would only be waited for in vain.
pub(super) async fn refuse_while_replaying(app: &App) -> Result<(), Refusal> {
    let underway = replay::underway(&*app.log).await?;
    match underway.keys().next() {
        None => Ok(()),
        Some(sink) => Err(Refusal::new(
            StatusCode::CONFLICT,
            format!(
                "sink {sink} is replaying: until it has caught up again its tables are compared with nothing"
            ),
        )
        .repair(format!("`rollcall replay {sink} --resume` waits for its end; then verify again"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_none_is_no_body() {
        let read = |text: &str| serde_json::from_str::<ReplayBody>(text);
        assert!(read(r#"{"from": "beginning"}"#).is_ok());
        assert!(
            read(r#"{"from": "2026-11-27T10:00:00Z", "partitions": [0, 3], "topic": "identities"}"#).is_ok()
        );
        assert!(read(r#"{"from": "yesterday"}"#).is_err());
        assert!(read(r#"{}"#).is_err());
    }
}
