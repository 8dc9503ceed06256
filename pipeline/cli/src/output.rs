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

/// Microseconds since 1970 as `2026-11-21 02:30:47.123456Z`.
pub(crate) fn time(us: i64) -> String {
    let days = us.div_euclid(86_400_000_000);
    let of_day = us.rem_euclid(86_400_000_000);
    let (year, month, day) = civil(days);
    let seconds = of_day / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        of_day % 1_000_000
    )
}

/// Days since 1970-01-01 as a date of the Gregorian calendar: 400 years have 146,097 days, and a year that starts in
/// March has its leap day at the end.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000000Z");
        assert_eq!(time(-1), "1969-12-31 23:59:59.999999Z");
        assert_eq!(time(951_782_400_000_000), "2000-02-29 00:00:00.000000Z");
        assert_eq!(time(1_795_228_247_123_456), "2026-11-21 02:30:47.123456Z");
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!([bytes(1023), bytes(1024), bytes(5 << 30)], ["1023 B", "1.0 KiB", "5.0 GiB"]);
    }
}
