//! DynamoDB as a source: the changes of a table, from its stream, in order and without a gap.
//!
//! ```text
//!                 begin_stream ─▶ Stream, written once
//!                                   │
//!   DescribeStream ─▶ keeper ─▶ shard, shard, …  ─▶ queue ─▶ events ─▶ the log
//!                       ▲          (GetRecords)                           │
//!                       └──────────── saved, others ◀─────────────────────┘
//! ```
//!
//! [`DynamoShards`] is one of the readers that share a stream. A shard is read once its parent's end is in the log,
//! whoever read it: so an item's changes come in order over splits and rolls. What the stream no longer holds is a refusal
//! that names the window of time and the command that brings it back, never a silent jump. `tree` decides all this, and is
//! pure.
//!
//! [`Scan`] reads the table itself, beside the stream: parallel consistent reads at a set rate, of the whole table or of
//! one environment; [`Enricher`] reads single items.
//!
//! DynamoDB forgets by itself after 24 hours and takes no acknowledgement: nothing is released upstream.

mod begin;
mod clients;
mod config;
mod enrich;
mod item;
mod keep;
mod lag;
mod list;
mod listing;
mod loss;
mod pace;
mod plan;
mod preflight;
mod queue;
mod read;
mod scan;
mod scan_batch;
mod scan_cursor;
mod scan_item;
mod scan_read;
mod scan_table;
mod source;
mod tree;

pub use begin::{Raised, begin_stream, current_stream, raise_epoch};
pub use config::{
    CALLS_PER_SHARD_PER_S, CLOCK_SLACK_MS, DISCOVER_MS, DynamoSourceConfig, IDLE_POLL_MAX_MS, IDLE_POLL_MS,
    PROGRESS_MS, QUEUE_BYTES_MAX, READERS, SHARDS_IN_FLIGHT_MAX,
};
pub use enrich::{DEFAULT_ENRICH_READ_UNITS_PER_S, Enricher};
pub use plan::estimate;
pub use preflight::{Finding, preflight};
pub use scan::{DEFAULT_SEGMENTS, EnvironmentFilter, PAGE_ITEMS_MAX, SEGMENTS_MAX, Scan, ScanConfig};
pub use source::DynamoShards;
