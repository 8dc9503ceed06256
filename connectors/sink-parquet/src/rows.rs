//! Rows of a table compared: by its order, by what they are rows of, by version.

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, Rows, SortField};
use rollcall_columns::LakeTable;
use rollcall_model::Fault;

/// Makes rows comparable by some of their columns.
#[derive(Debug)]
pub(crate) struct Order {
    converter: RowConverter,
    columns: Vec<&'static str>,
}

impl Order {
    /// By the order of a file's rows.
    pub(crate) fn of_rows(table: &LakeTable) -> Result<Self, Fault> {
        Self::by(table, table.sort.to_vec())
    }

    /// By what a row is a row of: the columns of the order without the version. Of a table with keys, the key.
    pub(crate) fn of_keys(table: &LakeTable) -> Result<Self, Fault> {
        Self::by(table, table.sort.iter().copied().filter(|column| *column != table.version).collect())
    }

    fn by(table: &LakeTable, columns: Vec<&'static str>) -> Result<Self, Fault> {
        let schema = table.schema.arrow();
        let field = |name: &&str| {
            let field = schema.field_with_name(name).map_err(|e| wrong(table, name).from_source(e))?;
            Ok(SortField::new(field.data_type().clone()))
        };
        let fields = columns.iter().map(field).collect::<Result<Vec<_>, Fault>>()?;
        let converter = RowConverter::new(fields)
            .map_err(|e| Fault::bug(format!("rows of {} can't be compared", table.name)).from_source(e))?;
        Ok(Self { converter, columns })
    }

    /// Rows in a form that compares as they do.
    pub(crate) fn rows(&self, table: &LakeTable, batch: &RecordBatch) -> Result<Rows, Fault> {
        let column = |name: &&str| -> Result<ArrayRef, Fault> {
            batch.column_by_name(name).map(std::sync::Arc::clone).ok_or_else(|| wrong(table, name))
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>, Fault>>()?;
        self.converter
            .convert_columns(&columns)
            .map_err(|e| Fault::bug(format!("rows of {} can't be compared", table.name)).from_source(e))
    }
}

fn wrong(table: &LakeTable, column: &str) -> Fault {
    Fault::bug(format!("rows of {} have no column {column}", table.name))
}

/// The values of a column of times or seqs.
pub(crate) fn numbers(table: &LakeTable, column: &str, batch: &RecordBatch) -> Result<Vec<i64>, Fault> {
    let array = batch.column_by_name(column).ok_or_else(|| wrong(table, column))?;
    if let Some(times) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        return Ok(times.values().to_vec());
    }
    let seqs = array.as_primitive_opt::<UInt64Type>().ok_or_else(|| wrong(table, column))?;
    Ok(seqs.values().iter().map(|seq| i64::try_from(*seq).unwrap_or(i64::MAX)).collect())
}
