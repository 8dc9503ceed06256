//! Real servers for tests: what `tests/servers/install` fetched, started on free loopback ports in temporary folders.
//!
//! In: the cache folder (`$ROLLCALL_SERVERS`, default `$HOME/.cache/rollcall/servers`). Out: a running [`Postgres`],
//! [`ClickHouse`], [`Kafka`], [`DynamoDb`], [`Ministack`] or [`S3`] that stops by its own process id when it is dropped. A server that is
//! missing makes the test fail and say which command brings it; nothing here skips.
//!
//! This crate is for tests alone, so it panics where a test should fail.

mod clickhouse;
mod dynamo_api;
mod dynamodb;
mod http;
mod kafka;
mod ministack;
mod postgres;
mod process;
mod s3;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

pub use clickhouse::ClickHouse;
pub use dynamodb::DynamoDb;
pub use kafka::{AclOperation, AclResource, Kafka, KafkaSettings};
pub use ministack::{Ministack, MinistackSettings};
pub use postgres::{PgVersion, Postgres};
pub use s3::S3;

/// The folder that `tests/servers/install` fills.
#[must_use]
pub fn cache() -> PathBuf {
    let named = std::env::var_os("ROLLCALL_SERVERS").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let home = std::env::var_os("HOME")
            .expect("HOME is set, or ROLLCALL_SERVERS names the servers' cache folder");
        PathBuf::from(home).join(".cache/rollcall/servers")
    })
}

/// A file of the cache folder.
///
/// # Panics
/// If it is missing: says what brings it.
#[must_use]
pub fn cached(path: &str) -> PathBuf {
    let file = cache().join(path);
    assert!(file.exists(), "{} is missing. Fetch the servers with: make servers", file.display());
    file
}

/// The Python that has the reference rules engine (`flag_engine`).
#[must_use]
pub fn python() -> PathBuf {
    cached("venv/bin/python")
}

/// The Python that has other people's readers of Parquet: `duckdb` and `pyarrow`.
#[must_use]
pub fn readers_python() -> PathBuf {
    cached("readers/bin/python")
}

/// A folder that, as `PYTHONPATH` of [`python`], gives it the newest release of the reference rules engine instead.
#[must_use]
pub fn newest_reference() -> PathBuf {
    cached("reference-newest")
}

/// A loopback port that was free a moment ago.
///
/// # Panics
/// If the machine has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address").port()
}
