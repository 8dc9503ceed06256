//! From images to a file and back to ClickHouse.

use std::path::Path;

use arrow_array::RecordBatch;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use rollcall_columns::lake_records;
use rollcall_model::{Delivery, OutRecord, Place, Sink, Topic};
use rollcall_sink_parquet::file::{FileReader, write_sorted};

use crate::Outcome;
use crate::memory::SETTINGS;
use crate::meter::Meter;
use crate::rows::{IDENTITIES, Images, PARTITION, batches};
use crate::server::{COLUMNS, Server};

const TURNS: usize = 3;
/// Records of a sink's batch.
const SINK_BATCH: usize = 100_000;

pub(crate) async fn run(rows: i64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("identities.parquet");
    let records: Vec<OutRecord> = Images::new(rows).collect();
    for _ in 0..TURNS {
        steps(&path, &records)?;
    }
    sizes(&path, rows)?;
    drop(records);
    let mut server = Server::start(&folder.path().join("engine")).await?;
    for turn in 0..TURNS {
        server.run("TRUNCATE TABLE rollcall.IDENTITIES").await?;
        let meter = Meter::with(server.engine.pid())?;
        to_sink(&path, &mut server).await?;
        let bytes = std::fs::metadata(&path)?.len();
        meter.spent()?.print("parquet to clickhouse: our reader and sink", rows as u64, bytes, &[]);

        server.run("TRUNCATE TABLE default.rival").await?;
        let select = COLUMNS.replace("traits_json", "traits AS traits_json");
        let load = format!(
            "INSERT INTO default.rival ({COLUMNS}) SELECT {select} FROM file('{}', Parquet)",
            path.display()
        );
        let meter = Meter::with(server.engine.pid())?;
        server.run(&load).await?;
        meter.spent()?.print("parquet to clickhouse: the engine's file()", rows as u64, bytes, &[]);
        if turn == 0 {
            let hashes = (server.hash("rollcall.IDENTITIES").await?, server.hash("default.rival").await?);
            assert_eq!(hashes.0, hashes.1, "both tables hold the same");
        }
    }
    println!(
        "{{\"what\":\"bytes per identity in clickhouse\",\"bytes\":{:.1}}}",
        server.bytes_per_row("rival").await?
    );
    Ok(())
}

/// Each step by itself, on one core.
fn steps(path: &Path, records: &[OutRecord]) -> Outcome<()> {
    let rows = records.len() as u64;
    let meter = Meter::start()?;
    let arrow = batches(records)?;
    let spent = meter.spent()?;
    let bytes = arrow.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() as u64;
    spent.print("image to arrow", rows, bytes, &[("arrow_bytes_per_row", bytes as f64 / rows as f64)]);

    let meter = Meter::start()?;
    let facts = write_sorted(path, IDENTITIES, &arrow, &SETTINGS)?;
    let more = [("file_bytes_per_row", facts.bytes as f64 / rows as f64)];
    meter.spent()?.print("arrow to parquet: sorted, zstd 3, sha256", rows, bytes, &more);
    drop(arrow);

    let meter = Meter::start()?;
    let back: Vec<RecordBatch> = FileReader::open(path, IDENTITIES)?.collect::<Result<_, _>>()?;
    meter.spent()?.print("parquet to arrow", rows, bytes, &[]);

    let meter = Meter::start()?;
    let mut found = 0;
    for batch in &back {
        found += lake_records(IDENTITIES, batch)?.len() as u64;
    }
    meter.spent()?.print("arrow to records", rows, bytes, &[]);
    assert_eq!(found, rows);
    Ok(())
}

async fn to_sink(path: &Path, server: &mut Server) -> Outcome<()> {
    let mut deliveries = Vec::with_capacity(SINK_BATCH);
    for batch in FileReader::open(path, IDENTITIES)? {
        for record in lake_records(IDENTITIES, &batch?)? {
            let (topic, place) = (Topic::Identities, Place::default());
            deliveries.push(Delivery { topic, partition: PARTITION, place, record });
        }
        if deliveries.len() >= SINK_BATCH {
            server.sink.write(&deliveries).await?;
            deliveries.clear();
        }
    }
    server.sink.write(&deliveries).await?;
    Ok(())
}

/// What each column takes in the file.
fn sizes(path: &Path, rows: i64) -> Outcome<()> {
    let file = SerializedFileReader::new(std::fs::File::open(path)?)?;
    let mut columns: Vec<(String, i64)> = Vec::new();
    for group in file.metadata().row_groups() {
        for column in group.columns() {
            let (name, bytes) = (column.column_path().string(), column.compressed_size());
            match columns.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += bytes,
                None => columns.push((name, bytes)),
            }
        }
    }
    let each: Vec<_> = columns
        .iter()
        .map(|(name, bytes)| format!("\"{name}\":{:.2}", *bytes as f64 / rows as f64))
        .collect();
    let all = std::fs::metadata(path)?.len() as f64 / rows as f64;
    println!(
        "{{\"what\":\"bytes per identity in parquet\",\"bytes\":{all:.1},\"columns\":{{{}}}}}",
        each.join(",")
    );
    Ok(())
}
