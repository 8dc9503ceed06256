//! The value a condition looks at, after the reference's coercion of number-like text.
//!
//! Every value goes through it, identifiers included: ASCII text of the form `-?[0-9]+` is an int of any size,
//! `-?[0-9]+\.[0-9]+` a float, anything else stays as it was. So `"007"` equals 7 and never the text `"007"`.

use std::borrow::Cow;
use std::fmt;

use num_bigint::BigInt;
use rollcall_model::Value;

use crate::judge::Raised;
use crate::python;

/// A condition's left-hand side.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Subject<'a> {
    /// Not there, or null: the reference makes no difference.
    Missing,
    /// A truth value. To Python it is an int, too, which MODULO shows.
    Bool(bool),
    /// An int in 64 bits.
    Int(i64),
    /// An int beyond 64 bits.
    BigInt(Cow<'a, BigInt>),
    /// A float.
    Float(f64),
    /// Text that doesn't look like a number.
    Text(&'a str),
}

impl<'a> Subject<'a> {
    /// A trait's value, coerced.
    ///
    /// # Errors
    /// As [`Subject::of_text`].
    pub(crate) fn of_value(value: &'a Value) -> Result<Self, Raised> {
        Ok(match value {
            Value::Null => Self::Missing,
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(n) => Self::Int(*n),
            Value::BigInt(n) => Self::BigInt(Cow::Borrowed(n)),
            Value::Float(x) => Self::Float(*x),
            Value::Str(text) => return Self::of_text(text),
        })
    }

    /// Text, coerced.
    ///
    /// # Errors
    /// Python's `int()` refuses text of more than [`python::INT_DIGITS_MAX`] digits, which nothing catches here.
    pub(crate) fn of_text(text: &'a str) -> Result<Self, Raised> {
        match number_form(text.as_bytes()) {
            NumberForm::None => Ok(Self::Text(text)),
            // Never fails: the form is a part of what Rust parses, and both round to nearest.
            NumberForm::Float => Ok(text.parse().map_or(Self::Text(text), Self::Float)),
            NumberForm::Int { digits } => {
                if digits > python::INT_DIGITS_MAX {
                    return Err(Raised::new(format!(
                        "text of {digits} digits is read as a number, and Python's int() refuses more than {} digits",
                        python::INT_DIGITS_MAX
                    )));
                }
                if let Ok(n) = text.parse::<i64>() {
                    return Ok(Self::Int(n));
                }
                Ok(text.parse().map_or(Self::Text(text), |n: BigInt| Self::BigInt(Cow::Owned(n))))
            }
        }
    }

    /// Python's name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing => "none",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
        }
    }

    /// Writes Python's `str()` of it: `True`, `10.0`, `1e+22`.
    ///
    /// # Errors
    /// Python's `str()` refuses an int of more than [`python::INT_DIGITS_MAX`] digits.
    pub(crate) fn write_str(&self, out: &mut impl fmt::Write) -> Result<(), Raised> {
        let written = match self {
            Self::Missing => out.write_str("None"),
            Self::Bool(b) => out.write_str(python::bool_text(*b)),
            Self::Int(n) => write!(out, "{n}"),
            Self::BigInt(n) => {
                let refused = || {
                    Raised::new(format!(
                        "an int is written as text, and Python's str() refuses more than {} digits",
                        python::INT_DIGITS_MAX
                    ))
                };
                // By its size first: the digits of a long one take the square of their number.
                if n.bits() > 4 * python::INT_DIGITS_MAX as u64 {
                    return Err(refused());
                }
                let text = n.to_string();
                if text.trim_start_matches('-').len() > python::INT_DIGITS_MAX {
                    return Err(refused());
                }
                out.write_str(&text)
            }
            Self::Float(x) => python::write_float(*x, out),
            Self::Text(text) => out.write_str(text),
        };
        written.map_err(|fmt::Error| Raised::new("text could not be written"))
    }

    /// Python's `str()` of it; borrowed where it is text already.
    ///
    /// # Errors
    /// As [`Subject::write_str`].
    pub(crate) fn to_text(&self) -> Result<Cow<'a, str>, Raised> {
        if let Self::Text(text) = self {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = String::new();
        self.write_str(&mut text)?;
        Ok(Cow::Owned(text))
    }
}

enum NumberForm {
    None,
    Int { digits: usize },
    Float,
}

/// Which number, if any, the whole text looks like. Looks at the first byte first: most text isn't a number.
fn number_form(bytes: &[u8]) -> NumberForm {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let whole = leading_digits(unsigned);
    if whole == 0 {
        return NumberForm::None;
    }
    match &unsigned[whole..] {
        [] => NumberForm::Int { digits: whole },
        [b'.', fraction @ ..] if !fraction.is_empty() && leading_digits(fraction) == fraction.len() => {
            NumberForm::Float
        }
        _ => NumberForm::None,
    }
}

fn leading_digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Subject<'_> {
        Subject::of_text(text).unwrap()
    }

    #[test]
    fn text_that_looks_like_a_number_is_one() {
        assert_eq!(of("007"), Subject::Int(7));
        assert_eq!(of("-0"), Subject::Int(0));
        assert_eq!(of("1.50"), Subject::Float(1.5));
        assert_eq!(of("-0.0").type_name(), "float");
        assert_eq!(
            of("9223372036854775808"),
            Subject::BigInt(Cow::Owned("9223372036854775808".parse().unwrap()))
        );
        for text in
            ["", "-", "+10", " 10", "10 ", "1.", ".5", "1e3", "1.5e3", "1_0", "10\n", "٣", "--1", "1.2.3"]
        {
            assert_eq!(of(text), Subject::Text(text));
        }
    }

    #[test]
    fn python_refuses_too_many_digits() {
        assert!(Subject::of_text(&"9".repeat(4300)).is_ok());
        assert!(Subject::of_text(&"9".repeat(4301)).is_err());
        assert!(Subject::of_text(&format!("{}.5", "9".repeat(5000))).is_ok());
    }

    #[test]
    fn text_of_values_is_pythons() {
        let text = |subject: Subject<'_>| subject.to_text().unwrap().into_owned();
        assert_eq!(text(Subject::Bool(true)), "True");
        assert_eq!(text(Subject::Float(10.0)), "10.0");
        assert_eq!(text(Subject::Float(1e22)), "1e+22");
        assert_eq!(text(Subject::Int(-3)), "-3");
    }
}
