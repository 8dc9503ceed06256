//! The HTTP side of a worker: health, metrics and the API under `/api/v1` that the command line speaks.
//!
//! `read` answers what is, `preview` what a draft would change, `act`, `rebuild` and `replay` do what an operator asks. Everything but health and metrics wants the bearer token
//! where one is set, since it shows personal data.

mod act;
mod elsewhere;
mod preview;
mod read;
mod rebuild;
mod replay;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use rollcall_model::{Fault, FaultKind, Log};
use rollcall_roster::Catalog;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::admin::Admin;
use crate::archives::Archives;
use crate::counts_feed::CountsBoard;
use crate::peers::Peers;
use crate::roster_store::RosterStores;
use crate::source_task::SourceCommand;
use crate::tasks::{TaskState, Tasks};
use crate::wiring::{ListMembers, Mirror};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) tasks: Arc<Tasks>,
    /// Whether this worker knows what it runs.
    pub(crate) joined: AtomicBool,
    /// Every task that workers share, wherever it runs.
    pub(crate) names: BTreeSet<String>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) counts: CountsBoard,
    pub(crate) stores: RosterStores,
    pub(crate) archives: Archives,
    pub(crate) tombstone_retention: Duration,
    pub(crate) admin: Admin,
    pub(crate) sources: BTreeMap<String, mpsc::Sender<SourceCommand>>,
    /// The sinks that answer checks, and whether they list members.
    pub(crate) sinks: Vec<(String, bool)>,
    /// The sinks that are archives.
    pub(crate) lakes: BTreeSet<String>,
    pub(crate) members: Option<ListMembers>,
    pub(crate) mirror: Option<Mirror>,
    /// One permit per preview under way.
    pub(crate) previews: Semaphore,
    pub(crate) token: Option<String>,
    pub(crate) metrics: PrometheusHandle,
    /// The environment the worker's own topology was read with.
    pub(crate) env: fn(&str) -> Option<String>,
}

/// A refusal with its repair.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: String,
    repair: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), repair: None }
    }
    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }
    pub(crate) fn repair(mut self, repair: impl Into<String>) -> Self {
        self.repair = Some(repair.into());
        self
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match fault.kind {
            FaultKind::Config | FaultKind::BadRecord => StatusCode::BAD_REQUEST,
            FaultKind::Refused | FaultKind::Fenced => StatusCode::CONFLICT,
            FaultKind::Retry => StatusCode::SERVICE_UNAVAILABLE,
            FaultKind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error: fault.message(), repair: fault.repair }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = match self.repair {
            Some(repair) => json!({ "error": self.error, "repair": repair }),
            None => json!({ "error": self.error }),
        };
        (self.status, Json(body)).into_response()
    }
}

pub(crate) type Answer = Result<Json<serde_json::Value>, Refusal>;

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/status", get(read::status))
        .route("/counts", get(read::counts))
        .route("/members", get(read::members))
        .route("/explain", get(read::explain))
        .route("/preview", post(preview::preview).layer(DefaultBodyLimit::max(preview::BODY_BYTES_MAX)))
        .route("/topics", get(topics::list))
        .route("/topics/{topic}", get(topics::describe))
        .route("/topics/{topic}/tail", get(topics::tail))
        .route("/quarantine", get(read::quarantine))
        .route("/quarantine/{partition}/{offset}", get(read::quarantined))
        .route("/quarantine/replay", post(act::replay))
        .route("/verify", post(act::verify))
        .route("/backfill", get(read::backfills).post(act::backfill))
        .route("/fill", post(act::fill))
        .route("/tasks/{*task}", post(act::task))
        .route("/rebuild/{sink}", post(rebuild::rebuild))
        .route("/replay/{sink}", get(replay::progress).post(replay::begin))
        .route("/apply", post(act::apply))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorise));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn authorise(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Some(token) = &app.token {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !equal_in_constant_time(given.as_bytes(), token.as_bytes()) {
            return Refusal::new(StatusCode::UNAUTHORIZED, "this instance wants a bearer token")
                .repair("set http.token in topology.yaml to the instance's token")
                .into_response();
        }
    } else if !is_from_here(request.headers()) {
        let error = "without a token this instance answers nobody that another web site sent";
        return Refusal::new(StatusCode::FORBIDDEN, error)
            .repair("speak to it by its address or as localhost; or set http.token in topology.yaml")
            .into_response();
    }
    next.run(request).await
}

/// A page of another site can make a browser ask the loopback too: it gives itself away by its origin, or, where its
/// name was pointed here, by that name.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = name == "localhost" || address.parse::<std::net::IpAddr>().is_ok();
    is_address && text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host))
}

/// Takes as long for a wrong first byte as for a wrong last one.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

/// Ready: every task that should run here does.
async fn ready(State(app): State<Arc<App>>) -> Response {
    if !app.joined.load(Ordering::Relaxed) {
        let waiting = "waiting for the group of workers\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, waiting).into_response();
    }
    let waiting: Vec<_> = app
        .tasks
        .board()
        .snapshot()
        .into_iter()
        .filter(|(_, status)| !matches!(status.state, TaskState::Running | TaskState::Paused))
        .map(|(name, _)| name)
        .collect();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", "))).into_response()
    }
}

async fn metrics(State(app): State<Arc<App>>) -> String {
    app.metrics.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_here(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        is_from_here(&headers)
    }

    #[test]
    fn other_web_sites_are_not_answered_without_a_token() {
        for host in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "[::1]"] {
            assert!(from_here(host, None), "{host}");
        }
        assert!(from_here("localhost:8080", Some("http://localhost:8080")));
        assert!(!from_here("localhost:8080", Some("https://evil.example")));
        assert!(!from_here("localhost:8080", Some("null")));
        assert!(!from_here("evil.example:8080", None));
    }
}
