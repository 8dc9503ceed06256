//! What a Postgres source is told.

use std::fmt;
use std::path::PathBuf;

use rollcall_model::{SourceName, TableSpec};

/// The schema that the platform's tables live in.
pub const DEFAULT_SCHEMA: &str = "public";
/// Above so many rows a transaction is spilled: with typical rows of 150 bytes that is below 16 MiB in memory.
pub const DEFAULT_LARGE_TRANSACTION_ROWS: usize = 50_000;
/// Above so many bytes a transaction is spilled, whatever its rows.
pub const DEFAULT_LARGE_TRANSACTION_BYTES: usize = 16 << 20;
/// A piece of a large transaction has about so many rows: one commit of the log.
pub const DEFAULT_PIECE_ROWS: usize = 10_000;
/// Identities per page of a backfill: a page is one commit of the log, and its rows wait in memory for their mark.
pub const DEFAULT_PAGE_ROWS: usize = 1_000;
/// Pages read ahead of their marks, so that reading doesn't wait for the stream.
pub const DEFAULT_PAGES_IN_FLIGHT: usize = 4;
/// Above so many bytes of retained transactions no further page is read until they are forgotten.
pub const DEFAULT_RETAINED_BYTES_MAX: usize = 64 << 20;
/// How often a heartbeat goes through the WAL, so that an idle database moves the slot too.
pub const DEFAULT_HEARTBEAT_MS: u64 = 5_000;

/// What a Postgres source is told. `Debug` shows no url, since that holds the password.
#[derive(Clone)]
pub struct PostgresSourceConfig {
    /// Its name in topology.yaml.
    pub name: SourceName,
    /// `postgres://…` of the database, as a role with REPLICATION and SELECT on the tables.
    pub url: String,
    /// The schema of the tables.
    pub schema: String,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The tables that the platform reads: exactly one of role `Identity`.
    pub tables: Vec<TableSpec>,
    /// Above so many rows a transaction is spilled.
    pub large_transaction_rows: usize,
    /// Above so many bytes a transaction is spilled.
    pub large_transaction_bytes: usize,
    /// Rows of a piece of a large transaction; an identity is never split.
    pub piece_rows: usize,
    /// Where large transactions are spilled to.
    pub spill_dir: PathBuf,
    /// Identities per page of a backfill.
    pub page_rows: usize,
    /// Pages read ahead of their marks.
    pub pages_in_flight: usize,
    /// Bound of the transactions kept for pages in flight.
    pub retained_bytes_max: usize,
    /// Pause between heartbeats; 0 turns them off.
    pub heartbeat_ms: u64,
}

impl PostgresSourceConfig {
    /// With the defaults of this module.
    #[must_use]
    pub fn new(
        name: SourceName,
        url: impl Into<String>,
        slot: impl Into<String>,
        publication: impl Into<String>,
        tables: Vec<TableSpec>,
        spill_dir: PathBuf,
    ) -> Self {
        Self {
            name,
            url: url.into(),
            schema: DEFAULT_SCHEMA.to_owned(),
            slot: slot.into(),
            publication: publication.into(),
            tables,
            large_transaction_rows: DEFAULT_LARGE_TRANSACTION_ROWS,
            large_transaction_bytes: DEFAULT_LARGE_TRANSACTION_BYTES,
            piece_rows: DEFAULT_PIECE_ROWS,
            spill_dir,
            page_rows: DEFAULT_PAGE_ROWS,
            pages_in_flight: DEFAULT_PAGES_IN_FLIGHT,
            retained_bytes_max: DEFAULT_RETAINED_BYTES_MAX,
            heartbeat_ms: DEFAULT_HEARTBEAT_MS,
        }
    }
}

impl fmt::Debug for PostgresSourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSourceConfig")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .field("tables", &self.tables.iter().map(|table| table.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
