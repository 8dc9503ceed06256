//! What is: status, counts, members, explanations, quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use rollcall_model::{
    CountState, EnvironmentId, Fault, Fetched, IdentityKey, NativeId, Partition, QuarantineRecord, SegmentId,
    SourceName, Topic,
};
use rollcall_roster::{Catalog, Store, Stored};
use rollcall_rules::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, App, Refusal};
use crate::clock::now_us;
use crate::read_to_end::read_all;
use crate::roster_store::PartitionStore;
use crate::wiring::MembersRequest;

/// Members of one answer at most.
const MEMBERS_LIMIT_MAX: u32 = 1_000;

pub(super) async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let board = app.board_of_all(&headers).await?;
    let mut sources = Vec::new();
    let mut tasks = Vec::new();
    let now_us = now_us();
    for (name, mut task) in board.clone() {
        // A reader of a stream in shards is a part of its source.
        if let Some(source) = name.strip_prefix("source/").filter(|source| !source.contains('/')) {
            let as_of_us = app.counts.as_of_us(&SourceName::from(source), app.log.partitions());
            if let Some(as_of_us) = as_of_us {
                task.insert("lag_seconds".to_owned(), json!(((now_us - as_of_us).max(0) as f64) / 1e6));
            }
            let backfill = task.get("backfill").cloned().unwrap_or(Value::Null);
            let done = task.get("backfill_done").cloned().unwrap_or(Value::Null);
            let missing = task.get("missing").cloned().unwrap_or(Value::Null);
            sources.push(json!({
                "name": source, "as_of_us": as_of_us, "backfill": backfill, "backfill_done": done,
                "missing": missing,
            }));
        }
        tasks.push(task);
    }
    let fills: Vec<_> = board
        .iter()
        .filter_map(|(name, task)| {
            let partition: u16 = name.strip_prefix("roster/")?.parse().ok()?;
            let jobs = task.get("fills")?.as_u64().filter(|jobs| *jobs > 0)?;
            Some(json!({ "partition": partition, "jobs": jobs }))
        })
        .collect();
    let parked = parked_keys(&app).await?.len();
    Ok(Json(json!({
        "log_id": app.log.id(), "partitions": app.log.partitions(), "tasks": tasks, "sources": sources,
        "fills": fills, "parked": parked,
    })))
}

/// The identities with a change in quarantine.
pub(super) async fn parked_keys(app: &App) -> Result<BTreeSet<IdentityKey>, Fault> {
    let records = quarantine_records(app).await?;
    Ok(records.into_iter().filter(|(_, _, r)| r.parks).filter_map(|(_, _, r)| r.key).collect())
}

#[derive(Deserialize)]
pub(super) struct Pair {
    segment: Option<SegmentId>,
    environment: Option<EnvironmentId>,
}

pub(super) async fn counts(State(app): State<Arc<App>>, Query(pair): Query<Pair>) -> Answer {
    let catalog = Arc::clone(&app.catalog.borrow());
    let mut counts = Vec::new();
    let mut owners = BTreeSet::new();
    for (segment_id, environment_id, environment_key) in crate::admin::judged_pairs(&catalog) {
        let wanted = pair.segment.as_ref().is_none_or(|s| *s == segment_id)
            && pair
                .environment
                .as_ref()
                .is_none_or(|e| e.as_str() == environment_key || *e == environment_id);
        let Some(segment) = catalog.segment(&segment_id).filter(|_| wanted) else { continue };
        if let Some(environment) = catalog.environment(&environment_id) {
            owners.insert(environment.owner.clone());
        }
        let shown = app.counts.get(&segment_id, &environment_id);
        let (count, state, reason) = match shown {
            None => (Some(0), "filling", None),
            Some(shown) => match shown.state {
                CountState::Live => (Some(shown.count), "live", None),
                CountState::Filling => (Some(shown.count), "filling", None),
                CountState::Unsupported { reason } => (None, "unsupported", Some(reason)),
                CountState::Removed => continue,
            },
        };
        counts.push(json!({
            "segment_id": segment_id, "segment_name": segment.doc.name, "environment_id": environment_id,
            "environment_key": environment_key, "count": count, "state": state, "reason": reason,
        }));
    }
    let as_of: Option<Vec<_>> = owners.iter().map(|o| app.counts.as_of_us(o, app.log.partitions())).collect();
    Ok(Json(json!({ "as_of_us": as_of.and_then(|all| all.into_iter().min()), "counts": counts })))
}

