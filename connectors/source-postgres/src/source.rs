//! A [`PostgresSourceConfig`] and a position in, a running [`PostgresSource`] out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rollcall_model::log::Fut;
use rollcall_model::source::BackfillPlan;
use rollcall_model::{Fault, Lsn, NativeId, Point, Position, Saved, Source, SourceEvent};
use rollcall_postgres_wire::replication::{Replication, ReplicationStream, Standby};
use rollcall_postgres_wire::{ConnectConfig, OBJECT_IN_USE, ServerError, connect, ident, sql_fault};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::backfill::Pages;
use crate::config::PostgresSourceConfig;
use crate::fold::{Fold, Limits};
use crate::heartbeat::beat;
use crate::outbox::{Outbox, Parcel};
use crate::preflight::{fault, look, one_identity_table};
use crate::relation::Relations;
use crate::slot::{Beginning, InUse, begin, in_use};
use crate::stream::{Reached, Stream};

/// How often and how long a slot that is still in use is tried again before that is a fault: a server takes a moment
/// to notice that our connection of before is gone.
const IN_USE_TRIES_MAX: u32 = 10;
const IN_USE_PAUSE_MS: u64 = 200;

/// A running source. Dropping it closes its connections and frees the slot.
#[derive(Debug)]
pub struct PostgresSource {
    events: mpsc::Receiver<Parcel>,
    standby: Standby,
    reached: Arc<Reached>,
    plans: watch::Sender<Option<BackfillPlan>>,
    tasks: Vec<JoinHandle<()>>,
    beginning: Position,
}

impl PostgresSource {
    /// Checks everything, then starts the stream after `from`; with `None` from where the slot stands, which is made
    /// where it is missing.
    ///
    /// # Errors
    /// `Config` for what must be set up, `Refused` for what would be a guess, `Retry` for what may pass; each names
    /// its repair.
    pub async fn start(
        config: PostgresSourceConfig,
        from: Option<Position>,
        backfill: Option<BackfillPlan>,
    ) -> Result<Self, Fault> {
        let connect_config = ConnectConfig::parse(&config.url)?;
        one_identity_table(&config)?;
        let client = connect(&connect_config).await?;
        if let Some(fault) = fault(&config, &look(&config, &connect_config, &client).await?) {
            return Err(fault);
        }
        let (beginning, replication) =
            Box::pin(start_stream(&config, &connect_config, &client, from.as_ref())).await?;
        let near_xid: i64 = client
            .query_one(
                "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint",
                &[],
            )
            .await
            .map_err(|error| sql_fault(&connect_config, "asking for a transaction id", error))?
            .get(0);
        let (outbox, events) = Outbox::new();
        let (plans, plan) = watch::channel(backfill);
        let reached = Arc::new(Reached::default());
        let standby = replication.standby();
        let Beginning { lane, commit, done, start: _ } = beginning;
        reached.yielded.store(commit.0, Ordering::Release);
        let stream = Stream {
            replication,
            relations: Relations::new(&config.name, &config.schema, &config.tables),
            fold: Fold::new(Limits {
                rows: config.large_transaction_rows.max(1),
                bytes: config.large_transaction_bytes.max(1),
                spill_dir: config.spill_dir.clone(),
            }),
            outbox,
            lane: lane.clone(),
            done: (commit, done.as_ref().and_then(integer)),
            piece_rows: config.piece_rows.max(1),
            reached: Arc::clone(&reached),
            plans: plan,
            pages: Pages::new(&config, &connect_config),
            near_xid: u64::try_from(near_xid).unwrap_or_default(),
        };
        let mut tasks = vec![tokio::spawn(stream.run())];
        if config.heartbeat_ms > 0 {
            let pause = Duration::from_millis(config.heartbeat_ms);
            tasks.push(tokio::spawn(beat(connect_config, pause, Arc::clone(&reached))));
        }
        let beginning = Position { lane, point: Point::Postgres { commit, done } };
        Ok(Self { events, standby, reached, plans, tasks, beginning })
    }

    /// Where the stream began: the position given, in the lane it has now, or the slot's.
    #[must_use]
    pub fn beginning(&self) -> &Position {
        &self.beginning
    }
}

fn integer(id: &NativeId) -> Option<i64> {
    match id {
        NativeId::Int(id) => Some(*id),
        NativeId::Text(_) => None,
    }
}

async fn start_stream(
    config: &PostgresSourceConfig,
    connect_config: &ConnectConfig,
    client: &tokio_postgres::Client,
    from: Option<&Position>,
) -> Result<(Beginning, ReplicationStream), Fault> {
    let publications = ident(&config.publication);
    let options =
        [("proto_version", "1"), ("publication_names", publications.as_str()), ("messages", "true")];
    let mut tries = 0;
    loop {
        let mut replication = Replication::connect(connect_config).await?;
        let begun = begin(config, connect_config, client, &mut replication, from).await;
        let started = match begun {
            Ok(beginning) => replication
                .start(&config.slot, beginning.start, &options)
                .await
                .map(|stream| (beginning, stream))
                .map_err(|fault| slot_fault(config, fault)),
            Err(fault) => Err(fault),
        };
        tries += 1;
        match started {
            Err(fault) if is_in_use(&fault) && tries < IN_USE_TRIES_MAX => {
                tokio::time::sleep(Duration::from_millis(IN_USE_PAUSE_MS)).await;
            }
            other => return other,
        }
    }
}

fn is_in_use(fault: &Fault) -> bool {
    fault.source.as_ref().is_some_and(|source| {
        source.is::<InUse>()
            || source.downcast_ref::<ServerError>().is_some_and(|error| error.code == OBJECT_IN_USE)
    })
}

/// Says of a refused `START_REPLICATION` what it is about.
fn slot_fault(config: &PostgresSourceConfig, fault: Fault) -> Fault {
    if is_in_use(&fault) {
        let mut named = in_use(config, None);
        named.source = fault.source;
        return named;
    }
    let mut fault = fault;
    fault.what = format!("reading the replication slot {}: {}", ident(&config.slot), fault.what);
    fault
}

impl Source for PostgresSource {
    fn next(&mut self) -> Fut<'_, SourceEvent> {
        Box::pin(async {
            match self.events.recv().await {
                Some(parcel) => parcel.event,
                None => Err(Fault::retry("the Postgres source has ended")),
            }
        })
    }

    fn release<'a>(&'a mut self, saved: &'a Saved) -> Fut<'a, ()> {
        Box::pin(async {
            let position = saved.position();
            // Positions of another lane, such as one before a promotion, say nothing here.
            if position.lane == self.beginning.lane {
                match &position.point {
                    Point::Postgres { commit, done: None } => self.standby.saved(*commit),
                    // A part of a transaction: the server still has to have the whole of it.
                    Point::Postgres { done: Some(_), .. } => {}
                    // No lane of ours has any.
                    Point::Dynamodb { .. } => {}
                }
            }
            Ok(())
        })
    }

    fn backfill(&mut self, plan: Option<BackfillPlan>) -> Result<(), Fault> {
        self.plans.send(plan).map_err(|_| Fault::retry("the Postgres source has ended"))
    }

    fn lag_bytes(&self) -> Option<u64> {
        let server = self.reached.server.load(Ordering::Acquire).max(self.standby.received().0);
        let Lsn(yielded) = Lsn(self.reached.yielded.load(Ordering::Acquire));
        Some(server.saturating_sub(yielded))
    }
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
