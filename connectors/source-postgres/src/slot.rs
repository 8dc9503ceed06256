//! The slot and the cluster in; a [`Lane`] and the place to start from out, or a refusal.
//!
//! A slot that is not the one we read from starts somewhere else **without an error**: the server then simply sends
//! what comes later. So nothing is started before cluster, timeline and slot are shown to hold everything after the
//! position. `Lane.epoch` is what can be remembered of them:
//!
//! ```text
//! bits 63..40  hash of the system identifier     another cluster: refused
//! bits 39..24  timeline                          a promotion behind our position: refused; else a new lane
//! bits 23..0   hash of the slot's first position a recreated slot: a new lane
//! ```

use rollcall_model::{Fault, Lane, Lsn, NativeId, Point, Position};
use rollcall_postgres_wire::replication::{Replication, SystemIdentity};
use rollcall_postgres_wire::{ConnectConfig, ident, literal, sql_fault};
use tokio_postgres::Client;

use crate::config::PostgresSourceConfig;

/// FNV-1a: the same in every build, which the epoch must be.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const SYSTEM_SHIFT: u32 = 40;
const TIMELINE_SHIFT: u32 = 24;
const SLOT_MASK: u64 = (1 << TIMELINE_SHIFT) - 1;

fn epoch(system: &SystemIdentity, slot: u64) -> u64 {
    let timeline = u64::from(system.timeline & 0xffff);
    hash(&system.system_id) >> SYSTEM_SHIFT << SYSTEM_SHIFT | timeline << TIMELINE_SHIFT | slot & SLOT_MASK
}

/// A slot as the server shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlotState {
    plugin: String,
    database: String,
    active_pid: Option<i32>,
    wal_status: String,
    confirmed: Option<Lsn>,
}

/// Where the stream begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Beginning {
    pub(crate) lane: Lane,
    /// What `START_REPLICATION` is told.
    pub(crate) start: Lsn,
    /// The last commit that is in the log,
    pub(crate) commit: Lsn,
    /// and how far, where it is only in part.
    pub(crate) done: Option<NativeId>,
}

/// How to begin anew.
pub(crate) fn begin_anew(config: &PostgresSourceConfig) -> String {
    format!(
        "rollcall backfill {} (it starts where the slot stands now and reads every identity again)",
        config.name
    )
}

/// How to begin anew when the slot itself is of no more use.
fn recreate(config: &PostgresSourceConfig) -> String {
    format!(
        "SELECT pg_drop_replication_slot({}) where it still exists, then: {}",
        literal(&config.slot),
        begin_anew(config)
    )
}

async fn look(
    config: &PostgresSourceConfig,
    connect: &ConnectConfig,
    client: &Client,
) -> Result<Option<SlotState>, Fault> {
    let sql = "SELECT coalesce(plugin, ''), coalesce(database, ''), active_pid, coalesce(wal_status, ''), \
               confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let row = client
        .query_opt(sql, &[&config.slot])
        .await
        .map_err(|error| sql_fault(connect, "looking at the replication slot", error))?;
    row.map(|row| {
        let confirmed: Option<String> = row.get(4);
        let confirmed = confirmed.map(|text| text.parse()).transpose();
        Ok(SlotState {
            plugin: row.get(0),
            database: row.get(1),
            active_pid: row.get(2),
            wal_status: row.get(3),
            confirmed: confirmed
                .map_err(|_| Fault::retry("Postgres shows a slot position that can't be read"))?,
        })
    })
    .transpose()
}

async fn create(
    config: &PostgresSourceConfig,
    connect: &ConnectConfig,
    client: &Client,
) -> Result<Lsn, Fault> {
    tracing::info!(
        slot = config.slot,
        "making the replication slot; this waits for the transactions running now"
    );
    let sql =
        "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
    let row = client
        .query_one(sql, &[&config.slot])
        .await
        .map_err(|error| sql_fault(connect, "making the replication slot", error))?;
    row.get::<_, String>(0)
        .parse()
        .map_err(|_| Fault::retry("Postgres made a slot at a position that can't be read"))
}

