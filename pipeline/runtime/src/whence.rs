//! From where on a topic is read, as people say it: `beginning`, `end`, an offset, or a time.
//!
//! Times are RFC 3339 in UTC (`2026-11-27T10:00:00Z`), so that a worker and whoever asks it mean the same moment.

use std::fmt;
use std::str::FromStr;

use rollcall_model::time::{parse_utc, utc};
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
                Err(_) => ms_of(text).map(Self::Time).ok_or_else(|| {
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
            Self::Time(ms) => f.write_str(&utc(i64::try_from(*ms).unwrap_or(i64::MAX).saturating_mul(1_000))),
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

/// A time in milliseconds since 1970.
fn ms_of(text: &str) -> Option<u64> {
    u64::try_from(parse_utc(text)?.div_euclid(1_000)).ok()
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
        assert_eq!(Whence::Time(1_795_228_247_123).to_string(), "2026-11-21 02:30:47.123000Z");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "-1", "begin", "2026-11-27", "1969-12-31T23:59:59Z"] {
            assert!(text.parse::<Whence>().is_err(), "{text}");
        }
    }
}
