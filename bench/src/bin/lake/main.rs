//! The lake: each step of an image's way to Parquet and back to ClickHouse, beside the engine's own on the same rows.
//!
//! ```text
//! memory   records ─▶ Arrow ─▶ FileWriter, resident memory every million rows
//! files    records ─▶ Arrow ─▶ Parquet ─▶ records ─▶ the sink │ rival: INSERT … SELECT … FROM file('…parquet')
//! inserts  the same Arrow batches to ClickHouse as ArrowStream, RowBinary, Parquet and JSONEachRow
//! forms    traits as JSON text, a map and Variant: bytes, time to write, time to read one key
//! ```
//!
//! Prints a line of JSON per figure. `wall_s` is time on the clock, `cpu_s` time that this process spent on cores and
//! `engine_cpu_s` the engine's, both in steps of 10 ms: on a machine that others use too, speeds are told per second of core.
//!
//! `lake [memory|files|inserts|forms [ROWS]]`; all of them when nothing is said.

mod files;
mod forms;
mod inserts;
mod memory;
mod meter;
mod rows;
mod server;

use std::error::Error;

/// What can go wrong ends the bench.
type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let part = args.next();
    let rows = args.next().map(|rows| rows.parse::<i64>()).transpose()?;
    let is_asked = |name: &str| part.as_deref().is_none_or(|part| part == name);
    // First, before the others have left memory behind.
    if is_asked("memory") {
        memory::run(rows.unwrap_or(10_000_000))?;
    }
    if is_asked("files") {
        files::run(rows.unwrap_or(400_000)).await?;
    }
    if is_asked("inserts") {
        inserts::run(rows.unwrap_or(400_000)).await?;
    }
    if is_asked("forms") {
        forms::run(rows.unwrap_or(400_000)).await?;
    }
    Ok(())
}
