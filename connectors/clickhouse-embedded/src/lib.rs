//! The ClickHouse engine behind a loopback HTTP endpoint: what `url: embedded` starts.
//!
//! In: requests of ClickHouse's HTTP interface. Out: the engine's own answers. The official `clickhouse` crate with its
//! defaults, and so the ClickHouse sink, can't tell it from a server.
//!
//! ```text
//! HTTP ─ server ─ request (what is asked) ─ engine (whose turn, which connection) ─ run ─┬─ insert: blocks ─▶ libchdb
//!                                                                              └─ select: seam  ◀─ libchdb
//! ```
//!
//! Why it is right: the engine is ClickHouse itself, in this process; nothing here parses SQL beyond telling an insert's
//! data from a query (`statement`). An insert is acknowledged only after the engine stored every row of a body that came
//! whole. What a server refuses (unknown settings, bad SQL, wrong login) is refused with the same code.
//!
//! What differs from a server, all of it by the engine's C functions: no `KILL QUERY` by our query id, no
//! `system.query_log` and `system.part_log`, no replicated tables, no roles; results in formats whose pieces can't be
//! joined (JSON, Parquet, CSVWithNames, …: see `seam`) are held whole in memory.
//!
//! One process runs one engine on one data folder, which it locks.

mod blocks;
mod engine;
mod exception;
mod ffi;
mod library;
mod request;
mod run;
mod seam;
mod server;
mod statement;

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::Fault;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::server::Server;

/// Queries at once, by default: more only share the same cores and memory.
pub const DEFAULT_CONNECTIONS_MAX: usize = 32;
/// How long a stop waits for queries that run.
const DRAIN_SECONDS_MAX: u64 = 20;

/// Who may ask.
#[derive(Clone)]
pub struct Login {
    /// The user's name; a request without one is by `default`.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder; made if it is not there, locked while the engine runs.
    pub data_path: PathBuf,
    /// Where to listen; port 0 takes a free one. An address beyond loopback needs a login.
    pub listen: SocketAddr,
    /// The engine's library; without it, see the crate's `library` for where it is looked for.
    pub libchdb: Option<PathBuf>,
    /// Who may ask; without it, everybody on this machine.
    pub login: Option<Login>,
    /// Queries at once; further ones wait up to 30 s.
    pub connections_max: usize,
}

impl Config {
    /// On a data folder, on a free loopback port, without a login.
    pub fn new(data_path: impl Into<PathBuf>) -> Self {
        Self {
            data_path: data_path.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            libchdb: None,
            login: None,
            connections_max: DEFAULT_CONNECTIONS_MAX,
        }
    }
}

/// The embedded ClickHouse.
#[derive(Debug)]
pub struct ClickHouseEmbedded;

impl ClickHouseEmbedded {
    /// Starts the engine and its endpoint; returns when it takes requests. Needs a tokio runtime.
    ///
    /// # Errors
    /// A `Config` fault that names the data folder, address or library that can't be used, and what repairs it.
    pub async fn start(config: Config) -> Result<Running, Fault> {
        if config.connections_max == 0 {
            return Err(Fault::config("connections_max of the embedded ClickHouse must be at least 1"));
        }
        if !config.listen.ip().is_loopback() && config.login.is_none() {
            let what =
                format!("the embedded ClickHouse would show personal data to everybody on {}", config.listen);
            return Err(Fault::config(what).repair("listen on 127.0.0.1, or set a user and a password"));
        }
        let listener =
            TcpListener::bind(config.listen).await.map_err(|error| listen_fault(config.listen, error))?;
        let address = listener.local_addr().map_err(|error| listen_fault(config.listen, error))?;
        let library = library::find(config.libchdb.as_deref())?;
        let connections_max = config.connections_max;
        let data_path = config.data_path.clone();
        let starting =
            tokio::task::spawn_blocking(move || Engine::start(&library, &data_path, connections_max));
        let engine = starting
            .await
            .map_err(|error| Fault::bug("starting the ClickHouse engine panicked").from_source(error))??;
        let router = server::router(Server { engine: Arc::clone(&engine), login: config.login });
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server::serve(listener, router, stopped));
        tracing::info!(%address, data_path = %config.data_path.display(), "embedded ClickHouse is up");
        Ok(Running { address, engine, connections_max, stop: Some(stop), serving })
    }
}

fn listen_fault(listen: SocketAddr, error: std::io::Error) -> Fault {
    Fault::config(format!("the embedded ClickHouse can't listen on {listen}"))
        .from_source(error)
        .repair("choose another port, or port 0 for a free one")
}

/// A running engine. Dropped without [`Running::stop`], it takes no more requests and stops when the last one ends.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    engine: Arc<Engine>,
    connections_max: usize,
    stop: Option<oneshot::Sender<Infallible>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits for those that run (up to 20 s), and closes the engine.
    ///
    /// # Errors
    /// A `Retry` fault if queries still ran after the wait: they die with the process, unacknowledged.
    pub async fn stop(mut self) -> Result<(), Fault> {
        self.stop.take();
        let wait = Duration::from_secs(DRAIN_SECONDS_MAX);
        let drained = self.engine.drain(self.connections_max, wait).await;
        // Replies that were complete get out; idle connections of clients are not waited for.
        let serving = &mut self.serving;
        if tokio::time::timeout(Duration::from_secs(1), &mut *serving).await.is_err() {
            serving.abort();
            drop(serving.await);
        }
        if drained {
            return Ok(());
        }
        Err(Fault::retry(format!(
            "queries of the embedded ClickHouse still ran {DRAIN_SECONDS_MAX} s after it was told to stop"
        )))
    }
}