/// Refuses what can't be gone on with; gives the place to start from.
///
/// # Errors
/// `Refused` with the repair; `Retry` while another connection reads the slot.
pub(crate) async fn begin(
    config: &PostgresSourceConfig,
    connect: &ConnectConfig,
    client: &Client,
    replication: &mut Replication,
    from: Option<&Position>,
) -> Result<Beginning, Fault> {
    let system = replication.identify().await?;
    let slot = look(config, connect, client).await?;
    let lane =
        |slot| Lane { source: config.name.clone(), stream: config.slot.clone(), epoch: epoch(&system, slot) };
    let Some(position) = from else {
        let confirmed = match slot {
            Some(slot) => slot.check(config, connect)?,
            None => create(config, connect, client).await?,
        };
        let lane = lane(hash(&confirmed.to_string()));
        return Ok(Beginning { lane, start: confirmed, commit: confirmed, done: None });
    };
    let Point::Postgres { commit, done } = &position.point else {
        return Err(Fault::refused(format!(
            "the position {position} of source {} is none of Postgres",
            config.name
        ))
        .repair(begin_anew(config)));
    };
    let (commit, whole) = (*commit, done.is_none());
    same_cluster(config, &system, position)?;
    same_history(config, replication, &system, position, commit).await?;
    if system.wal_end < commit {
        return Err(Fault::refused(format!(
            "Postgres stands at {}, before our position {position} of source {}: it was restored from an older state",
            system.wal_end, config.name
        ))
        .repair(recreate(config)));
    }
    let Some(slot) = slot else {
        return Err(Fault::refused(format!(
            "the replication slot {} is gone, and with it the changes since {position}",
            ident(&config.slot)
        ))
        .repair(begin_anew(config)));
    };
    let confirmed = slot.check(config, connect)?;
    if confirmed > commit || (!whole && confirmed >= commit) {
        return Err(Fault::refused(format!(
            "the replication slot {} stands at {confirmed}, past our position {position}: it was recreated or read by another, \
             and the changes between are not to be had",
            ident(&config.slot)
        ))
        .repair(begin_anew(config)));
    }
    Ok(Beginning {
        lane: lane(position.lane.epoch),
        // A transaction of which a part is in the log has to come again.
        start: if whole { commit } else { confirmed },
        commit,
        done: done.clone(),
    })
}

fn same_cluster(
    config: &PostgresSourceConfig,
    system: &SystemIdentity,
    position: &Position,
) -> Result<(), Fault> {
    if position.lane.source != config.name || position.lane.stream != config.slot {
        return Err(Fault::refused(format!(
            "the position {position} belongs to {}, not to slot {} of source {}",
            position.lane, config.slot, config.name
        ))
        .repair(begin_anew(config)));
    }
    if position.lane.epoch >> SYSTEM_SHIFT == hash(&system.system_id) >> SYSTEM_SHIFT {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "source {} points at another Postgres cluster (system identifier {}) than the one its position {position} stems from",
        config.name, system.system_id
    ))
    .repair(format!("correct the url; or, if the new cluster is meant: {}", begin_anew(config))))
}

/// After a promotion or a recovery to a point in time, what we hold must lie before the fork.
async fn same_history(
    config: &PostgresSourceConfig,
    replication: &mut Replication,
    system: &SystemIdentity,
    position: &Position,
    commit: Lsn,
) -> Result<(), Fault> {
    let known = (position.lane.epoch >> TIMELINE_SHIFT) as u32 & 0xffff;
    if known == system.timeline & 0xffff {
        return Ok(());
    }
    let history = replication.timeline_history(system.timeline).await?;
    let fork = history.iter().find(|(timeline, _)| timeline & 0xffff == known).map(|(_, end)| *end);
    if fork.is_some_and(|fork| commit <= fork) {
        tracing::info!(source = %config.name, timeline = system.timeline, "Postgres was promoted; nothing was lost");
        return Ok(());
    }
    let fork = fork.map_or_else(|| "unknown".to_owned(), |fork| fork.to_string());
    Err(Fault::refused(format!(
        "Postgres went from timeline {known} to {} at {fork}, before our position {position}: the log holds changes that its history no longer has",
        system.timeline
    ))
    .repair(begin_anew(config)))
}

impl SlotState {
    /// The slot's position, if the slot can be read.
    fn check(&self, config: &PostgresSourceConfig, connect: &ConnectConfig) -> Result<Lsn, Fault> {
        let slot = ident(&config.slot);
        let another = |what: String| {
            Fault::refused(what).repair(format!("choose another slot name for source {}", config.name))
        };
        if self.plugin != "pgoutput" {
            return Err(another(format!("the replication slot {slot} is not one of pgoutput")));
        }
        if self.database != connect.dbname {
            return Err(another(format!(
                "the replication slot {slot} belongs to the database '{}'",
                self.database
            )));
        }
        if self.wal_status == "lost" {
            return Err(Fault::refused(format!(
                "Postgres has invalidated the replication slot {slot}: it had to keep more WAL than max_slot_wal_keep_size"
            ))
            .repair(format!("{}; and raise max_slot_wal_keep_size", recreate(config))));
        }
        if let Some(pid) = self.active_pid {
            return Err(in_use(config, Some(pid)));
        }
        self.confirmed.ok_or_else(|| another(format!("the replication slot {slot} has no position")))
    }
}

/// Marks the fault of a slot that another connection reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("another connection reads it")]
pub(crate) struct InUse;

/// Another connection reads the slot: perhaps our own of before, which the server has not yet noticed to be gone.
pub(crate) fn in_use(config: &PostgresSourceConfig, pid: Option<i32>) -> Fault {
    let by = pid.map_or_else(String::new, |pid| format!(" by the Postgres process {pid}"));
    let what = format!("the replication slot {} is in use{by}", ident(&config.slot));
    let fault = Fault::retry(what).from_source(InUse);
    match pid {
        Some(pid) => fault.repair(format!(
            "stop the other reader (SELECT pg_terminate_backend({pid})), or choose another slot name for source {}",
            config.name
        )),
        None => fault.repair("stop the other reader, or choose another slot name"),
    }
}
