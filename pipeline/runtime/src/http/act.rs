//! What an operator asks: verify, backfill, fill, pause, replay, apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use rollcall_model::log::PollLimit;
use rollcall_model::{EnvironmentId, Fault, FillReport, IdentityKey, Input, Partition, SegmentId, Topic};
use rollcall_roster::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use super::read::{environment, parked_keys, quarantine_records};
use super::replay::refuse_while_replaying;
use super::{Answer, App, Refusal};
use crate::foreign::own;
use crate::source_task::{BackfillWanted, SourceCommand, SourceTask};
use crate::tasks::TaskState;
use crate::topology::Topology;
use crate::verify::{Verifier, Wanted};

/// An operator's fill is waited for this long.
const FILL_WITHIN: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct VerifyBody {
    segment: Option<SegmentId>,
    environment: Option<EnvironmentId>,
    #[serde(default)]
    repair: bool,
}

pub(super) async fn verify(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(body): Json<VerifyBody>,
) -> Answer {
    let catalog = Arc::clone(&app.catalog.borrow());
    let environment_id = known(&catalog, body.segment.as_ref(), body.environment.as_ref())?;
    refuse_while_filling(&app, &headers).await?;
    refuse_while_replaying(&app).await?;
    let verifier = Verifier { log: &app.log, admin: &app.admin, catalog, sinks: app.sinks.clone() };
    let wanted = Wanted { segment_id: body.segment, environment_id, repair: body.repair };
    let mut verdict = verifier.run(&wanted).await?;
    let parked: BTreeSet<_> = parked_keys(&app).await?;
    verdict.parked = parked.iter().map(ToString::to_string).collect();
    Ok(Json(serde_json::to_value(verdict).map_err(|e| Fault::bug("a verdict has no JSON").from_source(e))?))
}

/// A sink that is being filled for the first time, or anew, reads no checks yet: it would only be waited for in vain.
async fn refuse_while_filling(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let board = app.board_of_all(headers).await?;
    let filling = app.sinks.iter().map(|(name, _)| name).find(|name| {
        let status = board.get(&crate::sink_task::name(name));
        status.is_some_and(|s| {
            s.get("state") == Some(&"running".into()) && s.get("bootstrapping") == Some(&true.into())
        })
    });
    match filling {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("sink {name} is still being filled from the log: there is nothing to compare yet"),
        )
        .repair("wait until `rollcall status` no longer shows it behind, then verify again")),
    }
}

/// The id of an environment given by id or by api key. A name that nobody has is refused: nothing at all is always
/// equal.
fn known(
    catalog: &Catalog,
    segment: Option<&SegmentId>,
    name: Option<&EnvironmentId>,
) -> Result<Option<EnvironmentId>, Refusal> {
    if let Some(id) = segment.filter(|id| catalog.segment(id).is_none()) {
        return Err(Refusal::not_found(format!("there is no segment '{id}'")));
    }
    name.map(|name| environment(catalog, name).map(|found| found.id.clone())).transpose()
}

#[derive(Deserialize, Serialize)]
pub(super) struct BackfillBody {
    source: String,
    pause: Option<bool>,
    #[serde(flatten)]
    wanted: BackfillWanted,
}

pub(super) async fn backfill(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(body): Json<BackfillBody>,
) -> Answer {
    let Some(commands) = app.sources.get(&body.source) else {
        let names: Vec<_> = app.sources.keys().cloned().collect();
        return Err(Refusal::not_found(format!(
            "there is no source '{}'; there are {}",
            body.source,
            names.join(", ")
        )));
    };
    let task = crate::source_task::name(&body.source);
    let passed_on = json!(body);
    if let Some(answer) = app.elsewhere(&headers, &task, Method::POST, "/backfill", Some(&passed_on)).await? {
        return Ok(answer);
    }
    let failed =
        app.tasks.board().snapshot().get(&task).is_some_and(|status| status.state == TaskState::Failed);
    // What has a stream in shards never fails for want of a backfill: its readers do, and wait for it.
    let in_rows = !app.names.contains(&crate::reader_task::name(&body.source, 0));
    if failed && body.pause.is_none() && in_rows {
        let id = SourceTask::begin_anew(&app.log, &body.source).await?;
        app.tasks.wish(&task, false).map_err(|_| Refusal::not_found(format!("there is no task '{task}'")))?;
        return Ok(Json(json!({ "id": id })));
    }
    let (answer, said) = oneshot::channel();
    let command = match body.pause {
        None => SourceCommand::Backfill(body.wanted.clone(), answer),
        Some(pause) => SourceCommand::PauseBackfill(pause, answer),
    };
    let gone = || {
        Refusal::new(StatusCode::CONFLICT, format!("source '{}' is not running", body.source))
            .repair(format!("`rollcall status` says why; `rollcall resume source/{}`", body.source))
    };
    commands.try_send(command).map_err(|_| gone())?;
    let said = tokio::time::timeout(Duration::from_secs(30), said).await;
    match said {
        Ok(Ok(Ok(id))) => Ok(Json(json!({ "id": id }))),
        Ok(Ok(Err(fault))) => Err(fault.into()),
        Ok(Err(_)) | Err(_) => Err(gone()),
    }
}

