//! HTTP around the world: one thread, one lock, one answer after the other.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::serve::ListenerExt;
use tokio::sync::oneshot;

use crate::core::{ApiError, Clock, Core, ErrorCode, civil};
use crate::counts::Counts;
use crate::faults::{FaultPlan, Rates};
use crate::wire::{self, Action, errors};

/// A request holds at most so much: a batch of 25 items.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// All that is simulated.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) plan: FaultPlan,
    pub(crate) rates: Option<Rates>,
    pub(crate) counts: Counts,
    /// How far the `Date` header is from virtual time.
    pub(crate) date_offset_us: i64,
    /// Who may ask; `None` is anybody.
    pub(crate) access_key_id: Option<String>,
    started: Instant,
}

impl World {
    pub(crate) fn new(core: Core, clock: Clock, plan: FaultPlan) -> Self {
        Self {
            core,
            clock,
            plan,
            rates: None,
            counts: Counts::default(),
            date_offset_us: 0,
            access_key_id: None,
            started: Instant::now(),
        }
    }

    fn real_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Brings the world to what the clock shows.
    pub(crate) fn catch_up(&mut self) {
        let now_us = self.clock.at(self.real_us());
        self.core.advance_to(now_us);
    }

    fn answer(&mut self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.catch_up();
        let date = http_date(self.core.now_us.saturating_add(self.date_offset_us));
        let mut answer = Answer { status: 200, body: String::new(), date, slow_ms: 0, lost: false };
        if let Err(error) = self.done(headers, body, &mut answer) {
            answer.status = errors::status(error.code);
            answer.body = errors::body(&error);
        }
        answer
    }

    fn done(&mut self, headers: &HeaderMap, body: &[u8], answer: &mut Answer) -> Result<(), ApiError> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        self.check_credentials(header("authorization"))?;
        let action = Action::of(header("x-amz-target")).ok_or_else(|| {
            ApiError::new(ErrorCode::UnknownOperation, "The simulator doesn't know this target")
        })?;
        let shard = wire::shard_of(&self.core, action, body);
        self.counts.asked(action, shard.as_deref());
        let real_us = self.real_us();
        if let Some(rates) = &mut self.rates {
            rates.count(action, shard.as_deref(), real_us)?;
        }
        let fate = self.plan.fate(action, shard.as_deref());
        answer.slow_ms = fate.slow_ms;
        if let Some(error) = fate.refused {
            return Err(error);
        }
        // Lost is what was done: a refusal that nobody hears would be no fault of its own.
        let done = wire::answer(&mut self.core, action, body, fate.wire)?;
        answer.lost = fate.lost;
        if let Some((shard, records)) = done.records {
            self.counts.sent(&shard, records);
        }
        answer.body = done.body;
        Ok(())
    }

    fn check_credentials(&self, authorization: &str) -> Result<(), ApiError> {
        let Some(expected) = &self.access_key_id else { return Ok(()) };
        let given = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
        match given {
            Some(given) if given == expected => Ok(()),
            Some(_) => Err(ApiError::new(
                ErrorCode::UnrecognizedClient,
                "The security token included in the request is invalid.",
            )),
            None => Err(ApiError::new(
                ErrorCode::MissingAuthenticationToken,
                "Request must contain either a valid (registered) AWS access key ID or X.509 certificate.",
            )),
        }
    }
}

/// What goes back, or not.
struct Answer {
    status: u16,
    body: String,
    date: String,
    slow_ms: u64,
    lost: bool,
}

/// A world behind a lock.
pub(crate) type Shared = Arc<Mutex<World>>;

/// The world; a test that failed while it held the lock leaves it readable.
pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on a thread of its own, so that it serves blocking tests as well as asynchronous ones.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(world: Shared) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("dynamo-sim".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
                let router = Router::new().fallback(serve).with_state(world);
                tokio::select! {
                    ended = axum::serve(listener, router) => drop(ended),
                    ended = stopped => drop(ended),
                }
            });
        })?;
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(State(world): State<Shared>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await else {
        return respond(StatusCode::PAYLOAD_TOO_LARGE, Body::empty());
    };
    let answer = lock(&world).answer(&parts.headers, &body);
    if answer.slow_ms > 0 {
        tokio::time::sleep(Duration::from_millis(answer.slow_ms)).await;
    }
    if answer.lost {
        // A body that fails at once: the connection closes, and nothing of the answer was sent.
        let broken = futures_util::stream::once(async { Err::<Vec<u8>, _>(io::Error::other("lost")) });
        return respond(StatusCode::OK, Body::from_stream(broken));
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, Body::from(answer.body));
    if let Ok(date) = HeaderValue::from_str(&answer.date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    headers.insert(
        "x-amzn-requestid",
        HeaderValue::from_static("SIMULATED0000000000000000000000000000000000000000000"),
    );
    response
}

/// RFC 9110's form of a time.
fn http_date(at_us: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = at_us.div_euclid(86_400_000_000);
    let seconds = at_us.rem_euclid(86_400_000_000) / 1_000_000;
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], nth: i64| {
        usize::try_from(nth).ok().and_then(|nth| names.get(nth).copied()).unwrap_or("")
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days.rem_euclid(7)),
        name(&MONTHS, month - 1),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_rfc_9110() {
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(1_709_164_800_000_000), "Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
