//! Columns while they are filled.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, UInt8Builder};
use arrow_array::{ArrayRef, RecordBatch};
use rollcall_model::{Fault, NativeId, OutRecord};

use crate::schema::{ColumnType, TableSchema};

/// A native id, and whether it is a number: `7` and `"7"` are two identities.
#[derive(Default)]
pub(super) struct IdColumns {
    text: StringBuilder,
    is_number: UInt8Builder,
}

impl IdColumns {
    pub(super) fn push(&mut self, id: &NativeId) {
        match id {
            NativeId::Int(number) => self.text.append_value(number.to_string()),
            NativeId::Text(text) => self.text.append_value(text),
        }
        self.is_number.append_value(u8::from(matches!(id, NativeId::Int(_))));
    }

    pub(super) fn finish(mut self) -> [ArrayRef; 2] {
        [Arc::new(self.text.finish()), Arc::new(self.is_number.finish())]
    }
}

/// A column of lists of text.
pub(super) fn texts() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(ColumnType::Utf8.element())
}

/// Adds a list.
pub(super) fn push_texts<'a>(
    column: &mut ListBuilder<StringBuilder>,
    texts: impl IntoIterator<Item = &'a str>,
) {
    for text in texts {
        column.values().append_value(text);
    }
    column.append(true);
}

pub(super) fn finish(schema: &TableSchema, columns: Vec<ArrayRef>) -> Result<RecordBatch, Fault> {
    RecordBatch::try_new(schema.arrow(), columns).map_err(|e| {
        Fault::bug(format!("rows of {} don't fit their Arrow schema", schema.name)).from_source(e)
    })
}

/// A record that belongs to another table.
pub(super) fn foreign(schema: &TableSchema, record: &OutRecord) -> Fault {
    let kind = match record {
        OutRecord::Identity(_) => "an image",
        OutRecord::Membership(_) => "a membership",
        OutRecord::MembershipChange(_) => "a membership change",
        OutRecord::Count(_) => "a count",
        OutRecord::Watermark(_) => "a watermark",
    };
    Fault::bug(format!("{kind} was to be a row of {}", schema.name))
}
