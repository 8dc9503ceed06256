//! Sequence numbers: 21 to 40 digits, growing along a lineage.
//!
//! ```text
//! 100000000000000123456 ─+1…1,000,000─▶ 100000000000000987654 ─now and then ×10─▶ 1000000000000009876547
//! ```
//!
//! The jumps are there for readers that compare them as text.

use std::fmt;
use std::str::FromStr;

use super::draw::draw;

const SPLIT: u128 = 10_u128.pow(30);
/// Numbers of 39 digits and more jump no further.
const JUMPS_BELOW: u64 = 100_000_000;

/// A sequence number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SequenceNumber {
    /// Its digits above the lowest 30.
    high: u64,
    low: u128,
}

impl SequenceNumber {
    /// Where the `nth` lineage of a stream begins.
    pub(crate) fn first(seed: u64, nth: u64) -> Self {
        let low = 10_u128.pow(20) + u128::from(draw(seed, "first sequence", nth)) % 10_u128.pow(19);
        Self { high: 0, low }
    }

    /// A larger one.
    pub(crate) fn next(self, seed: u64, nth: u64) -> Self {
        let drawn = draw(seed, "sequence", nth);
        let times = if drawn.is_multiple_of(101) && self.high < JUMPS_BELOW { 10 } else { 1 };
        let low = self.low * times + 1 + u128::from((drawn >> 8) % 1_000_000);
        Self { high: self.high * u64::try_from(times).unwrap_or(1) + high(low), low: low % SPLIT }
    }
}

/// What of a number is above its lowest 30 digits; at most two digits, where this is called.
fn high(number: u128) -> u64 {
    u64::try_from(number / SPLIT).unwrap_or(u64::MAX)
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0 { write!(f, "{}", self.low) } else { write!(f, "{}{:030}", self.high, self.low) }
    }
}

impl FromStr for SequenceNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() || text.len() > 40 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let (high, low) = text.split_at(text.len().saturating_sub(30));
        let high = if high.is_empty() { 0 } else { high.parse().map_err(|_| ())? };
        Ok(Self { high, low: low.parse().map_err(|_| ())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_from_21_to_40_digits_and_read_back() {
        let mut number = SequenceNumber::first(7, 0);
        assert_eq!(number.to_string().len(), 21);
        let mut lengths = std::collections::BTreeSet::new();
        for nth in 0..20_000 {
            let next = number.next(7, nth);
            assert!(next > number, "{next} after {number}");
            let text = next.to_string();
            lengths.insert(text.len());
            assert_eq!(text.parse(), Ok(next));
            number = next;
        }
        assert_eq!(lengths.first(), Some(&21));
        assert!((38..=40).contains(lengths.last().unwrap()), "{lengths:?}");
    }
}
