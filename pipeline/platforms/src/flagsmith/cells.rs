//! Reading cells: what a column must hold, said as a reason where it doesn't.

use rollcall_model::{Cell, Row};

/// The integer primary key of a row.
pub(super) fn id(row: &Row) -> Result<i64, String> {
    match row.get("id") {
        Some(Cell::Int(id)) => Ok(*id),
        Some(_) | None => Err("its column id holds no integer".to_owned()),
    }
}

/// An integer, where there is one: a foreign key.
pub(super) fn int(row: &Row, column: &str) -> Option<i64> {
    match row.get(column) {
        Some(Cell::Int(number)) => Some(*number),
        Some(_) | None => None,
    }
}

/// Text, where there is some.
pub(super) fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    match row.get(column) {
        Some(Cell::Text(text)) => Some(text),
        Some(_) | None => None,
    }
}

/// A truth value, where there is one.
pub(super) fn bool(row: &Row, column: &str) -> Option<bool> {
    match row.get(column) {
        Some(Cell::Bool(value)) => Some(*value),
        Some(_) | None => None,
    }
}

/// Whether a column holds NULL (or isn't there).
pub(super) fn is_null(row: &Row, column: &str) -> bool {
    matches!(row.get(column), None | Some(Cell::Null))
}

/// Puts the cells of an earlier row where this one was not sent, because it did not change.
pub(super) fn fill_unchanged(row: &mut Row, earlier: Option<&Row>) {
    let Some(earlier) = earlier else { return };
    for (column, cell) in row.columns.iter().zip(&mut row.cells) {
        if *cell == Cell::Unchanged
            && let Some(known) = earlier.get(column)
            && *known != Cell::Null
        {
            *cell = known.clone();
        }
    }
}
