//! Starts what a topology says, serves HTTP, and stops it all in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rollcall_model::{Fault, Log, Partition};
use rollcall_roster::Catalog;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::admin::Admin;
use crate::archives::Archives;
use crate::catalog_feed;
use crate::clock::now_us;
use crate::counts_feed::{self, CountsBoard};
use crate::http::{App, router};
use crate::lake_task::LakeTask;
use crate::log_copy;
use crate::peers::Peers;
use crate::reader_task::{self, ReaderTask};
use crate::roster_store::RosterStores;
use crate::roster_task::{self, RosterTask};
use crate::sink_task::{self, SinkTask};
use crate::source_task::{self, SourceCommand, SourceTask};
use crate::spread::Spread;
use crate::stream_task::StreamTask;
use crate::tasks::{TaskBody, Tasks};
use crate::topology::Topology;
use crate::wiring::{ItemSourceWiring, JoinWorkers, LakeWiring, SinkWiring, SourceWiring, Wiring};

/// Operators' commands that may wait for a source.
const SOURCE_COMMANDS_MAX: usize = 8;

/// Drafts that are tried at once: each may read every identity of an environment.
const PREVIEWS_MAX: usize = 2;

/// Requests under way are waited for this long at the end.
const HTTP_GRACE: Duration = Duration::from_secs(3);

/// What the others may take to hear that this worker stops.
const SAY_WITHIN: Duration = Duration::from_secs(2);

/// Turns true when the worker should stop.
pub type Shutdown = watch::Receiver<bool>;

/// Runs a worker until `shutdown`. Calls `listening` with the address once HTTP answers.
///
/// # Errors
/// A [`Fault`] when it can't start at all, or can't be one of the log's workers: the topology differs from the log's, the
/// address is taken, a folder can't be opened, another worker has its id. What goes wrong later is a task's own affair and
/// shows in its status.
pub async fn run(
    topology: &Topology,
    mut wiring: Wiring,
    env: fn(&str) -> Option<String>,
    shutdown: Shutdown,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Fault> {
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| Fault::bug("metrics can't be recorded").from_source(e))?;
    let listener = listen(topology.http.listen).await?;
    let address = listener.local_addr().map_err(|e| Fault::retry("no local address").from_source(e))?;
    log_copy::refuse_unfinished(&*wiring.log).await?;
    let admin = Admin::new(Arc::clone(&wiring.log));
    admin.agree(topology).await?;
    let stores = RosterStores::open(&wiring.store_path)?;
    let log = Arc::clone(&wiring.log);
    let token = topology.http.token.as_ref().map(|token| token.expose().to_owned());
    let peers = Arc::new(Peers::new(Arc::clone(&log), wiring.worker.clone(), token.clone())?);
    let tasks = Arc::new(Tasks::default());
    let (catalog, counts) = feeds(&log, &tasks);
    let join = wiring.join.take();
    let (members, mirror, retention) = (wiring.members, wiring.mirror, wiring.tombstone_retention);
    let archives = Archives::new(wiring.archives);
    let mut bodies = Bodies {
        log: Arc::clone(&log),
        archives: archives.clone(),
        tombstone_retention: retention,
        bodies: BTreeMap::new(),
    };
    bodies.rosters(&stores, &catalog);
    let sinks = bodies.sinks(wiring.sinks);
    let lakes = bodies.lakes(wiring.lakes);
    let mut sources = bodies.sources(wiring.sources);
    sources.extend(bodies.item_sources(wiring.item_sources));
    let spread = Spread {
        tasks: Arc::clone(&tasks),
        bodies: bodies.bodies,
        admin: admin.clone(),
        peers: Arc::clone(&peers),
        address,
    };
    let app = Arc::new(App {
        log,
        tasks: Arc::clone(&tasks),
        joined: AtomicBool::new(join.is_none()),
        names: spread.bodies.keys().cloned().collect(),
        peers: Arc::clone(&peers),
        catalog,
        counts,
        stores,
        archives,
        tombstone_retention: retention,
        admin,
        sources,
        sinks,
        lakes,
        members,
        mirror,
        previews: Semaphore::new(PREVIEWS_MAX),
        token,
        metrics,
        env,
    });
    listening(address);
    let serving = serve(listener, Arc::clone(&app), shutdown.clone());
    let mut stopped = shutdown;
    let is_shared = join.is_some();
    let sharing = share(&spread, join, &app);
    let ended = tokio::select! {
        served = serving => served,
        shared = sharing => shared,
        _ = stopped.wait_for(|stop| *stop) => Ok(()),
    };
    if is_shared {
        // The others know at once that nothing runs here; what is slow is left.
        let _ = tokio::time::timeout(SAY_WITHIN, peers.say(address, BTreeSet::new(), now_us())).await;
    }
    let all = tasks.names();
    tasks.stop(&all).await?;
    ended
}

async fn listen(listen: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(listen).await.map_err(|e| {
        Fault::config(format!("http.listen: {listen} can't be listened on"))
            .from_source(e)
            .repair("stop what listens there, or give http.listen another port")
    })
}

