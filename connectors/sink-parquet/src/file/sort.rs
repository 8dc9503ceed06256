//! Rows in any order, as a file in the table's.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave_record_batch;
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

use super::FileSettings;
use super::facts::FileFacts;
use super::write::FileWriter;

/// Rows brought together at once.
const ROWS: usize = 8_192;

/// Sorts all rows of the batches, equal ones as they came, and writes them.
///
/// # Errors
/// A [`Fault`] as of [`FileWriter`].
pub fn write_sorted(
    path: &Path,
    table: &LakeTable,
    batches: &[RecordBatch],
    settings: &FileSettings,
) -> Result<FileFacts, Fault> {
    let mut writer = FileWriter::create(path, table, settings)?;
    let keys = keys(table, batches)?;
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (n, batch) in batches.iter().enumerate() {
        places.extend((0..batch.num_rows()).map(|row| (n, row)));
    }
    places.sort_by(|(a, x), (b, y)| keys[*a].row(*x).cmp(&keys[*b].row(*y)));
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    for places in places.chunks(ROWS) {
        let sorted = interleave_record_batch(&batches, places).map_err(|e| not_sorted(table, e))?;
        writer.push(&sorted)?;
    }
    writer.finish()
}

/// The sorted columns of each batch, as bytes that compare as the rows do.
pub(super) fn keys(table: &LakeTable, batches: &[RecordBatch]) -> Result<Vec<Rows>, Fault> {
    let mut places = Vec::new();
    let mut fields = Vec::new();
    let schema = table.schema.arrow();
    for name in table.sort {
        let place = schema.index_of(name).map_err(|e| not_sorted(table, e))?;
        fields.push(SortField::new(schema.field(place).data_type().clone()));
        places.push(place);
    }
    let converter = RowConverter::new(fields).map_err(|e| not_sorted(table, e))?;
    let keys_of = |batch: &RecordBatch| {
        let columns = batch.project(&places)?;
        converter.convert_columns(columns.columns())
    };
    batches.iter().map(|batch| keys_of(batch).map_err(|e| not_sorted(table, e))).collect()
}

fn not_sorted(table: &LakeTable, error: ArrowError) -> Fault {
    Fault::bug(format!("rows of {} can't be sorted", table.name)).from_source(error)
}
