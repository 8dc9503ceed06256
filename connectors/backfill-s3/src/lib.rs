//! Exports of DynamoDB tables to S3 as a backfill: the files of an export flow in, pages of items flow out.
//!
//! ```text
//!  manifest-summary.json ─▶ manifest ─▶ coverage, estimate           location: s3://bucket/…/AWSDynamoDB/<id>
//!  manifest-files.json   ─▶ files in order                                     or a local copy of that folder
//!                             │ several ahead
//!  data/*.json.gz ─▶ place ─▶ whole and md5 as listed ─▶ decode ─▶ pages ─▶ export (in the manifest's order)
//!                   (S3: through a spool file)          gunzip, lines, items
//! ```
//!
//! Why it is right:
//! - Nothing of a file is a page before the whole file was read once and has the checksum that the manifest gives: a
//!   damaged copy is refused before any of it is in the log, not after.
//! - A file ends well only if its gzip does and it has as many lines as the manifest says: no truncated one passes.
//! - Every page is as of the export's time, less what clocks may differ by: what the stream says since then wins.
//! - The cursor is (export, file, lines done): files and lines have one order, so going on skips exactly what was done.
//!
//! What an incremental export does not say: AWS writes one line per item, its state at the end of the window, and none for
//! an item that was made and deleted within it. So an image of which the stream spoke last within the window, and which the
//! export doesn't have, is of an item that is gone: the roster takes it away at the end of the backfill
//! (`Unfound::GoneIfStreamed`). That holds for what the stream brought. One that a backfill brought after the window began
//! may have been there untouched, or be gone: no such window shows which.
//!
//! Memory: `files_in_flight_max` files × three pages, each of at most `page_items` items or [`PAGE_BYTES_MAX`] bytes.
//! Disk: as many spool files, if the export lies in S3.

mod bucket;
mod config;
mod decode;
mod export;
mod line;
mod manifest;
mod place;

pub use config::{
    DEFAULT_FILES_IN_FLIGHT_MAX, DEFAULT_PAGE_ITEMS, ExportConfig, LINE_BYTES_MAX, PAGE_BYTES_MAX,
};
pub use export::{Export, estimate};
