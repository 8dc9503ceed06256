//! HTTP around it: login, routes, replies.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, http};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::Login;
use crate::blocks::{Packer, Packing};
use crate::engine::Engine;
use crate::exception::Exception;
use crate::request::{self, Ask};
use crate::run::{Event, Part, Summary, run};
use crate::statement;

/// Pieces of a reply that wait for a slow reader.
const EVENTS_MAX: usize = 4;
/// Pieces of an insert's body that wait for the engine.
const PARTS_MAX: usize = 8;
/// Marks an exception after the first bytes of a reply, so that a reader never takes one in the data for it.
const EXCEPTION_TAG: &str = "rollcallexceptio";

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) engine: Arc<Engine>,
    pub(crate) login: Option<Login>,
}

/// The routes of a ClickHouse server that clients use.
pub(crate) fn router(server: Server) -> Router {
    let ok = || async { "Ok.\n" };
    Router::new().route("/ping", get(ok)).fallback(any(handle)).with_state(Arc::new(server))
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    match answer(&server, request).await {
        Ok(response) => response,
        Err(exception) => refusal(&exception),
    }
}

fn refusal(exception: &Exception) -> Response {
    let mut response = Response::new(Body::from(exception.message()));
    *response.status_mut() = exception.status();
    let headers = response.headers_mut();
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(exception.code));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

fn check_login(server: &Server, parts: &http::request::Parts) -> Result<(), Exception> {
    let Some(wanted) = &server.login else { return Ok(()) };
    let given = request::login(parts);
    let user = given.user.as_deref().unwrap_or("default");
    if user == wanted.user && given.password.as_deref().unwrap_or_default() == wanted.password {
        return Ok(());
    }
    let what =
        format!("{user}: Authentication failed: password is incorrect, or there is no user with such name");
    Err(Exception::new(516, "AUTHENTICATION_FAILED", what))
}

async fn answer(server: &Server, request: Request) -> Result<Response, Exception> {
    let (parts, body) = request.into_parts();
    check_login(server, &parts)?;
    let bare_get = parts.method == http::Method::GET && parts.uri.query().is_none();
    if parts.uri.path() == "/" && bare_get {
        return Ok(Response::new(Body::from("Ok.\n")));
    }
    if parts.uri.path() != "/" {
        let mut response = Response::new(Body::from("There is no handle of that name; use / and /ping\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let mut ask = request::read(Request::from_parts(parts, body)).await?;
    let lease = server.engine.lease(ask.session.as_ref(), ask.query_id.clone()).await?;
    let (events, mut replies) = mpsc::channel(EVENTS_MAX);
    let data = ask.data.take().map(feed);
    let packing = ask.packing;
    let head = ReplyHead::of(&ask);
    tokio::task::spawn_blocking(move || run(lease, &ask, data, &events));

    let mut summary = None;
    let first = loop {
        match replies.recv().await {
            Some(Event::Summary(figures)) => summary = Some(figures),
            Some(Event::Failed(exception)) => return Err(exception),
            Some(Event::Rows(rows)) if rows.is_empty() => {}
            Some(Event::Rows(rows)) => break Some(rows),
            Some(Event::Done) => break None,
            None => return Err(Exception::engine_said_nothing()),
        }
    };
    let body = match first {
        Some(rows) => reply_body(rows, replies, packing),
        None => Body::from(Packer::new(packing).finish().unwrap_or_default()),
    };
    Ok(head.response(body, summary))
}

/// Hands the body of an insert to the thread that inserts it.
fn feed(body: Body) -> mpsc::Receiver<Part> {
    let (parts, data) = mpsc::channel(PARTS_MAX);
    tokio::spawn(async move {
        let mut stream = body.into_data_stream();
        while let Some(piece) = stream.next().await {
            // A broken body: going away without the end says so.
            let Ok(piece) = piece else { return };
            // An insert that failed reads no more, but the client may read the answer only after it sent everything:
            // the rest is taken and dropped.
            drop(parts.send(Part::Data(piece)).await);
        }
        // Whether the insert still listens is seen in its answer.
        drop(parts.send(Part::End).await);
    });
    data
}

/// What the headers of a reply repeat of the request.
struct ReplyHead {
    format: String,
    query_id: Option<String>,
    packing: Packing,
}

impl ReplyHead {
    fn of(ask: &Ask) -> Self {
        let text = String::from_utf8_lossy(&ask.statement);
        let format = statement::asked_format(&text).unwrap_or(&ask.format).to_owned();
        Self { format, query_id: ask.query_id.clone(), packing: ask.packing }
    }

    fn response(self, body: Body, summary: Option<Summary>) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set("x-clickhouse-format", &self.format);
        set("x-clickhouse-exception-tag", EXCEPTION_TAG);
        set("x-clickhouse-server-display-name", "rollcall");
        if let Some(id) = &self.query_id {
            set("x-clickhouse-query-id", id);
        }
        if self.packing == Packing::Frame {
            set("content-encoding", "lz4");
        }
        if let Some(figures) = summary {
            // Numbers are strings in a server's summary.
            let json = serde_json::json!({
                "read_rows": figures.read_rows.to_string(),
                "read_bytes": figures.read_bytes.to_string(),
                "written_rows": figures.written_rows.to_string(),
                "written_bytes": figures.written_bytes.to_string(),
            });
            set("x-clickhouse-summary", &json.to_string());
        }
        response
    }
}

/// The exception as a server writes it after the first bytes of a reply.
fn late_exception(exception: &Exception) -> Vec<u8> {
    let message = exception.message();
    let length = message.len();
    format!("\r\n__exception__\r\n{EXCEPTION_TAG}\r\n{message}{length} {EXCEPTION_TAG}\r\n__exception__\r\n")
        .into_bytes()
}

/// Streams a reply from its first rows on.
fn reply_body(first: Vec<u8>, replies: mpsc::Receiver<Event>, packing: Packing) -> Body {
    struct Reply {
        replies: mpsc::Receiver<Event>,
        packer: Option<Packer>,
        first: Option<Vec<u8>>,
    }
    let reply = Reply { replies, packer: Some(Packer::new(packing)), first: Some(first) };
    let pieces = stream::unfold(reply, |mut reply| async move {
        // The packer is taken by the last piece.
        let mut packer = reply.packer.take()?;
        let event = match reply.first.take() {
            Some(rows) => Some(Event::Rows(rows)),
            None => reply.replies.recv().await,
        };
        let piece = match event {
            Some(Event::Rows(rows)) => {
                let piece = packer.pack(rows);
                reply.packer = Some(packer);
                piece
            }
            Some(Event::Failed(exception)) => packer.pack(late_exception(&exception)),
            Some(Event::Summary(_)) => {
                reply.packer = Some(packer);
                Ok(Vec::new())
            }
            Some(Event::Done) => packer.finish(),
            // Never a reply that only looks whole.
            None => Err(std::io::Error::other("the query ended without a result")),
        };
        Some((piece.map(Bytes::from), reply))
    });
    Body::from_stream(pieces)
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    stop: tokio::sync::oneshot::Receiver<Infallible>,
) -> std::io::Result<()> {
    // The sender is only ever dropped: that is the signal.
    axum::serve(listener, router).with_graceful_shutdown(async move { drop(stop.await) }).await
}
