//! `POST /preview`: a draft and where it would stand in; whom it matches, and what to know about the numbers, out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use rollcall_model::{
    CountState, EnvironmentDoc, EnvironmentId, Fault, GateMode, Listed, ListedPage, SegmentDoc, SegmentId,
};
use rollcall_platforms::flagsmith::{Draft, RulesFault, read_draft};
use rollcall_roster::Catalog;
use rollcall_rules::CompiledSegment;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::read::{environment, no_mirror};
use super::{Answer, App, Refusal};
use crate::preview::{Preview, has_split};

/// The platform lets an operand have 2 million signs.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// Identities of one answer at most.
const LIMIT_MAX: u32 = 1_000;
/// A preview is given up after this long.
const WITHIN: Duration = Duration::from_secs(600);
/// The key that is hashed where neither segment nor draft has one.
const NO_KEY: &str = "draft";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    /// A segment with `rules`, or the bare list of them.
    rules: Box<RawValue>,
    environment: EnvironmentId,
    segment: Option<SegmentId>,
    key: Option<String>,
    only: Option<Only>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Only {
    Enter,
    Leave,
}

pub(super) async fn preview(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let body = body.map_err(|rejected| Refusal::new(rejected.status(), rejected.body_text()))?;
    let body: PreviewBody = serde_json::from_slice(&body)
        .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, format!("the request can't be read: {e}")))?;
    let unreadable = |fault: RulesFault| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the draft can't be read: {fault}"))
    };
    let draft = read_draft(body.rules.get()).map_err(unreadable)?;
    let catalog = Arc::clone(&app.catalog.borrow());
    let environment = environment(&catalog, &body.environment)?;
    if environment.deleted {
        return Err(Refusal::not_found(format!("environment '{}' is deleted", body.environment)));
    }
    let against = body.segment.as_ref().map(|id| compared(&catalog, id, environment)).transpose()?;
    let mirror = app.mirror.as_ref().ok_or_else(no_mirror)?;
    let permit = app.previews.try_acquire().map_err(|_| {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "as many previews as are allowed at once are under way")
            .repair("wait for one to end, then ask again")
    })?;
    // Before the mirror is read: what it says is no older.
    let mut facts = facts(&app, environment, against);
    let key = key(against, body.key, draft.key.as_ref());
    let board = app.board_of_all(&headers).await?;
    let mut notes = notes(&app, &board, &catalog, environment);
    notes.extend(has_split(&draft.rules).then(|| key.note()));
    let preview = Preview {
        compiled: Arc::new(compile(&key.text, environment, draft)),
        environment,
        against,
        page: ListedPage {
            listed: listed(against.is_some(), body.only)?,
            limit: body.limit.unwrap_or(100).clamp(1, LIMIT_MAX),
            after: body.cursor,
        },
    };
    let found = tokio::time::timeout(WITHIN, preview.run(mirror)).await;
    drop(permit);
    let found = found.map_err(|_| {
        let error = format!("the preview did not end within {} s", WITHIN.as_secs());
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, error)
            .repair("preview in a smaller environment, or with conditions that fewer identities can meet")
    })??;
    let found =
        serde_json::to_value(found).map_err(|e| Fault::bug("a preview has no JSON").from_source(e))?;
    if let (Some(facts), Value::Object(found)) = (facts.as_object_mut(), found) {
        facts.extend(found);
        facts.insert("key".to_owned(), key.text.into());
        facts.insert("notes".to_owned(), notes.into());
    }
    Ok(Json(facts))
}

/// A segment that could have members in an environment.
fn compared<'c>(
    catalog: &'c Catalog,
    id: &SegmentId,
    environment: &EnvironmentDoc,
) -> Result<&'c SegmentDoc, Refusal> {
    let found = catalog.segment(id).filter(|segment| !segment.doc.deleted);
    let found = found.ok_or_else(|| {
        Refusal::not_found(format!("there is no segment '{id}'")).repair("`rollcall counts` lists them")
    })?;
    if found.doc.project_id != environment.project_id {
        let error = format!(
            "segment {id} is of project {}, environment {} of project {}",
            found.doc.project_id, environment.id, environment.project_id
        );
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error)
            .repair("`rollcall counts` shows which segments have which environments"));
    }
    Ok(&found.doc)
}

