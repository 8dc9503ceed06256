//! One connection, made again when it breaks, and the transactions on it.
//!
//! ```text
//! Owned     BEGIN · limits · row of rollcall_count_log FOR UPDATE     write, reconcile, reset: one after the other
//! Snapshot  BEGIN REPEATABLE READ READ ONLY                          check: reads one cut, waits for nobody
//! ```
//!
//! One lock for the whole ledger is no loss: two batches of one moment touch the same busy count rows and would wait
//! for each other there. It makes each statement see everything that earlier batches committed (READ COMMITTED takes
//! a snapshot per statement, and the lock comes first), and it is where another log's writer is found out.

use rollcall_model::{Fault, LogId};
use rollcall_postgres_wire::{ConnectConfig, connect, ident};
use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage, Transaction};

use crate::faults::fault;
use crate::tables::{foreign_log, not_prepared};

/// How long a statement waits for a lock. Half of Postgres' default `deadlock_timeout` of 1 s: in a deadlock with the
/// platform it is we who give way and try again.
const LOCK_TIMEOUT_MS: u32 = 500;
/// A statement over 100,000 rows takes seconds; more than this is a server in trouble.
const STATEMENT_TIMEOUT_MS: u32 = 120_000;
/// A worker that was cut off in mid-transaction must not hold the ledger for ever.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 30_000;

/// The connection of a sink.
#[derive(Debug)]
pub(crate) struct Session {
    config: ConnectConfig,
    schema: String,
    client: Option<Client>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(config: ConnectConfig, schema: String) -> Result<Self, Fault> {
        let mut session = Self { config, schema, client: None };
        session.client().await?;
        Ok(session)
    }

    /// The connection, made again if it broke.
    async fn client(&mut self) -> Result<&mut Client, Fault> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            Some(_) | None => connect(&self.config).await?,
        };
        Ok(self.client.insert(client))
    }

    /// What a transaction is bound to. Compiling plans would cost more than the statements do; a role whose commits
    /// are not durable would make `Ok` a lie.
    fn limits(&self) -> String {
        format!(
            "SET LOCAL search_path TO {schema}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
             SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; \
             SET LOCAL idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_TIMEOUT_MS}; \
             SET LOCAL jit = off; \
             SELECT set_config('synchronous_commit', 'on', true) \
             WHERE current_setting('synchronous_commit') = 'off';",
            schema = ident(&self.schema)
        )
    }

    /// A transaction without the ledger's lock, for making and looking at tables.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_>, Fault> {
        let limits = self.limits();
        let doing = |e| fault("beginning a transaction", e);
        let tx = self.client().await?.transaction().await.map_err(doing)?;
        tx.batch_execute(&limits).await.map_err(doing)?;
        Ok(tx)
    }

    /// A transaction that holds the ledger's lock; `log` must own the ledger.
    pub(crate) async fn begin_owned(&mut self, log: &LogId) -> Result<Transaction<'_>, Fault> {
        let limits = self.limits();
        let doing = |e| fault("locking the ledger rollcall_count_log", e);
        let tx = self.client().await?.transaction().await.map_err(doing)?;
        // One round trip: limits, then the lock.
        let answer = tx
            .simple_query(&format!("{limits} SELECT log_id FROM rollcall_count_log FOR UPDATE"))
            .await
            .map_err(doing)?;
        let owner = answer.iter().rev().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            row.try_get("log_id").ok().flatten().map(str::to_owned)
        });
        owned(owner.as_deref(), log)?;
        Ok(tx)
    }

    /// A reading transaction in which every statement sees one cut; `log` must own the ledger.
    pub(crate) async fn begin_snapshot(&mut self, log: &LogId) -> Result<Transaction<'_>, Fault> {
        let limits = self.limits();
        let doing = |e| fault("beginning to read", e);
        let client = self.client().await?;
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(doing)?;
        tx.batch_execute(&limits).await.map_err(doing)?;
        let row = tx.query_typed_opt("SELECT log_id FROM rollcall_count_log", &[]).await.map_err(doing)?;
        let owner: Option<String> = row.map(|row| row.try_get(0)).transpose().map_err(doing)?;
        owned(owner.as_deref(), log)?;
        Ok(tx)
    }
}

/// Whether the ledger is this log's.
fn owned(owner: Option<&str>, log: &LogId) -> Result<(), Fault> {
    match owner {
        Some(owner) if owner == log.0 => Ok(()),
        Some(owner) => Err(foreign_log(owner, log)),
        None => Err(not_prepared()),
    }
}