#[derive(Deserialize)]
pub(super) struct MembersQuery {
    segment: SegmentId,
    environment: EnvironmentId,
    query: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What is asked takes a sink that keeps identities in columns.
pub(super) fn no_mirror() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "no sink of this topology can list members")
        .repair("add a sink of type clickhouse to topology.yaml")
}

/// An environment by its id or its api key.
pub(super) fn environment<'c>(
    catalog: &'c Catalog,
    name: &EnvironmentId,
) -> Result<&'c rollcall_model::EnvironmentDoc, Refusal> {
    let found = catalog.environment(name).or_else(|| catalog.environments().find(|e| e.key == name.as_str()));
    found.ok_or_else(|| {
        Refusal::not_found(format!("there is no environment '{name}'")).repair("`rollcall counts` lists them")
    })
}

pub(super) async fn members(State(app): State<Arc<App>>, Query(query): Query<MembersQuery>) -> Answer {
    let catalog = Arc::clone(&app.catalog.borrow());
    let environment = environment(&catalog, &query.environment)?;
    if catalog.segment(&query.segment).is_none() {
        return Err(Refusal::not_found(format!("there is no segment '{}'", query.segment)));
    }
    let list = app.members.as_ref().ok_or_else(no_mirror)?;
    let request = MembersRequest {
        segment_id: query.segment,
        environment_id: environment.id.clone(),
        environment_key: environment.key.clone(),
        query: query.query,
        limit: query.limit.unwrap_or(100).clamp(1, MEMBERS_LIMIT_MAX),
        cursor: query.cursor,
    };
    let mut answer = list(request).await?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("source".to_owned(), environment.owner.as_str().into());
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
pub(super) struct ExplainQuery {
    segment: SegmentId,
    environment: EnvironmentId,
    identity: String,
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
    Query(query): Query<ExplainQuery>,
) -> Answer {
    let catalog = Arc::clone(&app.catalog.borrow());
    let environment = environment(&catalog, &query.environment)?;
    let Some(segment) = catalog.segment(&query.segment) else {
        return Err(Refusal::not_found(format!("there is no segment '{}'", query.segment)));
    };
    let (stores, log, identity) = (app.stores.clone(), Arc::clone(&app.log), query.identity.clone());
    let here = |partition: &Partition| app.tasks.has(&crate::roster_task::name(*partition));
    let here: Vec<Partition> = (0..log.partitions()).map(Partition).filter(here).collect();
    let (environment_id, owner) = (environment.id.clone(), environment.owner.clone());
    let known = Arc::clone(&catalog);
    let found = tokio::task::spawn_blocking(move || {
        find_identity(&stores, &here, log.partitions(), &known, (&owner, &environment_id), &identity)
    });
    let found =
        found.await.map_err(|e| Fault::bug("the search for an identity broke off").from_source(e))??;
    let Some(stored) = found else {
        let path = format!("/explain?{}", uri.query().unwrap_or_default());
        if let Some(answer) = app.anywhere(&headers, &path).await {
            return Ok(answer);
        }
        return Err(Refusal::not_found(format!(
            "there is no identity '{}' in environment {}, neither by identifier nor by id",
            query.identity, environment.id
        )));
    };
    let Some(image) = stored.image() else {
        return Err(Refusal::not_found(format!("identity '{}' is deleted", query.identity)));
    };
    let key = stored.identity_key.clone().unwrap_or_else(|| stored.key.id.to_string());
    let context = Context {
        environment_key: &environment.key,
        environment_name: &environment.name,
        identifier: &image.identifier,
        identity_key: &key,
        traits: &image.traits,
        system_traits: &image.system_traits,
        tree: None,
    };
    let member = stored.members.iter().any(|member| member.segment_id == query.segment);
    Ok(Json(json!({
        "member": member,
        "unsupported": segment.compiled.unsupported(),
        "identity": { "id": stored.key.id, "identifier": image.identifier, "identity_key": key },
        "parked": !stored.parked.is_empty(),
        "judged": segment.compiled.explain(&context),
    })))
}

/// By native id at once, by identifier in a walk over the stores of the partitions that are judged here: those of others
/// may be old.
fn find_identity(
    stores: &crate::roster_store::RosterStores,
    here: &[Partition],
    partitions: u16,
    catalog: &Catalog,
    (owner, environment): (&SourceName, &EnvironmentId),
    identity: &str,
) -> Result<Option<Stored>, Fault> {
    let numbered = identity.parse::<i64>().ok().map(NativeId::Int);
    for id in numbered.into_iter().chain([NativeId::Text(identity.into())]) {
        let key = IdentityKey { source: owner.clone(), id };
        let partition = key.partition(partitions);
        let store = PartitionStore::view(stores.clone(), partition);
        let stored = if here.contains(&partition) { store.get(&key.sort_bytes())? } else { None };
        if stored.as_ref().is_some_and(|stored| stored.lives_in(catalog, environment)) {
            return Ok(stored);
        }
    }
    for partition in here {
        let store = PartitionStore::view(stores.clone(), *partition);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = store.scan(after.as_deref(), 1_000)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            let found = rows.into_iter().find(|(_, stored)| {
                stored.key.source == *owner
                    && stored.lives_in(catalog, environment)
                    && stored.image().is_some_and(|image| image.identifier == identity)
            });
            if let Some((_, stored)) = found {
                return Ok(Some(stored));
            }
        }
    }
    Ok(None)
}

