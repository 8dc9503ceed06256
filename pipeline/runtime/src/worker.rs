//! Starts what a topology says, serves HTTP, and stops it all in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rollcall_model::{Fault, Partition};
use rollcall_roster::Catalog;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::admin::{Admin, refuse_difference};
use crate::catalog_feed;
use crate::counts_feed::{self, CountsBoard};
use crate::http::{App, router};
use crate::roster_store::RosterStores;
use crate::roster_task::{self, RosterTask};
use crate::sink_task::{self, SinkTask};
use crate::source_task::{self, SourceTask};
use crate::tasks::{TaskBody, Tasks};
use crate::topology::Topology;
use crate::wiring::Wiring;

/// Operators' commands that may wait for a source.
const SOURCE_COMMANDS_MAX: usize = 8;

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
    let admin = Admin::open(Arc::clone(&wiring.log)).await?;
    if admin.has_agreed().await {
        refuse_difference(&admin.plan(topology).await)?;
    }
    for line in admin.apply(topology).await? {
        info!("{line}");
    }
    let stores = RosterStores::open(&wiring.store_path)?;
    let counts = CountsBoard::default();
    let (publish, catalog) = watch::channel(Arc::new(Catalog::default()));
    let mut tasks = Tasks::default();
    let mut handles = Vec::new();
    let paused = admin.paused().await;
    let mut start = |name: &str, body: TaskBody| {
        handles.push(tasks.spawn(name, paused.contains(name), shutdown.clone(), body));
    };
    let log = Arc::clone(&wiring.log);
    let (feed_log, feed) = (Arc::clone(&log), publish);
    start(
        "catalog",
        Box::new(move |reporter| {
            Box::pin(catalog_feed::follow(Arc::clone(&feed_log), feed.clone(), reporter))
        }),
    );
    let (board, board_log) = (counts.clone(), Arc::clone(&log));
    start(
        "counts",
        Box::new(move |reporter| {
            Box::pin(counts_feed::follow(Arc::clone(&board_log), board.clone(), reporter))
        }),
    );
    for partition in (0..log.partitions()).map(Partition) {
        let task = RosterTask {
            log: Arc::clone(&log),
            stores: stores.clone(),
            partition,
            catalog: catalog.clone(),
            tombstone_retention: wiring.tombstone_retention,
        };
        start(&roster_task::name(partition), Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
    }
    let mut sinks = Vec::new();
    for sink in wiring.sinks {
        sinks.push((sink.name.clone(), sink.lists_members));
        let task = SinkTask { log: Arc::clone(&log), wiring: Arc::new(sink) };
        let name = sink_task::name(&task.wiring.name);
        start(&name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
    }
    let mut sources = BTreeMap::new();
    for source in wiring.sources {
        let (sender, receiver) = mpsc::channel(SOURCE_COMMANDS_MAX);
        sources.insert(source.name.to_string(), sender);
        let commands = Arc::new(tokio::sync::Mutex::new(receiver));
        let task = SourceTask { log: Arc::clone(&log), wiring: Arc::new(source), commands };
        let name = source_task::name(task.wiring.name.as_str());
        start(&name, Box::new(move |reporter| Box::pin(task.clone().run(reporter))));
    }
    let token = topology.http.token.as_ref().map(|token| token.expose().to_owned());
    let members = wiring.members;
    let app =
        App { log, tasks, catalog, counts, stores, admin, sources, sinks, members, token, metrics, env };
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
