//! `run`: the instance itself, until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::failure::{Failure, Outcome};
use crate::settings::{Settings, variable};
use crate::wire::{Wired, wire};

/// Runs the topology; the first SIGTERM or SIGINT stops it in order.
pub(super) async fn run(settings: &Settings) -> Result<Outcome, Failure> {
    let topology = settings.topology()?;
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
    let Wired { wiring, engines } = wire(&topology).await?;
    let config = settings.path.display().to_string();
    let listening = |address| {
        info!(%address, config, "rollcall runs; how it is: rollcall --config {config} status");
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
