//! What a lake holds, as its newest manifests say.

use std::collections::BTreeMap;

use rollcall_columns::{LAKE_TABLES, LakeTable};
use rollcall_model::archive::AsOf;
use rollcall_model::{Fault, Partition, Seq};
use serde::Serialize;

use crate::config::LakeConfig;
use crate::manifest::{Numbered, Tables};
use crate::objects::Objects;

/// A table of a lake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ListedTable {
    /// Its name.
    pub table: String,
    /// The log whose records it holds.
    pub log_id: String,
    /// The sink that writes it.
    pub writer: String,
    /// The newest manifest's number.
    pub manifest: u64,
    /// When that was written, in microseconds since 1970.
    pub listed_at_us: i64,
    /// Of the columns, in the newest file.
    pub schema_version: u32,
    /// Since when it can tell what was so.
    pub history_from_us: i64,
    /// Of `segment_counts`: up to when the lake lacks nothing of what a source's stream said.
    pub as_of_us: AsOf,
    /// Objects that are listed no more and not yet removed.
    pub retired: u64,
    /// Its partitions.
    pub partitions: Vec<ListedPartition>,
}

/// A partition of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ListedPartition {
    /// The partition.
    pub partition: Partition,
    /// The first commit that it holds.
    pub first_seq: Seq,
    /// The last commit that it holds.
    pub last_seq: Seq,
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Says what a lake holds.
///
/// # Errors
/// A [`Fault`] when it can't be read, or there is none.
pub async fn list(config: &LakeConfig) -> Result<Vec<ListedTable>, Fault> {
    let tables = Tables::new(Box::pin(Objects::look(config)).await?);
    let mut listed = Vec::new();
    for (_, newest) in newest_of_all(config, &tables).await? {
        listed.extend(newest.as_ref().map(table));
    }
    Ok(listed)
}

/// The newest manifest of every table.
pub(crate) async fn newest_of_all(
    config: &LakeConfig,
    tables: &Tables,
) -> Result<Vec<(&'static LakeTable, Option<Numbered>)>, Fault> {
    let mut all = Vec::new();
    // The last says how far sources have come in all of them, so the others are to be as new as it, or newer.
    for table in LAKE_TABLES.iter().rev().filter_map(|table| LakeTable::of(table.topic)) {
        all.push((table, Box::pin(tables.newest(table.name, None)).await?));
    }
    all.reverse();
    if all.iter().all(|(_, newest)| newest.is_none()) {
        let place = &config.location;
        return Err(Fault::refused(format!("there is no lake at {place}"))
            .repair(format!("start the sink {}, which makes it, or correct its bucket", config.name)));
    }
    Ok(all)
}

fn table(newest: &Numbered) -> ListedTable {
    let Numbered { number, manifest } = newest;
    let mut partitions: BTreeMap<Partition, ListedPartition> = BTreeMap::new();
    for (partition, reach) in &manifest.covered {
        let partition = *partition;
        let of = ListedPartition {
            partition,
            first_seq: reach.first,
            last_seq: reach.seq,
            files: 0,
            rows: 0,
            bytes: 0,
        };
        partitions.insert(partition, of);
    }
    for file in &manifest.files {
        if let Some(of) = partitions.get_mut(&file.range.partition) {
            of.files += 1;
            of.rows += file.rows;
            of.bytes += file.bytes;
        }
    }
    ListedTable {
        table: manifest.table.clone(),
        log_id: manifest.log_id.0.clone(),
        writer: manifest.writer.clone(),
        manifest: *number,
        listed_at_us: manifest.created_at_us,
        schema_version: manifest.schema_version,
        history_from_us: manifest.history_from_us,
        as_of_us: manifest.as_of_us.clone(),
        retired: manifest.retired.len() as u64,
        partitions: partitions.into_values().collect(),
    }
}
