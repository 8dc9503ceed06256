//! The wire to Postgres, shared by the source and the counts sink: a URL in; an SQL client or a replication stream
//! out; whatever is wrong as a [`rollcall_model::Fault`] that names its repair.
//!
//! ```text
//! url ──ConnectConfig::parse──▶ stream (TCP | Unix | TLS, as sslmode says)
//!                                 ├──▶ connect            tokio_postgres::Client for SQL
//!                                 └──▶ replication        own framing with large reads, for START_REPLICATION
//! ```
//!
//! Both ways open their bytes through the same stream, so that `sslmode` means the same everywhere.

mod config;
mod fault;
pub mod replication;
mod sql;
mod startup;
mod stream;
pub mod text;
mod tls;

pub use config::{ConnectConfig, DEFAULT_APPLICATION_NAME, DEFAULT_CONNECT_TIMEOUT_SECS, SslMode};
pub use fault::{OBJECT_IN_USE, ServerError, UNDEFINED_OBJECT, ident, literal, sql_fault};
pub use sql::connect;
