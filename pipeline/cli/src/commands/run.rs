//! `run`: a worker, until it is told to stop.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rollcall_model::FaultKind;
use rollcall_runtime::topology::{LogConfig, Topology};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::failure::{Failure, Outcome};
use crate::settings::{Settings, variable};
use crate::wire::{Wired, wire};

/// Between tries to reach brokers that are down when a worker starts.
const TRY_AGAIN_MIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(15);

/// Run the topology until SIGTERM or Ctrl-C
///
/// With the log on Kafka, start as many workers as you like, on as many machines: they share the tasks, and take over
/// from one that dies. Give each an id of its own that it keeps over restarts.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// This worker's name among those of the log; the host's name by default
    #[arg(long, value_name = "ID", env = "ROLLCALL_WORKER_ID", value_parser = worker_id)]
    worker_id: Option<String>,
    /// Answer HTTP here rather than at http.listen: for a second worker on a machine
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

fn worker_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 100 || !text.chars().all(plain) || text.starts_with('.') {
        return Err("a worker's id has letters, digits, '-', '_' and '.', at most 100".to_owned());
    }
    Ok(text.to_owned())
}

impl Run {
    /// Runs the topology; the first SIGTERM or SIGINT stops it in order.
    pub(super) async fn execute(self, settings: &Settings) -> Result<Outcome, Failure> {
        let mut topology = settings.topology()?;
        if let Some(listen) = self.listen {
            if !listen.ip().is_loopback() && topology.http.token.is_none() {
                return Err(Failure::Use(format!(
                    "--listen {listen} is reachable from elsewhere and shows personal data: set http.token first"
                )));
            }
            topology.http.listen = listen;
        }
        let worker = self.worker(&topology)?;
        let (stop, stopped) = watch::channel(false);
        // Before anything starts: a signal that comes early must not kill it half-way.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            info!("{name}: stopping");
            stop.send_replace(true);
            // The sender lives as long as tasks may look at it.
            stop.closed().await;
        });
        let Some(Wired { wiring, engines }) = wired(&topology, &worker, stopped.clone()).await? else {
            info!("stopped");
            return Ok(Outcome::Done);
        };
        let config = settings.path.display().to_string();
        let listening = |address| {
            info!(%address, config, worker, "rollcall runs; how it is: rollcall --config {config} status");
        };
        let ran = Box::pin(rollcall_runtime::run(&topology, wiring, variable, stopped, listening)).await;
        for engine in engines {
            if let Err(fault) = engine.stop().await {
                warn!("{fault}");
            }
        }
        ran?;
        info!("stopped");
        Ok(Outcome::Done)
    }

    fn worker(self, topology: &Topology) -> Result<String, Failure> {
        match (&topology.log, self.worker_id) {
            (LogConfig::Embedded(_), None) => Ok("worker".to_owned()),
            (LogConfig::Embedded(_), Some(_)) => Err(Failure::Use(
                "--worker-id: the embedded log has one worker; with log.type kafka there can be more"
                    .to_owned(),
            )),
            (LogConfig::Kafka(_), Some(id)) => Ok(id),
            (LogConfig::Kafka(_), None) => {
                let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
                worker_id(host.trim()).map_err(|_| {
                    Failure::Use(
                        "this machine's name is no worker's id: rollcall run --worker-id ID".to_owned(),
                    )
                })
            }
        }
    }
}

/// Everything that runs, as soon as the log can be reached; `None` when told to stop before.
async fn wired(
    topology: &Topology,
    worker: &str,
    mut stopped: watch::Receiver<bool>,
) -> Result<Option<Wired>, Failure> {
    let mut pause = TRY_AGAIN_MIN;
    loop {
        match wire(topology, worker).await {
            Ok(wired) => return Ok(Some(wired)),
            // Kafka may start after its clients, or be away for a while.
            Err(fault) if fault.kind == FaultKind::Retry && matches!(topology.log, LogConfig::Kafka(_)) => {
                warn!(again_in_s = pause.as_secs(), "{fault}");
            }
            Err(fault) => return Err(fault.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(TRY_AGAIN_MAX),
            _ = stopped.wait_for(|stop| *stop) => return Ok(None),
        }
    }
}
