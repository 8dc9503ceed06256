//! A value as Postgres writes it (text, `datestyle` ISO, time zone UTC) in, a [`Cell`] out.
//!
//! Total: what doesn't read as its type stands as text, so nothing is lost and nothing panics.

use rollcall_model::Cell;

/// How a column's text is read; from its type's oid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Bool,
    Int,
    Float,
    Uuid,
    Json,
    Timestamp,
    Text,
}

impl Kind {
    /// The kind of a built-in type; every other type passes as text.
    pub(crate) fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Bool,
            20 | 21 | 23 => Self::Int,
            700 | 701 => Self::Float,
            2950 => Self::Uuid,
            114 | 3802 => Self::Json,
            1114 | 1184 => Self::Timestamp,
            _ => Self::Text,
        }
    }

    /// Reads a value.
    pub(crate) fn cell(self, bytes: &[u8]) -> Cell {
        // The connection's encoding is UTF-8; only an SQL_ASCII database can break that, which preflight refuses.
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let read = match self {
            Self::Bool => match bytes {
                b"t" => Some(Cell::Bool(true)),
                b"f" => Some(Cell::Bool(false)),
                _ => None,
            },
            Self::Int => int(bytes).map(Cell::Int),
            // float4 too: its shortest text, as every client reads it
            Self::Float => {
                std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).map(Cell::Float)
            }
            Self::Timestamp => timestamp_us(bytes).map(Cell::TimestampUs),
            Self::Uuid => return Cell::Uuid(text()),
            Self::Json => return Cell::Json(text()),
            Self::Text => None,
        };
        read.unwrap_or_else(|| Cell::Text(text()))
    }
}

/// A decimal integer.
pub(crate) fn int(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// `2024-01-02 03:04:05.678901+00`, `0044-03-15 00:00:00 BC`, `infinity` to microseconds since 1970.
fn timestamp_us(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"infinity" => return Some(i64::MAX),
        b"-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (bytes, before_christ) = match bytes.strip_suffix(b" BC") {
        Some(rest) => (rest, true),
        None => (bytes, false),
    };
    let mut text = Digits { rest: bytes };
    let year = i64::from(text.number(9)?);
    let year = if before_christ { 1 - year } else { year };
    text.expect(b'-')?;
    let month = text.number(2)?;
    text.expect(b'-')?;
    let day = text.number(2)?;
    text.expect(b' ')?;
    let mut seconds = i64::from(text.number(2)?) * 3600;
    text.expect(b':')?;
    seconds += i64::from(text.number(2)?) * 60;
    text.expect(b':')?;
    seconds += i64::from(text.number(2)?);
    let micros = if text.expect(b'.').is_some() { text.micros()? } else { 0 };
    seconds -= text.offset_seconds()?;
    if !text.rest.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(year, i64::from(month), i64::from(day));
    let us = days.checked_mul(86_400)?.checked_add(seconds)?.checked_mul(1_000_000)?.checked_add(micros)?;
    // The ends stand for the infinities.
    (us != i64::MAX && us != i64::MIN).then_some(us)
}

/// Days from 1970-01-01 in the Gregorian calendar, which Postgres extends to all years.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years run from March, so that the leap day is the last one; eras are 400 years of 146,097 days.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

struct Digits<'a> {
    rest: &'a [u8],
}

impl Digits<'_> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn number(&mut self, digits_max: usize) -> Option<u32> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > digits_max {
            return None;
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    fn micros(&mut self) -> Option<i64> {
        let before = self.rest.len();
        let number = i64::from(self.number(6)?);
        let digits = u32::try_from(before - self.rest.len()).ok()?;
        Some(number * 10_i64.pow(6 - digits))
    }

    /// `+05`, `-03:30`, `+00:19:32` or nothing.
    fn offset_seconds(&mut self) -> Option<i64> {
        let sign = match self.rest.first() {
            None => return Some(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.rest = &self.rest[1..];
        let mut seconds = i64::from(self.number(2)?) * 3600;
        if self.expect(b':').is_some() {
            seconds += i64::from(self.number(2)?) * 60;
        }
        if self.expect(b':').is_some() {
            seconds += i64::from(self.number(2)?);
        }
        Some(sign * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_their_type() {
        for (kind, text, cell) in [
            (Kind::Bool, "t", Cell::Bool(true)),
            (Kind::Int, "-9223372036854775808", Cell::Int(i64::MIN)),
            (Kind::Float, "Infinity", Cell::Float(f64::INFINITY)),
            (Kind::Float, "-Infinity", Cell::Float(f64::NEG_INFINITY)),
            (Kind::Float, "1e-307", Cell::Float(1e-307)),
            (Kind::Timestamp, "1970-01-01 00:00:00+00", Cell::TimestampUs(0)),
            (Kind::Timestamp, "2024-02-29 12:34:56.5", Cell::TimestampUs(1_709_210_096_500_000)),
            (Kind::Timestamp, "2024-02-29 12:34:56.000007+05:30", Cell::TimestampUs(1_709_190_296_000_007)),
            (Kind::Timestamp, "1969-12-31 23:59:59.999999-00", Cell::TimestampUs(-1)),
            (Kind::Timestamp, "0001-01-01 00:00:00 BC", Cell::TimestampUs(-62_167_219_200_000_000)),
            (Kind::Timestamp, "infinity", Cell::TimestampUs(i64::MAX)),
            (Kind::Timestamp, "-infinity", Cell::TimestampUs(i64::MIN)),
            // beyond 64 bits of microseconds since 1970: as it was written
            (Kind::Timestamp, "294276-12-31 23:59:59+00", Cell::Text("294276-12-31 23:59:59+00".into())),
            (Kind::Int, "12x", Cell::Text("12x".into())),
            (Kind::Text, "2024-01-01\u{1}'\\", Cell::Text("2024-01-01\u{1}'\\".into())),
        ] {
            assert_eq!(kind.cell(text.as_bytes()), cell, "{kind:?} {text}");
        }
        assert!(matches!(Kind::Float.cell(b"NaN"), Cell::Float(x) if x.is_nan()));
    }
}