fn listed(is_compared: bool, only: Option<Only>) -> Result<Listed, Refusal> {
    match (is_compared, only) {
        (false, None) => Ok(Listed::Matching),
        (true, None) => Ok(Listed::Moving),
        (true, Some(Only::Enter)) => Ok(Listed::Entering),
        (true, Some(Only::Leave)) => Ok(Listed::Leaving),
        (false, Some(_)) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "nobody enters or leaves without a segment")
                .repair("name the segment that the draft is compared with"))
        }
    }
}

/// What percentage splits hash beside each identity.
struct SplitKey {
    text: String,
    whose: &'static str,
}

impl SplitKey {
    fn note(&self) -> String {
        format!("percentage splits are taken with the key '{}': {}", self.text, self.whose)
    }
}

fn key(against: Option<&SegmentDoc>, asked: Option<String>, own: Option<&String>) -> SplitKey {
    if let Some(segment) = against {
        return SplitKey { text: segment.id.to_string(), whose: "the segment's own" };
    }
    if let Some(text) = asked.or_else(|| own.cloned()) {
        return SplitKey { text, whose: "the draft's" };
    }
    SplitKey {
        text: NO_KEY.to_owned(),
        whose: "the draft has none, so the share is right but not who is in it; give it the segment's id as \"key\"",
    }
}

fn compile(key: &str, environment: &EnvironmentDoc, draft: Draft) -> CompiledSegment {
    CompiledSegment::compile(&SegmentDoc {
        id: SegmentId::from(key),
        project_id: environment.project_id.clone(),
        name: String::new(),
        rules: draft.rules,
        invalid: None,
        deleted: false,
    })
}

/// Where and as of when.
fn facts(app: &App, environment: &EnvironmentDoc, against: Option<&SegmentDoc>) -> Value {
    let as_of_us = app.counts.as_of_us(&environment.owner, app.log.partitions());
    let segment = against.map(|segment| {
        let (state, reason) = match app.counts.get(&segment.id, &environment.id).map(|shown| shown.state) {
            Some(CountState::Live) => ("live", None),
            Some(CountState::Unsupported { reason }) => ("unsupported", Some(reason)),
            Some(CountState::Removed) => ("removed", None),
            Some(CountState::Filling) | None => ("filling", None),
        };
        json!({ "id": segment.id, "name": segment.name, "state": state, "reason": reason })
    });
    json!({
        "environment": { "id": environment.id, "key": environment.key, "name": environment.name },
        "segment": segment, "as_of_us": as_of_us,
    })
}

/// Why the numbers may not be what would come.
fn notes(
    app: &App,
    board: &BTreeMap<String, Map<String, Value>>,
    catalog: &Catalog,
    environment: &EnvironmentDoc,
) -> Vec<String> {
    let mut notes = Vec::new();
    let organisation = &environment.organisation_id;
    match catalog.gate(organisation) {
        GateMode::On => {}
        GateMode::Off => notes.push(format!(
            "the gate of organisation {organisation} is off: nobody is in any segment until it is on"
        )),
        GateMode::Exclude => notes.push(format!(
            "organisation {organisation} is excluded: its identities are not stored, so nobody matches"
        )),
    }
    if !app.sources.contains_key(environment.owner.as_str()) {
        notes.push(format!(
            "the identities of environment {} are kept by '{}', which is no source of this topology",
            environment.id, environment.owner
        ));
    }
    for name in app.sinks.iter().filter(|(_, lists)| *lists).map(|(name, _)| crate::sink_task::name(name)) {
        let Some(status) = board.get(&name) else { continue };
        if status.get("state") != Some(&"running".into()) {
            notes.push(format!("{name} is not running: what it wrote is looked at, and may be old"));
        } else if status.get("bootstrapping") == Some(&true.into()) {
            notes.push(format!("{name} is still being filled from the log: identities are missing"));
        }
    }
    notes
}
