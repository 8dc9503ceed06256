//! Resident memory while a file is written.

use rollcall_columns::lake_batch;
use rollcall_sink_parquet::file::{FileSettings, FileWriter};

use crate::Outcome;
use crate::meter::{Meter, resident_mb};
use crate::rows::{BATCH, IDENTITIES, Images, PARTITION};

/// What a lake is written with by default.
pub(crate) const SETTINGS: FileSettings = FileSettings { row_group_rows: 100_000, zstd_level: 3 };

pub(crate) fn run(rows: i64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let meter = Meter::start()?;
    let mut writer = FileWriter::create(&folder.path().join("a.parquet"), IDENTITIES, &SETTINGS)?;
    let mut images = Images::new(rows);
    let (mut written, mut told) = (0, 0);
    println!("{{\"what\":\"memory\",\"rows\":0,\"resident_mb\":{}}}", resident_mb()?);
    loop {
        let records: Vec<_> = images.by_ref().take(BATCH as usize).collect();
        if records.is_empty() {
            break;
        }
        writer.push(&lake_batch(IDENTITIES, PARTITION, &records)?)?;
        written += records.len() as i64;
        if written / 1_000_000 > told {
            told = written / 1_000_000;
            println!("{{\"what\":\"memory\",\"rows\":{written},\"resident_mb\":{}}}", resident_mb()?);
        }
    }
    let facts = writer.finish()?;
    let more = [("file_mb", facts.bytes as f64 / 1e6), ("resident_mb", resident_mb()? as f64)];
    meter.spent()?.print("memory: made, to arrow and to parquet", facts.rows, facts.bytes, &more);
    Ok(())
}
