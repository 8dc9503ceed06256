//! One Parquet file of a table of the lake.
//!
//! ```text
//! batches of a cut ─▶ write_sorted ─┐ sorts all of it
//! a merge's rows, in order ─────────┴▶ FileWriter ─▶ row groups (zstd) ─▶ path, and FileFacts for the manifest
//! path ─▶ check_file (bytes, sha256) ─▶ FileReader ─▶ batches of the table's schema
//! ```
//!
//! What a file's footer says of itself (table, schema version, log id) is checked before a row is read. A column that
//! the file's version did not have yet is empty: zero, no text, no values. Parquet's pages carry no checksum here, so an
//! altered bit may read as another value: whoever reads a file that somebody else could have touched calls
//! [`check_file`] first.
//!
//! The file is the same bytes for the same rows and settings: a cut made again after a restart has the same name.

mod facts;
mod properties;
mod read;
mod sort;
mod write;

#[cfg(test)]
mod tests;

pub use facts::{FileFacts, check_file};
pub use read::FileReader;
pub use sort::write_sorted;
pub use write::FileWriter;

/// Footer: the table, as its folder is called.
const TABLE: &str = "rollcall.table";
/// Footer: the version of its schema.
const SCHEMA_VERSION: &str = "rollcall.schema_version";
/// Footer: the log that its rows came from.
const LOG_ID: &str = "rollcall.log_id";

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSettings {
    /// Rows of a row group at most. Large rows end one sooner.
    pub row_group_rows: usize,
    /// zstd's level, 1 to 22.
    pub zstd_level: i32,
}
