//! MODULO: `"divisor|remainder"`, both floats; Python's floored `%`, compared exactly.

use num_bigint::BigInt;

use crate::judge::Raised;
use crate::python::{self, parse_float};
use crate::subject::Subject;

/// MODULO with its operand.
#[derive(Clone, Debug)]
pub(crate) enum Modulo {
    /// Divisor and remainder.
    Of {
        /// Not zero.
        divisor: f64,
        /// What must remain.
        remainder: f64,
    },
    /// The divisor is zero: ZeroDivisionError on every number.
    ByZero,
    /// Not of that form: false.
    Invalid,
}

impl Modulo {
    pub(super) fn new(value: Option<&str>) -> Self {
        match parse(value.unwrap_or_default()) {
            None => Self::Invalid,
            Some((0.0, _)) => Self::ByZero,
            Some((divisor, remainder)) => Self::Of { divisor, remainder },
        }
    }

    pub(super) fn unsupported(&self) -> Option<String> {
        matches!(self, Self::ByZero).then(|| ZERO.to_owned())
    }

    /// # Errors
    /// A zero divisor; an int too large for a float (Python's OverflowError).
    pub(super) fn holds(&self, subject: &Subject<'_>) -> Result<bool, Raised> {
        if matches!(self, Self::Invalid) {
            return Ok(false);
        }
        let number = match subject {
            Subject::Missing | Subject::Text(_) => return Ok(false),
            Subject::Bool(b) => f64::from(u8::from(*b)),
            Subject::Int(n) => *n as f64, // rounds to even, as Python does
            Subject::BigInt(n) => float_of(n)?,
            Subject::Float(x) => *x,
        };
        match self {
            Self::Invalid => Ok(false),
            Self::ByZero => Err(Raised::new(ZERO)),
            Self::Of { divisor, remainder } => Ok(python::remainder(number, *divisor) == *remainder),
        }
    }

    pub(super) fn cast_text(&self) -> Option<String> {
        match self {
            Self::Of { divisor, remainder } => {
                let mut text = String::from("modulo ");
                python::write_float(*divisor, &mut text).ok()?;
                text.push_str(" leaves ");
                python::write_float(*remainder, &mut text).ok()?;
                Some(text)
            }
            Self::ByZero => Some("modulo 0.0".to_owned()),
            Self::Invalid => None,
        }
    }
}

const ZERO: &str = "modulo by zero raises in the reference";

fn parse(value: &str) -> Option<(f64, f64)> {
    let (divisor, remainder) = value.split_once('|')?;
    if remainder.contains('|') {
        return None;
    }
    Some((parse_float(divisor)?, parse_float(remainder)?))
}

fn float_of(n: &BigInt) -> Result<f64, Raised> {
    let too_large = || Raised::new("MODULO of an int too large for a float raises in the reference");
    if n.bits() > 1024 {
        return Err(too_large());
    }
    // Through its digits, which Rust rounds to nearest as Python does.
    n.to_string().parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::borrow::Cow;

    fn holds(subject: &Subject<'_>, value: &str) -> bool {
        Modulo::new(Some(value)).holds(subject).unwrap()
    }

    #[test]
    fn remainders_are_floored_floats() {
        assert!(holds(&Subject::Int(-3), "2|1"));
        assert!(holds(&Subject::Int(7), " 2 |1.0"));
        assert!(holds(&Subject::Bool(true), "2|1"));
        assert!(holds(&Subject::Float(5.5), "2|1.5"));
        assert!(holds(&Subject::Int(5), "inf|5"));
        assert!(!holds(&Subject::Int(5), "nan|nan"));
        assert!(!holds(&Subject::Text("x"), "2|1"));
        assert!(!holds(&Subject::Missing, "0|0"));
        for value in ["", "2", "2|1|0", "a|1", "2|"] {
            assert!(!holds(&Subject::Int(1), value), "{value:?}");
        }
        let big = BigInt::from(u64::MAX) * 2 + 3;
        assert!(holds(&Subject::BigInt(Cow::Owned(big)), "2|0"), "a float has no odd numbers there");
    }

    #[test]
    fn zero_and_overflow_raise() {
        assert!(Modulo::new(Some("0|0")).unsupported().is_some());
        assert!(Modulo::new(Some("-0.0|0")).holds(&Subject::Int(1)).is_err());
        assert!(!Modulo::new(Some("0|0")).holds(&Subject::Text("x")).unwrap());
        let huge = BigInt::from(10).pow(400);
        assert!(Modulo::new(Some("2|0")).holds(&Subject::BigInt(Cow::Owned(huge))).is_err());
    }
}
