//! PERCENTAGE_SPLIT: a share of all identities, the same ones every time.
//!
//! The text `segment key,value` is hashed to a number from 0 below 100; the identity is in when that is at most the
//! operand. So the members of a smaller share are among those of a larger one (C23).

use std::fmt;

use md5::{Digest, Md5};

use crate::judge::Raised;
use crate::python::parse_float;
use crate::subject::Subject;

/// PERCENTAGE_SPLIT with its operand.
#[derive(Clone, Debug)]
pub(crate) struct PercentageSplit {
    /// The salt.
    segment_key: Box<str>,
    threshold: Threshold,
}

#[derive(Clone, Copy, Debug)]
enum Threshold {
    Percent(f64),
    /// No number: false.
    Invalid,
    /// Nothing: TypeError.
    Nothing,
}

impl PercentageSplit {
    pub(super) fn new(value: Option<&str>, segment_key: &str) -> Self {
        let threshold = match value {
            None => Threshold::Nothing,
            Some(text) => parse_float(text).map_or(Threshold::Invalid, Threshold::Percent),
        };
        Self { segment_key: segment_key.into(), threshold }
    }

    pub(super) fn unsupported(&self) -> Option<String> {
        matches!(self.threshold, Threshold::Nothing).then(|| NOTHING.to_owned())
    }

    /// The salt.
    pub(crate) fn segment_key(&self) -> &str {
        &self.segment_key
    }

    /// The greatest hash that is not drawn again.
    pub(crate) const NUMBER_MAX: u32 = HUNDRED - 1;

    /// The greatest hash, modulo 9999, that a member may have, if any may.
    pub(crate) fn number_max(&self) -> Option<u32> {
        match self.threshold {
            Threshold::Percent(percent) => {
                (0..=Self::NUMBER_MAX).rev().find(|number| place(*number) <= percent)
            }
            Threshold::Invalid | Threshold::Nothing => None,
        }
    }

    /// # Errors
    /// An operand of nothing, on any value; an int too long for `str()`.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> Result<bool, Raised> {
        if matches!(subject, Subject::Missing) {
            return Ok(false);
        }
        match self.threshold {
            Threshold::Invalid => Ok(false),
            Threshold::Nothing => Err(Raised::new(NOTHING)),
            Threshold::Percent(percent) => Ok(hashed_percentage(&self.segment_key, subject)? <= percent),
        }
    }

    pub(super) fn cast_text(&self, subject: &Subject<'_>) -> Option<String> {
        let Threshold::Percent(percent) = self.threshold else { return None };
        if matches!(subject, Subject::Missing) {
            return Some(format!("{percent} %"));
        }
        let place = hashed_percentage(&self.segment_key, subject).ok()?;
        Some(format!("{percent} %; this value's place is {place}"))
    }
}

const NOTHING: &str = "a split without a percentage raises in the reference";

/// The hash is taken modulo this, so that the greatest number is [`HUNDRED`].
const MODULUS: u32 = 9_999;
/// The number whose place is exactly 100.
const HUNDRED: u32 = 9_998;

/// The place of a number: 0 to 100.
fn place(number: u32) -> f64 {
    (f64::from(number) / f64::from(HUNDRED)) * 100.0
}

/// The place of a value: `md5("key,value")` as a number, modulo 9999, over 9998, times 100. Exactly 100, one time in
/// 9999, is drawn again with the pair written once more.
pub(crate) fn hashed_percentage(segment_key: &str, subject: &Subject<'_>) -> Result<f64, Raised> {
    let mut pairs = 1;
    loop {
        let mut hasher = HashedText(Md5::new());
        for pair in 0..pairs {
            if pair > 0 {
                hasher.0.update(",");
            }
            hasher.0.update(segment_key);
            hasher.0.update(",");
            subject.write_str(&mut hasher)?;
        }
        let digest: [u8; 16] = hasher.0.finalize().into();
        let number = (u128::from_be_bytes(digest) % u128::from(MODULUS)) as u32;
        if number != HUNDRED {
            return Ok(place(number));
        }
        pairs += 1;
    }
}

struct HashedText(Md5);

impl fmt::Write for HashedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_the_references() {
        let place = |key, text| hashed_percentage(key, &Subject::Text(text)).unwrap();
        assert!((place("42", "env_abc_alice") - 89.808).abs() < 0.001);
        assert_eq!(place("1", "env_user6533"), 31.546_309_261_852_368, "drawn twice");
    }

    #[test]
    fn c23_shares_are_nested_and_bounded() {
        for n in 0..2_000 {
            let key = format!("user{n}");
            let subject = Subject::Text(&key);
            let within = |percent: &str| PercentageSplit::new(Some(percent), "7").holds(&subject).unwrap();
            assert!(within("100") && !within("-0.1") && !within("nan"));
            assert!(!within("10") || within("10.5"));
            assert!(!within("10.5") || within("60"));
        }
    }

    #[test]
    fn odd_operands() {
        let subject = Subject::Int(1);
        assert!(!PercentageSplit::new(Some("50%"), "1").holds(&subject).unwrap());
        assert!(PercentageSplit::new(None, "1").holds(&subject).is_err());
        assert!(!PercentageSplit::new(None, "1").holds(&Subject::Missing).unwrap());
    }
}
