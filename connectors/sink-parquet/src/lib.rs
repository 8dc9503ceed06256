//! The lake: what rosters decided as Parquet files in a bucket or a folder, and back.
//!
//! ```text
//! Delivery ─▶ Arrow buffers ─▶ sorted Parquet file ─▶ <table>/partition=<p>/… ─▶ <table>/manifests/<n>.json
//!                               (one Cut)              objects                    the truth: what is listed
//! ```

mod config;

pub use config::{Compression, LakeConfig, Location};