/// Answers requests until it should stop, and those under way a while longer.
async fn serve(listener: TcpListener, app: Arc<App>, shutdown: Shutdown) -> Result<(), Fault> {
    let (mut stop, mut stopped) = (shutdown.clone(), shutdown);
    let served = axum::serve(listener, router(app)).with_graceful_shutdown(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    tokio::select! {
        served = served.into_future() => served.map_err(|e| Fault::retry("HTTP ended").from_source(e)),
        // Who follows a topic never hangs up, and who waits for a task that has stopped waits in vain.
        () = async { let _ = stopped.wait_for(|stop| *stop).await; tokio::time::sleep(HTTP_GRACE).await } => Ok(()),
    }
}

/// Runs all tasks, or this worker's share of them, for ever.
async fn share(spread: &Spread, join: Option<JoinWorkers>, app: &App) -> Result<(), Fault> {
    let Some(join) = join else {
        spread.all().await?;
        return std::future::pending().await;
    };
    let numbers = spread.admin.numbers(&spread.bodies.keys().cloned().collect()).await?;
    let count = numbers.values().max().map_or(0, |last| last.saturating_add(1));
    let workers = join(count).await?;
    let Err(fault) = spread.share(workers, &numbers, || app.joined.store(true, Ordering::Relaxed)).await;
    Err(fault)
}

/// The catalog that rosters judge by, and the counts that the API shows: every worker has its own.
fn feeds(log: &Arc<dyn Log>, tasks: &Tasks) -> (watch::Receiver<Arc<Catalog>>, CountsBoard) {
    let (publish, catalog) = watch::channel(Arc::new(Catalog::default()));
    let own = Arc::clone(log);
    let body: TaskBody =
        Box::new(move |reporter| Box::pin(catalog_feed::follow(Arc::clone(&own), publish.clone(), reporter)));
    tasks.start("catalog", false, Arc::new(body));
    let counts = CountsBoard::default();
    let (board, own) = (counts.clone(), Arc::clone(log));
    let body: TaskBody =
        Box::new(move |reporter| Box::pin(counts_feed::follow(Arc::clone(&own), board.clone(), reporter)));
    tasks.start("counts", false, Arc::new(body));
    (catalog, counts)
}

/// What each task runs, by name.
struct Bodies {
    log: Arc<dyn Log>,
    archives: Archives,
    tombstone_retention: Duration,
    bodies: BTreeMap<String, Arc<TaskBody>>,
}

impl Bodies {
    fn put(&mut self, name: String, body: TaskBody) {
        self.bodies.insert(name, Arc::new(body));
    }

    fn rosters(&mut self, stores: &RosterStores, catalog: &watch::Receiver<Arc<Catalog>>) {
        for partition in (0..self.log.partitions()).map(Partition) {
            let task = RosterTask {
                log: Arc::clone(&self.log),
                stores: stores.clone(),
                partition,
                catalog: catalog.clone(),
                tombstone_retention: self.tombstone_retention,
                archives: self.archives.clone(),
            };
            let body: TaskBody = Box::new(move |reporter| Box::pin(task.clone().run(reporter)));
            self.put(roster_task::name(partition), body);
        }
    }

    /// Answers their names, and whether they list members.
    fn sinks(&mut self, sinks: Vec<SinkWiring>) -> Vec<(String, bool)> {
        let mut names = Vec::new();
        for sink in sinks {
            names.push((sink.name.clone(), sink.lists_members));
            let task = SinkTask {
                log: Arc::clone(&self.log),
                wiring: Arc::new(sink),
                archives: self.archives.clone(),
                tombstone_retention: self.tombstone_retention,
            };
            let name = sink_task::name(&task.wiring.name);
            self.put(name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        names
    }

    /// Answers their names.
    fn lakes(&mut self, lakes: Vec<LakeWiring>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for lake in lakes {
            names.insert(lake.name.clone());
            let task = LakeTask { log: Arc::clone(&self.log), wiring: Arc::new(lake) };
            let name = sink_task::name(&task.wiring.name);
            self.put(name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        names
    }

    /// Answers how each is spoken to.
    fn item_sources(
        &mut self,
        sources: Vec<ItemSourceWiring>,
    ) -> BTreeMap<String, mpsc::Sender<SourceCommand>> {
        let mut senders = BTreeMap::new();
        for source in sources {
            let (sender, receiver) = mpsc::channel(SOURCE_COMMANDS_MAX);
            senders.insert(source.name.to_string(), sender);
            let (log, wiring) = (Arc::clone(&self.log), Arc::new(source));
            for index in 0..wiring.readers {
                let task = ReaderTask { log: Arc::clone(&log), wiring: Arc::clone(&wiring), index };
                let name = reader_task::name(wiring.name.as_str(), index);
                self.put(name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
            }
            let name = source_task::name(wiring.name.as_str());
            let commands = Arc::new(tokio::sync::Mutex::new(receiver));
            let task = StreamTask { log, wiring, commands };
            self.put(name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        senders
    }

    /// Answers how each is spoken to.
    fn sources(&mut self, sources: Vec<SourceWiring>) -> BTreeMap<String, mpsc::Sender<SourceCommand>> {
        let mut senders = BTreeMap::new();
        for source in sources {
            let (sender, receiver) = mpsc::channel(SOURCE_COMMANDS_MAX);
            senders.insert(source.name.to_string(), sender);
            let commands = Arc::new(tokio::sync::Mutex::new(receiver));
            let task = SourceTask { log: Arc::clone(&self.log), wiring: Arc::new(source), commands };
            let name = source_task::name(task.wiring.name.as_str());
            self.put(name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        senders
    }
}
