//! The engine on its data folder: who may use it, how many at once, and which connection a request gets.
//!
//! A connection costs a tenth of a millisecond, so a request without a session gets a fresh one and nothing of an
//! earlier request can leak into it. A session keeps its connection (settings, temporary tables) between requests and
//! serves one request at a time.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rollcall_model::Fault;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::exception::Exception;
use crate::ffi::{Api, Connection};
use crate::request::SessionAsk;

/// How long a request waits for a free connection before it is told that there are too many.
const QUEUE_SECONDS_MAX: u64 = 30;
/// Sessions alive at once: each keeps a connection.
const SESSIONS_MAX: usize = 256;
/// The file in a data folder whose lock says that an engine of ours runs on it.
const LOCK_FILE: &str = "rollcall-clickhouse.lock";

/// The engine of this process.
#[derive(Debug)]
pub(crate) struct Engine {
    api: Arc<Api>,
    data_path: PathBuf,
    permits: Arc<Semaphore>,
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Session>>>>,
    query_ids: Mutex<HashSet<String>>,
    /// Keeps the engine running while no request does; closing it stops the engine.
    _keeps_running: Mutex<Connection>,
    /// Held as long as the engine runs; the system frees it if the process is killed.
    _lock: File,
}

#[derive(Debug)]
struct Session {
    connection: Connection,
    ends: Instant,
}

