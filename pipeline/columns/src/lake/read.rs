//! Columns while they are read.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt8Type, UInt16Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array,
    UInt16Array, UInt64Array,
};
use rollcall_model::{Fault, NativeId};

use crate::schema::TableSchema;

/// What repairs a lake whose rows can't be read.
pub(super) const VERIFY: &str = "rollcall lake verify";

/// A batch whose columns are taken by name.
pub(super) struct Columns<'a> {
    schema: &'a TableSchema,
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    pub(super) fn of(schema: &'a TableSchema, batch: &'a RecordBatch) -> Self {
        Self { schema, batch }
    }

    fn column(&self, name: &str) -> Result<&'a ArrayRef, Fault> {
        let column = self.batch.column_by_name(name).ok_or_else(|| self.wrong(name, "isn't there"))?;
        let wanted = self.schema.columns.iter().find(|c| c.name == name);
        let fits =
            wanted.is_some_and(|wanted| wanted.column_type.arrow().equals_datatype(column.data_type()));
        if !fits {
            return Err(self.wrong(name, "has another type"));
        }
        if column.null_count() > 0 {
            return Err(self.wrong(name, "holds nulls"));
        }
        Ok(column)
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a StringArray, Fault> {
        Ok(self.column(name)?.as_string::<i32>())
    }

    pub(super) fn micros(&self, name: &str) -> Result<&'a TimestampMicrosecondArray, Fault> {
        Ok(self.column(name)?.as_primitive::<TimestampMicrosecondType>())
    }

    pub(super) fn u8(&self, name: &str) -> Result<&'a UInt8Array, Fault> {
        Ok(self.column(name)?.as_primitive::<UInt8Type>())
    }

    pub(super) fn u16(&self, name: &str) -> Result<&'a UInt16Array, Fault> {
        Ok(self.column(name)?.as_primitive::<UInt16Type>())
    }

    pub(super) fn u64(&self, name: &str) -> Result<&'a UInt64Array, Fault> {
        Ok(self.column(name)?.as_primitive::<UInt64Type>())
    }

    pub(super) fn list(&self, name: &str) -> Result<&'a ListArray, Fault> {
        Ok(self.column(name)?.as_list::<i32>())
    }

    /// Ids with the column that says which are numbers.
    pub(super) fn ids(&self) -> Result<Ids<'a>, Fault> {
        Ok(Ids { text: self.text("id")?, is_number: self.u8("id_is_number")? })
    }

    fn wrong(&self, column: &str, why: &str) -> Fault {
        Fault::refused(format!("column {column} of {} {why}", self.schema.name)).repair(VERIFY)
    }

    /// A row that no record makes.
    pub(super) fn wrong_row(&self, row: usize, why: &str) -> Fault {
        Fault::refused(format!("row {row} of a batch of {}: {why}", self.schema.name)).repair(VERIFY)
    }
}

/// Native ids.
pub(super) struct Ids<'a> {
    text: &'a StringArray,
    is_number: &'a UInt8Array,
}

impl Ids<'_> {
    pub(super) fn get(&self, columns: &Columns<'_>, row: usize) -> Result<NativeId, Fault> {
        let text = self.text.value(row);
        match self.is_number.value(row) {
            0 => Ok(NativeId::Text(Arc::from(text))),
            _ => text.parse().map(NativeId::Int).map_err(|_| columns.wrong_row(row, "its id is no number")),
        }
    }
}

/// The texts of a list.
pub(super) fn texts_of(list: &ListArray, row: usize) -> Vec<String> {
    let values = list.value(row);
    values.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

/// The structs of a list.
pub(super) fn structs_of(list: &ListArray, row: usize) -> StructArray {
    list.value(row).as_struct().clone()
}