pub(super) async fn backfills(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let board = app.board_of_all(&headers).await?;
    let of = |name: &String| board.get(&format!("source/{name}")).and_then(|s| s.get("backfill").cloned());
    let backfills: Vec<_> =
        app.sources.keys().map(|name| json!({ "source": name, "backfill": of(name) })).collect();
    Ok(Json(json!({ "backfills": backfills })))
}

/// What is in quarantine now, with its place there.
pub(super) async fn quarantine_records(app: &App) -> Result<Vec<(Partition, u64, QuarantineRecord)>, Fault> {
    let mut records = Vec::new();
    let partitions = (0..app.log.partitions()).map(Partition);
    let mut newest = BTreeMap::new();
    for fetched in read_all(&app.log, Topic::Quarantine, partitions).await? {
        let Fetched { place, record, .. } = fetched;
        newest.insert((record.partition, record.key), (place.offset, record.value));
    }
    for ((partition, _), (offset, value)) in newest {
        let Some(value) = value else { continue };
        let record = serde_json::from_slice(&value)
            .map_err(|e| Fault::bad_record(format!("quarantine/{partition} at {offset}")).from_source(e))?;
        records.push((partition, offset, record));
    }
    Ok(records)
}

#[derive(Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

pub(super) async fn quarantine(State(app): State<Arc<App>>, Query(query): Query<Limit>) -> Answer {
    let records = quarantine_records(&app).await?;
    let shown = records.iter().take(query.limit.unwrap_or(100)).map(|(partition, offset, record)| {
        json!({
            "partition": partition, "offset": offset, "key": record.key.as_ref().map(ToString::to_string),
            "reason": record.reason, "origin": record.origin, "position": record.position,
        })
    });
    Ok(Json(json!({ "records": shown.collect::<Vec<_>>(), "total": records.len() })))
}

pub(super) async fn quarantined(
    State(app): State<Arc<App>>,
    Path((partition, offset)): Path<(u16, u64)>,
) -> Answer {
    let records = quarantine_records(&app).await?;
    let found = records.into_iter().find(|(p, o, _)| *p == Partition(partition) && *o == offset);
    let (_, _, record) = found
        .ok_or_else(|| Refusal::not_found(format!("nothing is in quarantine at {partition}/{offset}")))?;
    Ok(Json(serde_json::to_value(record).map_err(|e| Fault::bug("a record has no JSON").from_source(e))?))
}