/// A poisoned lock guards plain maps whose every change is a single call: they are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Starts the engine on a folder, which it makes if it is not there.
    pub(crate) fn start(
        library: &Path,
        data_path: &Path,
        connections_max: usize,
    ) -> Result<Arc<Self>, Fault> {
        let folder = data_path.display();
        std::fs::create_dir_all(data_path).map_err(|error| {
            Fault::config(format!("ClickHouse's data folder {folder} can't be made")).from_source(error)
        })?;
        let lock = lock_folder(data_path)?;
        let api = Api::load(library).map_err(|error| {
            Fault::config(format!(
                "{} is not the ClickHouse engine that Rollcall is made for",
                library.display()
            ))
            .from_source(error)
            .repair(crate::library::INSTALL)
        })?;
        let keeps_running = Connection::open(&api, data_path).ok_or_else(|| {
            Fault::config(format!(
                "the ClickHouse engine did not start on {folder}; its reason is on standard error. \
                 One process runs one engine on one folder"
            ))
            .repair(format!("stop what else uses {folder} and check that this user may write there"))
        })?;
        Ok(Arc::new(Self {
            api,
            data_path: data_path.to_owned(),
            permits: Arc::new(Semaphore::new(connections_max)),
            sessions: Mutex::default(),
            query_ids: Mutex::default(),
            _keeps_running: Mutex::new(keeps_running),
            _lock: lock,
        }))
    }

    /// Waits until a connection is free, and gives the session's, or a fresh one.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        session: Option<&SessionAsk>,
        query_id: Option<String>,
    ) -> Result<Lease, Exception> {
        let query_id = self.register(query_id)?;
        let waiting = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(Duration::from_secs(QUEUE_SECONDS_MAX), waiting).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Exception::new(236, "ABORTED", "the embedded ClickHouse is stopping")),
            Err(_) => {
                let what = format!("no connection was free for {QUEUE_SECONDS_MAX} s");
                return Err(Exception::new(202, "TOO_MANY_SIMULTANEOUS_QUERIES", what));
            }
        };
        let connection = match session {
            None => Leased::Own(self.open()?),
            Some(session) => {
                Leased::Session(self.session(session)?, Duration::from_secs(session.timeout_seconds))
            }
        };
        Ok(Lease { connection, _query_id: query_id, _permit: permit })
    }

    fn open(&self) -> Result<Connection, Exception> {
        Connection::open(&self.api, &self.data_path).ok_or_else(Exception::engine_said_nothing)
    }

    fn session(&self, ask: &SessionAsk) -> Result<OwnedMutexGuard<Session>, Exception> {
        let mut sessions = lock(&self.sessions);
        let now = Instant::now();
        sessions.retain(|_, session| session.try_lock().map_or(true, |session| session.ends > now));
        if let Some(session) = sessions.get(&ask.id) {
            return Arc::clone(session).try_lock_owned().map_err(|_| {
                Exception::new(
                    373,
                    "SESSION_IS_LOCKED",
                    format!("Session {} is locked by a concurrent client", ask.id),
                )
            });
        }
        if ask.must_exist {
            return Err(Exception::new(372, "SESSION_NOT_FOUND", format!("Session {} not found", ask.id)));
        }
        if sessions.len() >= SESSIONS_MAX {
            let what = format!(
                "{SESSIONS_MAX} sessions are alive; each lives for session_timeout after its last use"
            );
            return Err(Exception::new(202, "TOO_MANY_SIMULTANEOUS_QUERIES", what));
        }
        let session = Arc::new(tokio::sync::Mutex::new(Session { connection: self.open()?, ends: now }));
        sessions.insert(ask.id.clone(), Arc::clone(&session));
        session.try_lock_owned().map_err(|_| Exception::engine_said_nothing())
    }

    /// Marks a query id as running; refuses one that runs already.
    fn register(self: &Arc<Self>, query_id: Option<String>) -> Result<Option<QueryId>, Exception> {
        let Some(id) = query_id else { return Ok(None) };
        if lock(&self.query_ids).insert(id.clone()) {
            return Ok(Some(QueryId { engine: Arc::clone(self), id }));
        }
        let what = format!("Query with id = {id} is already running");
        Err(Exception::new(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", what))
    }

    /// Takes no more requests, waits for those that run, and closes what sessions keep. False if some still ran at
    /// the end of the wait.
    pub(crate) async fn drain(&self, connections_max: usize, wait: Duration) -> bool {
        let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let drained = tokio::time::timeout(wait, self.permits.acquire_many(all)).await.is_ok();
        self.permits.close();
        lock(&self.sessions).clear();
        drained
    }
}

/// Locks a data folder for this process, or says who is in the way.
fn lock_folder(data_path: &Path) -> Result<File, Fault> {
    let folder = data_path.display();
    let file =
        File::options().create(true).write(true).truncate(false).open(data_path.join(LOCK_FILE)).map_err(
            |error| {
                Fault::config(format!("ClickHouse's data folder {folder} can't be written"))
                    .from_source(error)
            },
        )?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::config(format!(
            "ClickHouse's data folder {folder} is in use: another embedded ClickHouse runs on it"
        ))
        .repair(format!("stop the other Rollcall (it shows with: fuser {folder}/{LOCK_FILE}), or give this one a folder of its own"))),
        Err(TryLockError::Error(error)) => {
            Err(Fault::config(format!("ClickHouse's data folder {folder} can't be locked")).from_source(error))
        }
    }
}

/// A query id while its query runs.
#[derive(Debug)]
struct QueryId {
    engine: Arc<Engine>,
    id: String,
}

impl Drop for QueryId {
    fn drop(&mut self) {
        lock(&self.engine.query_ids).remove(&self.id);
    }
}

/// A connection for one request, its query id, and its place among `connections_max`.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Leased,
    _query_id: Option<QueryId>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Leased {
    Own(Connection),
    Session(OwnedMutexGuard<Session>, Duration),
}

impl Lease {
    /// What a request changes for itself must be put back for the next one of the session.
    pub(crate) fn is_session(&self) -> bool {
        matches!(self.connection, Leased::Session(..))
    }
}

impl Deref for Lease {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        match &self.connection {
            Leased::Own(connection) => connection,
            Leased::Session(session, _) => &session.connection,
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        match &mut self.connection {
            Leased::Own(connection) => connection,
            Leased::Session(session, _) => &mut session.connection,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Leased::Session(session, timeout) = &mut self.connection {
            session.ends = Instant::now() + *timeout;
        }
    }
}
