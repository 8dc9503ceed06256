//! DynamoDB as a source.

mod enrich;
mod pace;
mod plan;
mod scan;
mod scan_batch;
mod scan_cursor;
mod scan_item;
mod scan_read;
mod scan_table;

pub use enrich::{DEFAULT_ENRICH_READ_UNITS_PER_S, Enricher};
pub use plan::estimate;
pub use scan::{DEFAULT_SEGMENTS, EnvironmentFilter, PAGE_ITEMS_MAX, SEGMENTS_MAX, Scan, ScanConfig};
