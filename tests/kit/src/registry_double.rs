//! A schema registry in memory, that fails on purpose.
//!
//! **It is a double, and nothing more.** No real registry can be had where these tests run (Confluent's, Karapace and
//! Apicurio all need a broker, a JVM or a network that isn't there), so what it says is what their documentation says,
//! for the requests that `connectors/schema-registry` makes:
//!
//! ```text
//! POST /subjects/S             200 {subject, id, version, schema}, or 404 40401 (subject), 40403 (schema)
//! POST /subjects/S/versions    200 {id}; the same schema has the same id under every subject; 409 when it can't read
//!                              what the newest schema of S wrote (BACKWARD, their default); 422 42201 when it is none
//! GET  /schemas/ids/N          200 {schema}, or 404 40403
//! ```
//!
//! A test against it shows that we speak as we understood them, not that they understand us.

use std::sync::{Arc, Mutex, PoisonError};

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What goes wrong, from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Every request takes longer than anybody waits.
    Hangs,
    /// 401: no such user.
    Unauthorized,
    /// 403 to whoever would register; looking up is granted.
    ReadOnly,
    /// 409: every schema that is not yet there is incompatible.
    Conflict,
    /// 500.
    Broken,
    /// 200, and a page of HTML: the URL is of something else.
    AnotherServer,
}

#[derive(Debug, Default)]
struct Registry {
    /// The id is the place, from 1.
    schemas: Vec<String>,
    /// Subject and schema id, oldest first.
    versions: Vec<(String, usize)>,
    failure: Option<Failure>,
    /// Method and path of every request.
    requests: Vec<String>,
    authorization: Option<String>,
}

type Shared = Arc<Mutex<Registry>>;

/// The double; dropping it ends the server.
#[derive(Debug)]
pub struct RegistryDouble {
    url: String,
    registry: Shared,
    server: JoinHandle<()>,
}

impl RegistryDouble {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let registry = Shared::default();
        let app = Router::new()
            .route("/subjects/{subject}", post(look_up))
            .route("/subjects/{subject}/versions", post(register))
            .route("/schemas/ids/{id}", get(by_id))
            .layer(middleware::from_fn_with_state(Arc::clone(&registry), fail))
            .with_state(Arc::clone(&registry));
        let server = tokio::spawn(async move {
            // It ends with its task; a test that needs it notices.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, registry, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on this goes wrong; `None`: nothing.
    pub fn fail(&self, failure: Option<Failure>) {
        locked(&self.registry).failure = failure;
    }

    /// Puts a schema under a subject, whatever stands there, and says its id: another program's doing.
    pub fn put(&self, subject: &str, schema: &str) -> u32 {
        let mut registry = locked(&self.registry);
        let id = registry.id(schema);
        registry.versions.push((subject.to_owned(), id));
        u32::try_from(id).unwrap_or(u32::MAX)
    }

    /// The subjects that have a schema, in order, each once.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects: Vec<_> = locked(&self.registry).versions.iter().map(|(s, _)| s.clone()).collect();
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// The requests since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.registry).requests)
    }

    /// The `Authorization` of the last request.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        locked(&self.registry).authorization.clone()
    }
}

impl Drop for RegistryDouble {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Registry {
    fn id(&mut self, schema: &str) -> usize {
        let known = self.schemas.iter().position(|known| known == schema);
        known.unwrap_or_else(|| {
            self.schemas.push(schema.to_owned());
            self.schemas.len() - 1
        }) + 1
    }
    fn newest(&self, subject: &str) -> Option<&str> {
        let (_, id) = self.versions.iter().rev().find(|(of, _)| of == subject)?;
        self.schemas.get(id - 1).map(String::as_str)
    }
}

fn locked(registry: &Shared) -> std::sync::MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(status: StatusCode, code: u32, message: &str) -> Response {
    (status, Json(json!({"error_code": code, "message": message}))).into_response()
}

async fn fail(State(registry): State<Shared>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let failure = {
        let mut registry = locked(&registry);
        registry.requests.push(format!("{} {}", request.method(), request.uri().path()));
        let authorization = headers.get(header::AUTHORIZATION);
        registry.authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
        registry.failure
    };
    match failure {
        Some(Failure::Hangs) => std::future::pending().await,
        Some(Failure::Unauthorized) => error(StatusCode::UNAUTHORIZED, 401, "Unauthorized"),
        Some(Failure::Broken) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, 50001, "Error in the backend data store")
        }
        Some(Failure::AnotherServer) => axum::response::Html("<h1>It works!</h1>").into_response(),
        Some(Failure::ReadOnly | Failure::Conflict) | None => next.run(request).await,
    }
}

async fn look_up(
    State(registry): State<Shared>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let registry = locked(&registry);
    let Some(schema) = body["schema"].as_str() else {
        return error(StatusCode::UNPROCESSABLE_ENTITY, 42201, "Invalid schema");
    };
    if registry.newest(&subject).is_none() {
        return error(StatusCode::NOT_FOUND, 40401, &format!("Subject '{subject}' not found."));
    }
    let versions: Vec<_> = registry.versions.iter().filter(|(of, _)| *of == subject).collect();
    let same =
        |(_, id): &&&(String, usize)| registry.schemas.get(id - 1).is_some_and(|known| known == schema);
    match versions.iter().enumerate().find(|(_, version)| same(version)) {
        Some((place, (_, id))) => {
            Json(json!({"subject": subject, "id": id, "version": place + 1, "schema": schema}))
                .into_response()
        }
        None => error(StatusCode::NOT_FOUND, 40403, "Schema not found"),
    }
}

async fn register(
    State(registry): State<Shared>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let mut registry = locked(&registry);
    let text = body["schema"].as_str().unwrap_or_default();
    let Ok(schema) = Schema::parse_str(text) else {
        return error(StatusCode::UNPROCESSABLE_ENTITY, 42201, "Invalid schema");
    };
    if registry.failure == Some(Failure::ReadOnly) {
        return error(StatusCode::FORBIDDEN, 40301, "User is denied operation Write on Subject");
    }
    let older = registry.newest(&subject).map(Schema::parse_str);
    let readable = match older {
        Some(Ok(older)) => matches!(SchemaCompatibility::can_read(&older, &schema), Ok(Compatibility::Full)),
        Some(Err(_)) => false,
        None => true,
    };
    if !readable || registry.failure == Some(Failure::Conflict) {
        let message = "Schema being registered is incompatible with an earlier schema for subject";
        return error(StatusCode::CONFLICT, 409, message);
    }
    let id = registry.id(text);
    registry.versions.push((subject, id));
    Json(json!({"id": id})).into_response()
}

async fn by_id(State(registry): State<Shared>, Path(id): Path<usize>) -> Response {
    match id.checked_sub(1).and_then(|place| locked(&registry).schemas.get(place).cloned()) {
        Some(schema) => Json(json!({"schema": schema})).into_response(),
        None => error(StatusCode::NOT_FOUND, 40403, "Schema not found"),
    }
}