#[derive(Deserialize)]
pub(super) struct FillBody {
    segment: Option<SegmentId>,
    environment: Option<EnvironmentId>,
}

pub(super) async fn fill(State(app): State<Arc<App>>, Json(body): Json<FillBody>) -> Answer {
    let catalog = Arc::clone(&app.catalog.borrow());
    let environment_id = known(&catalog, body.segment.as_ref(), body.environment.as_ref())?;
    let at = (Topic::Checks, Partition(0));
    let end = app.log.range(at.0, at.1).await?.end;
    let mut consumer = app.log.consumer(BTreeMap::from([(at, end)])).await?;
    let asked = |id: String| Input::Fill {
        id,
        segment_id: body.segment.clone(),
        environment_id: environment_id.clone(),
    };
    let id = app.admin.ask("fill", asked).await?;
    let deadline = tokio::time::Instant::now() + FILL_WITHIN;
    let prefix = format!("{id}/fill/");
    let mut reports: BTreeMap<Partition, FillReport> = BTreeMap::new();
    let limit = PollLimit { records_max: 1_000, bytes_max: 1 << 20, wait: Duration::from_millis(500) };
    while reports.len() < usize::from(app.log.partitions()) {
        if tokio::time::Instant::now() > deadline {
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, format!("{id} is still under way"))
                .repair("`rollcall status` shows it"));
        }
        for fetched in own(consumer.poll(limit).await?) {
            let own = fetched.record.key.starts_with(prefix.as_bytes());
            if let Some(value) = fetched.record.value.filter(|_| own) {
                let report: FillReport = serde_json::from_slice(&value)
                    .map_err(|e| Fault::bug("a fill report can't be read").from_source(e))?;
                reports.insert(report.partition, report);
            }
        }
    }
    let sum = |of: fn(&FillReport) -> u64| reports.values().map(of).sum::<u64>();
    Ok(Json(json!({ "id": id, "differed": sum(|r| r.differed), "identities": sum(|r| r.identities) })))
}

/// `POST /tasks/<task>/pause` and `/resume`; a task's name may hold a slash.
pub(super) async fn task(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Answer {
    let (name, pause) = match path.rsplit_once('/') {
        Some((name, "pause")) => (name, true),
        Some((name, "resume")) => (name, false),
        Some(_) | None => return Err(Refusal::not_found("a task can be asked to pause or to resume")),
    };
    let path = format!("/tasks/{path}");
    if let Some(answer) = app.elsewhere(&headers, name, Method::POST, &path, None).await? {
        return Ok(answer);
    }
    app.tasks.wish(name, pause).map_err(|_| {
        let names: Vec<_> = app.names.iter().map(String::as_str).collect();
        Refusal::not_found(format!("there is no task '{name}'; there are {}", names.join(", ")))
    })?;
    app.admin.remember_pause(name, pause).await?;
    Ok(Json(json!({ "task": name, "paused": pause })))
}

#[derive(Deserialize)]
pub(super) struct ReplayBody {
    key: Option<String>,
}

pub(super) async fn replay(State(app): State<Arc<App>>, Json(body): Json<ReplayBody>) -> Answer {
    let wanted = body.key.as_deref().map(|text| {
        IdentityKey::parse(text)
            .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, format!("'{text}' is not SOURCE/ID")))
    });
    let wanted = wanted.transpose()?;
    let mut waiting = BTreeSet::new();
    let mut replayed = 0;
    for (_, _, record) in quarantine_records(&app).await? {
        let key = record.key.filter(|key| record.parks && wanted.as_ref().is_none_or(|wanted| wanted == key));
        if let Some(key) = key {
            replayed += 1;
            waiting.insert(key);
        }
    }
    if let (true, Some(key)) = (waiting.is_empty(), wanted) {
        return Err(Refusal::not_found(format!("nothing of {key} waits in quarantine")));
    }
    let partitions = app.log.partitions();
    let inputs = waiting.into_iter().map(|key| (key.partition(partitions), Input::Replay { key })).collect();
    app.admin.tell(inputs).await?;
    Ok(Json(json!({ "replayed": replayed })))
}

#[derive(Deserialize)]
pub(super) struct ApplyBody {
    topology: String,
    #[serde(default)]
    plan: bool,
}

pub(super) async fn apply(State(app): State<Arc<App>>, Json(body): Json<ApplyBody>) -> Answer {
    let topology = Topology::parse(&body.topology, &app.env).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Refusal::new(StatusCode::BAD_REQUEST, lines.join("\n"))
    })?;
    let differences = app.admin.plan(&topology).await?;
    if !body.plan {
        app.admin.apply(&topology).await?;
    }
    Ok(Json(json!({ "differences": differences })))
}
