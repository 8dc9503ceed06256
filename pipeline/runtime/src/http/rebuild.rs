//! `POST /rebuild/SINK` and `/rebuild/store`: emptied and filled anew, from the log or from a lake.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use rollcall_model::archive::Archived;
use rollcall_model::{Partition, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::replay::{known as known_sink, with_stopped};
use super::{Answer, App, Refusal};
use crate::archives::goes_on;
use crate::sink_task::SinkTask;
use crate::{bootstrap, roster_task, sink_task, store_rebuild};

/// The rosters' stores, where a sink is named otherwise.
const STORE: &str = "store";

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RebuildBody {
    /// A lake; the log alone without one.
    #[serde(default)]
    from: Option<String>,
    /// Of the store: these partitions alone.
    #[serde(default)]
    partitions: Option<BTreeSet<Partition>>,
    /// Only say what would be done.
    #[serde(default)]
    plan: bool,
}

/// What is read of a partition of a topic.
#[derive(Serialize)]
struct Planned {
    topic: &'static str,
    partition: Partition,
    /// Of the lake.
    files: u32,
    rows: u64,
    bytes: u64,
    /// The last commit that it holds.
    covered_seq: u64,
    /// Where the log goes on.
    log_from: u64,
    /// Up to where it is read then, counted in offsets.
    log_until: u64,
}

pub(super) async fn rebuild(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(what): Path<String>,
    body: Option<Json<RebuildBody>>,
) -> Answer {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    match what.as_str() {
        STORE => store(&app, &headers, &body).await,
        sink => self::sink(&app, &headers, sink, &body).await,
    }
}

async fn sink(app: &App, headers: &HeaderMap, sink: &str, body: &RebuildBody) -> Answer {
    let name = sink_task::name(sink);
    known_sink(app, sink)?;
    if body.from.is_some() && app.lakes.contains(sink) {
        let why = format!("sink {sink} is a lake: it is begun anew from the log, not from a lake");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
    }
    if body.partitions.is_some() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "a sink is rebuilt whole, not by partition"));
    }
    let plan = match &body.from {
        Some(archive) => {
            let reader = app.archives.open(&*app.log, archive, None).await?;
            let topics = topics_of(app, sink).await?;
            let parts = bootstrap::parts(reader.holds(), &topics).into_iter().copied().collect::<Vec<_>>();
            Some(planned(app, archive, &parts).await?)
        }
        None => None,
    };
    if body.plan {
        return Ok(Json(json!({ "sink": sink, "plan": plan })));
    }
    let path = format!("/rebuild/{sink}");
    if let Some(answer) = app.elsewhere(headers, &name, Method::POST, &path, Some(&json!(body))).await? {
        return Ok(answer);
    }
    with_stopped(app, sink, SinkTask::ask_reset(&app.log, sink, body.from.clone())).await?;
    // Paused or not: it is to be filled.
    if app.admin.paused().await?.contains(&name) {
        app.admin.remember_pause(&name, false).await?;
        app.tasks.wish(&name, false).map_err(|_| Refusal::not_found(format!("there is no task '{name}'")))?;
    }
    Ok(Json(json!({ "sink": sink, "rebuilding": true, "plan": plan })))
}

/// What a sink reads, as its progress says.
async fn topics_of(app: &App, sink: &str) -> Result<Vec<Topic>, Refusal> {
    let progress = app.log.tasks().await?.remove(&sink_task::name(sink));
    let topics: BTreeSet<Topic> = progress
        .into_iter()
        .flat_map(|progress| progress.reads.into_keys())
        .map(|(topic, _)| topic)
        .collect();
    if !topics.is_empty() {
        return Ok(topics.into_iter().collect());
    }
    // It has never begun: then what it is says what it reads.
    let lists = app.sinks.iter().any(|(name, lists)| name == sink && *lists);
    Ok(if lists { vec![Topic::Identities, Topic::MembershipChanges] } else { vec![Topic::SegmentCounts] })
}

async fn store(app: &App, headers: &HeaderMap, body: &RebuildBody) -> Answer {
    let all: BTreeSet<Partition> = (0..app.log.partitions()).map(Partition).collect();
    let partitions = body.partitions.clone().unwrap_or_else(|| all.clone());
    if let Some(unknown) = partitions.difference(&all).next() {
        let error = format!("there is no partition {unknown}; there are {}", app.log.partitions());
        return Err(Refusal::not_found(error));
    }
    let mut plan: Option<Vec<Planned>> = None;
    if let Some(archive) = &body.from {
        let reader = app.archives.open(&*app.log, archive, None).await?;
        for partition in &partitions {
            let parts = store_rebuild::parts(reader.holds(), *partition);
            plan.get_or_insert_default().extend(planned(app, archive, &parts).await?);
        }
    }
    if body.plan {
        return Ok(Json(json!({ "store": true, "plan": plan })));
    }
    let paused = app.admin.paused().await?;
    for partition in partitions {
        let name = roster_task::name(partition);
        let own = RebuildBody { partitions: Some(BTreeSet::from([partition])), ..body.clone() };
        let passed_on =
            app.elsewhere(headers, &name, Method::POST, "/rebuild/store", Some(&json!(own))).await?;
        if passed_on.is_some() {
            continue;
        }
        app.stores.order_rebuild(partition, body.from.clone())?;
        // It says so from here on, and takes it back when it is done.
        app.tasks.fact(&name, "rebuild", json!({ "from": body.from, "read": 0, "total": 0 }));
        // The task finds the order when it starts: now, or when it is resumed.
        if !paused.contains(&name) {
            let gone = |_| Refusal::not_found(format!("there is no task '{name}'"));
            app.tasks.wish(&name, false).map_err(gone)?;
        }
    }
    Ok(Json(json!({ "store": true, "rebuilding": true, "plan": plan })))
}

async fn planned(app: &App, archive: &str, parts: &[Archived]) -> Result<Vec<Planned>, Refusal> {
    let mut planned = Vec::new();
    let places = goes_on(&*app.log, archive, parts, app.tombstone_retention).await?;
    for (part, from) in
        parts.iter().filter_map(|part| Some((part, places.get(&(part.topic, part.partition))?)))
    {
        let until = app.log.range(part.topic, part.partition).await?.end;
        planned.push(Planned {
            topic: part.topic.name(),
            partition: part.partition,
            files: part.files,
            rows: part.rows,
            bytes: part.bytes,
            covered_seq: part.covered.seq.0,
            log_from: from.offset,
            log_until: until.offset,
        });
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_taken_for_nothing() {
        let read = |text: &str| serde_json::from_str::<RebuildBody>(text);
        assert!(read("{}").is_ok());
        assert!(read(r#"{"from": "lake", "partitions": [0], "plan": true}"#).is_ok());
        assert!(read(r#"{"form": "lake"}"#).is_err());
    }
}
