//! The columnar mirror in ClickHouse: every image, and who is in which segment, in both directions.
//!
//! ```text
//! identities ─────────▶ identities_batch ──▶ IDENTITIES ◀── view IDENTITIES in the platform's database (preset flagsmith)
//! membership-changes ─┐                 ┌──▶ members_by_segment ◀── view segment_members
//! memberships ────────┴▶memberships_batch┴─▶ members_by_identity ◀── view identity_segments
//! (rebuilds)             Arrow batches       ReplacingMergeTree(inserted_at, is_deleted), database rollcall
//! ```
//!
//! **Why it is exact.** A row's version is the record's version, which grows with every change of an identity; the
//! engine keeps the row with the highest version per key. So a replay of any records, any number of times, in any
//! order, ends in the same tables, and no insert has to happen exactly once. The views read with FINAL, so no reader
//! sees an older version, merged or not.
//!
//! **What is acknowledged.** A batch is written when the server has answered every insert without an error *and* a
//! count finds as many keys as were sent ([`insert`]). A row that the server will not take is found by bisection and
//! named; the rest goes in ([`ClickHouseSink`]).
//!
//! **What it refuses.** Tables that another log feeds, or whose engine, key, version or columns would make it lose
//! rows ([`tables`]). `rollcall rebuild clickhouse` fills new tables beside them and exchanges them ([`rebuild`]).

mod check;
mod config;
mod insert;
mod new_tables;
mod reader;
mod rebuild;
mod sieve;
mod sink;
mod supersede;
mod tables;
mod wire;

pub use config::{ClickHouseSinkConfig, DEFAULT_INSERT_TIMEOUT_MS, DEFAULT_QUERY_TIMEOUT_MS, Preset};
pub use new_tables::NewTables;
pub use reader::{ClickHouseReader, MemberRow, MembersPage};
pub use sink::ClickHouseSink;
pub use tables::setup_sql;
