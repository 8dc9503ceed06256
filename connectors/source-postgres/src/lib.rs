//! Postgres as a source: committed rows of the platform's tables in commit order, and pages of whole identities
//! beside them.
//!
//! ```text
//!              ┌────────── postgres-wire ──────────┐
//! walsender ──▶│ large reads ─▶ chunks of messages │──▶ decode ──▶ relation ──▶ fold ──▶ stream ──▶ outbox ──▶ next
//!     ▲        └───────────────────────────────────┘                            │ spill     ▲
//!     └── standby status: saved ◀── release                                                │ marks
//! backend   ──REPEATABLE READ──▶ page ──▶ backfill (page + rows it could not see) ─────────┘
//! backend   ◀── heartbeat
//! ```
//!
//! What flows in: pgoutput messages of committed transactions, in commit order. What flows out:
//! [`rollcall_model::SourceEvent`]s at a [`rollcall_model::Position`], folded by identity. Why it is right is said
//! where it is done: [`stream`](crate::PostgresSource) for progress, `slot` for refusals, `fold` and `spill` for
//! transactions, `page` and `backfill` for pages.

mod backfill;
mod cell;
mod config;
mod decode;
mod fold;
mod heartbeat;
mod outbox;
mod overlay;
mod page;
mod preflight;
mod relation;
mod setup;
mod slot;
mod snapshot;
mod source;
mod spill;
mod stream;

pub use config::{
    DEFAULT_HEARTBEAT_MS, DEFAULT_LARGE_TRANSACTION_BYTES, DEFAULT_LARGE_TRANSACTION_ROWS, DEFAULT_PAGE_ROWS,
    DEFAULT_PAGES_IN_FLIGHT, DEFAULT_PIECE_ROWS, DEFAULT_RETAINED_BYTES_MAX, DEFAULT_SCHEMA,
    PostgresSourceConfig,
};
pub use preflight::{Finding, preflight};
pub use setup::{apply_setup, setup_sql, teardown};
pub use source::PostgresSource;
