//! The lake: what rosters decided as Parquet files in a bucket or a folder, and back.
//!
//! ```text
//! Delivery ─▶ Arrow buffers ─▶ sorted Parquet file ─▶ <table>/partition=<p>/… ─▶ <table>/manifests/<n>.json
//!                               (one Cut)              objects                    the truth: what is listed
//! ```

mod buffer;
mod clock;
mod compact;
mod config;
pub mod file;
mod list;
mod manifest;
mod objects;
mod reader;
mod rows;
mod sink;
mod spool;
mod verify;

pub use compact::{Cleaned, CompactStep, CompactWhat, compact, plan_compaction};
pub use config::{Compression, LakeConfig, Location};
pub use list::{ListedPartition, ListedTable, list};
pub use reader::LakeReader;
pub use sink::LakeSink;
pub use verify::{Problem, Progress, VerifiedTable, VerifyReport, verify};

#[cfg(test)]
mod test_kit;
