//! A side connection that writes a small message into the WAL now and then: an idle table never pins WAL, and the
//! server's position is heard even when nothing else comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rollcall_model::Lsn;
use rollcall_postgres_wire::{ConnectConfig, connect};
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use crate::stream::Reached;

/// The prefix of all our messages.
pub(crate) const PREFIX: &str = "rollcall";

/// Runs until it is aborted. A failure is not the stream's: it is tried again at the next beat.
pub(crate) async fn beat(connect_config: ConnectConfig, pause: Duration, reached: Arc<Reached>) {
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client: Option<Client> = None;
    loop {
        tick.tick().await;
        let open = match client.take() {
            Some(open) if !open.is_closed() => open,
            _ => match connect(&connect_config).await {
                Ok(open) => open,
                Err(fault) => {
                    tracing::warn!(%fault, "no heartbeat");
                    continue;
                }
            },
        };
        let sql = "SELECT pg_catalog.pg_logical_emit_message(false, $1, 'heartbeat')::text";
        match open.query_one(sql, &[&PREFIX]).await {
            Ok(row) => {
                if let Ok(Lsn(at)) = row.get::<_, String>(0).parse() {
                    reached.server.fetch_max(at, Ordering::AcqRel);
                }
                client = Some(open);
            }
            Err(error) => tracing::warn!(%error, "no heartbeat"),
        }
    }
}
