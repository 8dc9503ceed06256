//! Findings in; a database that has what a source needs, and nothing more, out. And the way back.

use rollcall_model::Fault;
use rollcall_postgres_wire::{ConnectConfig, connect, ident, sql_fault};

use crate::config::PostgresSourceConfig;
use crate::preflight::{Finding, look, preflight};
use crate::slot::in_use;

/// The SQL that is still missing, in order: settings, grants of least privilege, replica identities, publication.
///
/// # Errors
/// A [`Fault`] when the database can't be reached or asked.
pub async fn setup_sql(config: &PostgresSourceConfig) -> Result<Vec<String>, Fault> {
    Ok(preflight(config).await?.into_iter().flat_map(|finding| finding.sql).collect())
}

/// Runs what [`setup_sql`] shows; gives what SQL alone could not repair (a restart, a missing table).
///
/// # Errors
/// A [`Fault`] with the statement that failed; a role that lacks the right is told to have another one run it.
pub async fn apply_setup(config: &PostgresSourceConfig) -> Result<Vec<Finding>, Fault> {
    let connect_config = ConnectConfig::parse(&config.url)?;
    let client = connect(&connect_config).await?;
    for sql in look(config, &connect_config, &client).await?.into_iter().flat_map(|finding| finding.sql) {
        tracing::info!(source = %config.name, sql, "setting up");
        client.batch_execute(&sql).await.map_err(|error| {
            sql_fault(&connect_config, &format!("setting up with {sql}"), error).repair(format!(
                "have the owner of the tables run it: rollcall setup {} --print-sql",
                config.name
            ))
        })?;
    }
    look(config, &connect_config, &client).await
}

/// Drops the slot, which would pin WAL for ever, and the publication. What is not there is no fault.
///
/// # Errors
/// `Retry` while something reads the slot; a [`Fault`] when a right is missing.
pub async fn teardown(config: &PostgresSourceConfig) -> Result<(), Fault> {
    let connect_config = ConnectConfig::parse(&config.url)?;
    let client = connect(&connect_config).await?;
    let failed = |error| sql_fault(&connect_config, "dropping the slot", error);
    let sql = "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let slot = client.query_opt(sql, &[&config.slot]).await.map_err(failed)?;
    if let Some(slot) = slot {
        if let Some(pid) = slot.get::<_, Option<i32>>(0) {
            return Err(in_use(config, Some(pid)));
        }
        let sql = "SELECT pg_catalog.pg_drop_replication_slot($1::text::name)";
        client.query(sql, &[&config.slot]).await.map_err(failed)?;
    }
    let sql = format!("DROP PUBLICATION IF EXISTS {}", ident(&config.publication));
    client.batch_execute(&sql).await.map_err(|error| {
        sql_fault(&connect_config, "dropping the publication; the slot is gone, so no WAL is kept", error)
            .repair(format!("have the owner of the publication run it: {sql}"))
    })
}
