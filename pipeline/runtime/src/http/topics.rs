//! The topics, as downstream systems would read them: what there is, who reads it, the records themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use rollcall_model::log::PollLimit;
use rollcall_model::{Consumer, Fault, Fetched, Partition, Place, Retention, Topic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, App, Refusal};
use crate::read_to_end::has_reached;
use crate::whence::Whence;

/// `GET /topics`: what is there of each partition.
pub(super) async fn list(State(app): State<Arc<App>>) -> Answer {
    let mut topics = Vec::new();
    for topic in Topic::ALL {
        for partition in partitions(&app, *topic) {
            let range = app.log.range(*topic, partition).await?;
            topics.push(json!({
                "name": topic.name(), "partition": partition,
                "start": range.start.offset, "end": range.end.offset,
            }));
        }
    }
    Ok(Json(json!({ "topics": topics })))
}

/// The topic of a name.
fn known(name: &str) -> Result<Topic, Refusal> {
    Topic::by_name(name).ok_or_else(|| {
        let names: Vec<_> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        Refusal::not_found(format!("there is no topic '{name}'; there are {}", names.join(", ")))
    })
}

fn partitions(app: &App, topic: Topic) -> impl ExactSizeIterator<Item = Partition> + use<> {
    (0..if topic.is_partitioned() { app.log.partitions() } else { 1 }).map(Partition)
}

/// `GET /topics/TOPIC`: what it is, what is there, and which tasks read it.
pub(super) async fn describe(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer {
    let topic = known(&name)?;
    let about = topic.about();
    let mut shown = Vec::new();
    let mut ends = BTreeMap::new();
    for partition in partitions(&app, topic) {
        let range = app.log.range(topic, partition).await?;
        ends.insert(partition, range.end.offset);
        shown.push(json!({
            "partition": partition, "start": range.start.offset, "end": range.end.offset,
            "records": range.end.offset - range.start.offset,
        }));
    }
    let mut readers = Vec::new();
    for (task, progress) in app.log.tasks().await? {
        let reads = progress.reads.into_iter().filter(|((of, _), _)| *of == topic);
        let parts: Vec<_> = reads
            .map(|((_, partition), place)| {
                let end = ends.get(&partition).copied().unwrap_or_default();
                (partition, place.offset, end.saturating_sub(place.offset))
            })
            .collect();
        if parts.is_empty() {
            continue;
        }
        let behind: u64 = parts.iter().map(|(_, _, behind)| behind).sum();
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(partition, at, behind)| json!({ "partition": partition, "at": at, "behind": behind }))
            .collect();
        readers.push(json!({ "task": task, "behind": behind, "partitions": parts }));
    }
    let retention = match topic.retention() {
        Retention::Compacted => "compacted",
        Retention::Time => "time",
    };
    Ok(Json(json!({
        "topic": topic.name(), "key": about.key, "holds": about.holds, "public": about.is_public,
        "schema": topic.schema_file(), "retention": retention, "partitions": shown, "readers": readers,
    })))
}

#[derive(Deserialize)]
pub(super) struct TailQuery {
    partition: Option<u16>,
    from: Option<String>,
    follow: Option<bool>,
    limit: Option<u64>,
    /// Only records of this key.
    key: Option<String>,
}

pub(super) async fn tail(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<TailQuery>,
) -> Result<Response, Refusal> {
    let topic = known(&name)?;
    let count = partitions(&app, topic).len();
    if query.partition.is_some_and(|partition| usize::from(partition) >= count) {
        return Err(Refusal::not_found(format!("topic '{name}' has partitions 0 to {}", count - 1)));
    }
    let mut from = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let whence: Whence = query
        .from
        .as_deref()
        .unwrap_or("beginning")
        .parse()
        .map_err(|why: String| Refusal::new(StatusCode::BAD_REQUEST, why))?;
    for partition in partitions(&app, topic).filter(|p| query.partition.is_none_or(|q| q == p.0)) {
        let range = app.log.range(topic, partition).await?;
        let place = whence.place(&*app.log, topic, partition).await?.max(range.start);
        from.insert((topic, partition), place);
        ends.insert((topic, partition), range.end);
    }
    let follow = query.follow.unwrap_or(false);
    let left = query.limit.unwrap_or(u64::MAX);
    let consumer = app.log.consumer(from).await?;
    let state = Tail { consumer, ends, follow, left, key: query.key.map(String::into_bytes) };
    let lines = stream::unfold(state, next_lines);
    let body = Body::from_stream(lines);
    Response::builder()
        .header("content-type", "application/x-ndjson")
        .body(body)
        .map_err(|e| Fault::bug("a response can't be built").from_source(e).into())
}

struct Tail {
    consumer: Box<dyn Consumer>,
    ends: BTreeMap<(Topic, Partition), Place>,
    follow: bool,
    left: u64,
    key: Option<Vec<u8>>,
}

async fn next_lines(mut tail: Tail) -> Option<(Result<Bytes, Fault>, Tail)> {
    let wait = if tail.follow { Duration::from_secs(2) } else { Duration::from_millis(50) };
    let limit = PollLimit { records_max: 1_000, bytes_max: 1 << 20, wait };
    let records = loop {
        if tail.left == 0 || (!tail.follow && has_reached(&*tail.consumer, &tail.ends)) {
            return None;
        }
        match tail.consumer.poll(limit).await {
            Ok(mut records) => {
                records.retain(|fetched| tail.key.as_ref().is_none_or(|key| *key == fetched.record.key));
                // Also nothing is an answer to one who follows: it shows whether anybody still listens.
                if !records.is_empty() || tail.follow {
                    break records;
                }
            }
            Err(fault) => {
                tail.left = 0;
                return Some((Err(fault), tail));
            }
        }
    };
    let mut lines = Vec::new();
    for fetched in records {
        let Fetched { place, record, .. } = fetched;
        if tail.left == 0 {
            break;
        }
        tail.left -= 1;
        let value = record.value.as_deref().map(|value| {
            serde_json::from_slice::<Value>(value).unwrap_or_else(|_| String::from_utf8_lossy(value).into())
        });
        let headers: BTreeMap<_, _> = record.headers.into_iter().collect();
        let line = json!({
            "topic": record.topic.name(), "partition": record.partition, "offset": place.offset,
            "key": String::from_utf8_lossy(&record.key), "value": value, "headers": headers,
        });
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    Some((Ok(Bytes::from(lines)), tail))
}
