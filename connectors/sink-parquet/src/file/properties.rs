//! How columns are encoded.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use super::{FileSettings, SCHEMA_VERSION, TABLE};

/// What a row group may take in memory before it is written, encoded.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// One wrong answer in a hundred: an identity looked up in a lake of a thousand files reads ten row groups in vain.
const BLOOM_WRONG_ANSWERS: f64 = 0.01;

/// Columns whose values hardly repeat: a dictionary would be filled for nothing.
const WITHOUT_DICTIONARY: [&str; 10] = [
    "id",
    "identifier",
    "identity_key",
    "traits",
    "record",
    "event_id",
    "inserted_at",
    "at",
    "seq",
    "fingerprint",
];

/// Numbers that lie close together.
const IN_DELTAS: [&str; 3] = ["inserted_at", "at", "seq"];

pub(super) fn properties(table: &LakeTable, settings: &FileSettings) -> Result<WriterProperties, Fault> {
    let level = ZstdLevel::try_new(settings.zstd_level).map_err(|e| {
        Fault::config(format!("{} is no level of zstd", settings.zstd_level))
            .from_source(e)
            .repair("zstd_level: 1 to 22")
    })?;
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("rollcall ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(settings.row_group_rows.max(1)))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting(table)?))
        .set_key_value_metadata(Some(vec![
            KeyValue::new(TABLE.to_owned(), table.name.to_owned()),
            KeyValue::new(SCHEMA_VERSION.to_owned(), table.schema.version.to_string()),
        ]));
    for column in table.schema.columns {
        let path = ColumnPath::from(column.name);
        if WITHOUT_DICTIONARY.contains(&column.name) {
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
        }
        if IN_DELTAS.contains(&column.name) {
            builder = builder.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if column.name == "id" {
            builder = builder.set_column_bloom_filter_fpp(path, BLOOM_WRONG_ANSWERS);
        }
    }
    Ok(builder.build())
}

/// Parquet counts leaves: a list of structs before a sorted column is several.
fn sorting(table: &LakeTable) -> Result<Vec<SortingColumn>, Fault> {
    let mut leaves = Vec::new();
    for name in table.sort {
        let leaf = leaf_of(table, name)
            .ok_or_else(|| Fault::bug(format!("{} is sorted by {name}, which it hasn't", table.name)))?;
        leaves.push(SortingColumn::new(leaf, false, false));
    }
    Ok(leaves)
}

fn leaf_of(table: &LakeTable, name: &str) -> Option<i32> {
    let before = table.schema.columns.iter().take_while(|column| column.name != name);
    let leaf: usize = before.map(|column| column.column_type.leaves()).sum();
    let is_there = table.schema.columns.iter().any(|column| column.name == name);
    is_there.then_some(i32::try_from(leaf).ok()).flatten()
}
