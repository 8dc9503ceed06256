//! From where on a topic is read, as people say it: `beginning`, `end`, an offset, or a time.
//!
//! Times are RFC 3339 in UTC (`2026-11-27T10:00:00Z`), so that a worker and whoever asks it mean the same moment.

use std::fmt;
use std::str::FromStr;

use rollcall_model::{Fault, Log, Partition, Place, Topic};
use serde::{Deserialize, Serialize};

/// A place in a topic, as people say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Whence {
    /// The first record still there.
    Beginning,
    /// Behind the last.
    End,
    /// An offset.
    Offset(u64),
    /// The first record written at a time or later, in milliseconds since 1970.
    Time(u64),
}

impl FromStr for Whence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            _ => match text.parse() {
                Ok(offset) => Ok(Self::Offset(offset)),
                Err(_) => utc_ms(text).map(Self::Time).ok_or_else(|| {
                    format!(
                        "'{text}' is neither 'beginning' nor 'end' nor an offset nor a time such as \
                         2026-11-27T10:00:00Z"
                    )
                }),
            },
        }
    }
}

impl TryFrom<String> for Whence {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Whence> for String {
    fn from(whence: Whence) -> Self {
        whence.to_string()
    }
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(ms) => {
                let (days, of_day) = (ms / DAY_MS, ms % DAY_MS);
                let (year, month, day) = civil(i64::try_from(days).unwrap_or(i64::MAX / DAY_MS as i64));
                let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
                write!(
                    f,
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
                    of_day % 1_000
                )
            }
        }
    }
}

impl Whence {
    /// Where that is in a partition.
    pub(crate) async fn place(
        self,
        log: &dyn Log,
        topic: Topic,
        partition: Partition,
    ) -> Result<Place, Fault> {
        let range = log.range(topic, partition).await?;
        match self {
            Self::Beginning => Ok(range.start),
            Self::End => Ok(range.end),
            Self::Offset(offset) => Ok(Place { offset, ..range.start }),
            Self::Time(ms) => log.offset_at(topic, partition, ms).await,
        }
    }
}

const DAY_MS: u64 = 24 * 3_600_000;

/// `2026-11-27T10:00:00Z`, with a fraction or a space for the `T`, as milliseconds since 1970.
fn utc_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = digits(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = digits(time, ':', [2, 2, 2])?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = u64::try_from(days_since_1970(year, month, day)).ok()?;
    // A date that isn't one (30 February) comes back as another.
    let is_date = civil(i64::try_from(days).ok()?) == (year, month, day);
    let is_time = hour < 24 && minute < 60 && second < 60;
    let seconds = u64::try_from(hour * 3_600 + minute * 60 + second).ok()?;
    (is_date && is_time).then_some(days * DAY_MS + seconds * 1_000 + ms)
}

fn digits(text: &str, between: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(between);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// In years that begin in March, leap days stand at the end and months follow one formula.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (text, whence) in [
            ("beginning", Whence::Beginning),
            ("end", Whence::End),
            ("0", Whence::Offset(0)),
            ("1970-01-01T00:00:00Z", Whence::Time(0)),
            ("2000-02-29T23:59:59.5Z", Whence::Time(951_868_799_500)),
            ("2026-11-21 02:30:47.123456Z", Whence::Time(1_795_228_247_123)),
        ] {
            assert_eq!(text.parse(), Ok(whence), "{text}");
            assert_eq!(whence.to_string().parse(), Ok(whence), "{whence}");
        }
        assert_eq!(Whence::Time(1_795_228_247_123).to_string(), "2026-11-21T02:30:47.123Z");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "-1",
            "begin",
            "2026-11-27",
            "2026-11-27T10:00:00",
            "2026-11-27T10:00:00+01:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-11-27T10:60:00Z",
            "2026-11-27T10:00:60Z",
            "2026-1-27T10:00:00Z",
            "2026-11-27T10:00:00.Z",
            "2026-11-27T10:00:00.+5Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(text.parse::<Whence>().is_err(), "{text}");
        }
    }
}
