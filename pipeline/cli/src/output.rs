//! What commands print: tables for people, JSON lines for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// The standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether programs read it.
    pub(crate) json: bool,
}

impl Output {
    /// A line for people.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// A line for programs.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::job(format!("can't write the answer as JSON: {error}")))?;
        self.line(&text)
    }

    /// One JSON line per item, or a table with a line per item.
    pub(crate) fn list<T: Serialize>(
        self,
        items: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return items.iter().try_for_each(|item| self.json_line(item));
        }
        self.table(header, &items.iter().map(row).collect::<Vec<_>>())
    }

    /// A table with columns as wide as their widest cell.
    pub(crate) fn table(self, header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&header).chain(rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// An optional value, or a dash.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Text without quotes, anything else as JSON.
pub(crate) fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Bytes with a unit: `3.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = "B";
    let mut amount = count as f64;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!([bytes(1023), bytes(1024), bytes(5 << 30)], ["1023 B", "1.0 KiB", "5.0 GiB"]);
    }
}
