//! Starts what a topology says, serves HTTP, and stops it all in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rollcall_model::{Fault, Log, Partition};
use rollcall_roster::Catalog;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::info;

use crate::admin::{Admin, refuse_difference};
use crate::catalog_feed;
use crate::counts_feed::{self, CountsBoard};
use crate::http::{App, router};
use crate::log_copy;
use crate::roster_store::RosterStores;
use crate::roster_task::{self, RosterTask};
use crate::sink_task::{self, SinkTask};
use crate::source_task::{self, SourceCommand, SourceTask};
use crate::tasks::{TaskBody, Tasks};
use crate::topology::Topology;
use crate::wiring::{SinkWiring, SourceWiring, Wiring};

/// Operators' commands that may wait for a source.
const SOURCE_COMMANDS_MAX: usize = 8;

/// Drafts that are tried at once: each may read every identity of an environment.
const PREVIEWS_MAX: usize = 2;

/// Requests under way are waited for this long at the end.
const HTTP_GRACE: Duration = Duration::from_secs(3);

/// Turns true when the worker should stop.
pub type Shutdown = watch::Receiver<bool>;

/// Runs a worker until `shutdown`. Calls `listening` with the address once HTTP answers.
///
/// # Errors
/// A [`Fault`] when it can't start at all: the topology differs from the log's, the address is taken, a folder can't
/// be opened. What goes wrong later is a task's own affair and shows in its status.
pub async fn run(
    topology: &Topology,
    wiring: Wiring,
    env: fn(&str) -> Option<String>,
    shutdown: Shutdown,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Fault> {
    if let [first, second, ..] = wiring.sources.as_slice() {
        return Err(Fault::config(format!(
            "sources.{}: this version reads one source, and sources.{} is there already: documents of two catalogs \
             would stand under the same keys",
            second.name, first.name
        ))
        .repair("give each source a log and a worker of its own"));
    }
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| Fault::bug("metrics can't be recorded").from_source(e))?;
    let listen = topology.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|e| {
        Fault::config(format!("http.listen: {listen} can't be listened on"))
            .from_source(e)
            .repair("stop what listens there, or give http.listen another port")
    })?;
    let address = listener.local_addr().map_err(|e| Fault::retry("no local address").from_source(e))?;
    log_copy::refuse_unfinished(&*wiring.log).await?;
    let admin = Admin::open(Arc::clone(&wiring.log)).await?;
    if admin.has_agreed().await {
        refuse_difference(&admin.plan(topology).await)?;
    }
    for line in admin.apply(topology).await? {
        info!("{line}");
    }
    let stores = RosterStores::open(&wiring.store_path)?;
    let log = Arc::clone(&wiring.log);
    let (members, mirror) = (wiring.members, wiring.mirror);
    let mut starter = Starter {
        tasks: Tasks::default(),
        handles: Vec::new(),
        paused: admin.paused().await,
        shutdown: shutdown.clone(),
        log: Arc::clone(&log),
    };
    let (catalog, counts) = starter.feeds();
    starter.rosters(&stores, &catalog, wiring.tombstone_retention);
    let sinks = starter.sinks(wiring.sinks);
    let sources = starter.sources(wiring.sources);
    let Starter { tasks, handles, .. } = starter;
    let token = topology.http.token.as_ref().map(|token| token.expose().to_owned());
    let app = App {
        log,
        tasks,
        catalog,
        counts,
        stores,
        admin,
        sources,
        sinks,
        members,
        mirror,
        previews: Semaphore::new(PREVIEWS_MAX),
        token,
        metrics,
        env,
    };
    listening(address);
    let (mut stop, mut stopped) = (shutdown.clone(), shutdown);
    let served = axum::serve(listener, router(Arc::new(app))).with_graceful_shutdown(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    tokio::select! {
        served = served.into_future() => served.map_err(|e| Fault::retry("HTTP ended").from_source(e))?,
        // Who follows a topic never hangs up, and who waits for a task that has stopped waits in vain.
        () = async { let _ = stopped.wait_for(|stop| *stop).await; tokio::time::sleep(HTTP_GRACE).await } => {}
    }
    for handle in handles {
        handle.await.map_err(|e| Fault::bug("a task broke off").from_source(e))?;
    }
    Ok(())
}

/// Starts tasks, in the order of the flow.
struct Starter {
    tasks: Tasks,
    handles: Vec<JoinHandle<()>>,
    paused: BTreeSet<String>,
    shutdown: Shutdown,
    log: Arc<dyn Log>,
}

impl Starter {
    fn start(&mut self, name: &str, body: TaskBody) {
        let paused = self.paused.contains(name);
        self.handles.push(self.tasks.spawn(name, paused, self.shutdown.clone(), body));
    }

    /// The catalog that rosters judge by, and the counts that the API shows.
    fn feeds(&mut self) -> (watch::Receiver<Arc<Catalog>>, CountsBoard) {
        let (publish, catalog) = watch::channel(Arc::new(Catalog::default()));
        let log = Arc::clone(&self.log);
        self.start(
            "catalog",
            Box::new(move |reporter| {
                Box::pin(catalog_feed::follow(Arc::clone(&log), publish.clone(), reporter))
            }),
        );
        let counts = CountsBoard::default();
        let (board, log) = (counts.clone(), Arc::clone(&self.log));
        self.start(
            "counts",
            Box::new(move |reporter| {
                Box::pin(counts_feed::follow(Arc::clone(&log), board.clone(), reporter))
            }),
        );
        (catalog, counts)
    }

    fn rosters(
        &mut self,
        stores: &RosterStores,
        catalog: &watch::Receiver<Arc<Catalog>>,
        retention: Duration,
    ) {
        for partition in (0..self.log.partitions()).map(Partition) {
            let task = RosterTask {
                log: Arc::clone(&self.log),
                stores: stores.clone(),
                partition,
                catalog: catalog.clone(),
                tombstone_retention: retention,
            };
            let name = roster_task::name(partition);
            self.start(&name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
    }

    /// Answers their names, and whether they list members.
    fn sinks(&mut self, sinks: Vec<SinkWiring>) -> Vec<(String, bool)> {
        let mut names = Vec::new();
        for sink in sinks {
            names.push((sink.name.clone(), sink.lists_members));
            let task = SinkTask { log: Arc::clone(&self.log), wiring: Arc::new(sink) };
            let name = sink_task::name(&task.wiring.name);
            self.start(&name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        names
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
            self.start(&name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
        }
        senders
    }
}
