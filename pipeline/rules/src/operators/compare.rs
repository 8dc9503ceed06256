//! EQUAL, NOT_EQUAL, GREATER_THAN, GREATER_THAN_INCLUSIVE, LESS_THAN, LESS_THAN_INCLUSIVE.
//!
//! The operand, always text, is cast to the type of the value; where it can't be, the verdict is false, NOT_EQUAL's
//! included. So `10 > "9.5"` is false (no int), and `"10.0" != "x"` is false, too (the text became a float).

use std::cmp::Ordering;

use super::semver::Semver;
use crate::python::{self, Int, bool_text, parse_float, parse_int};
use crate::subject::Subject;

/// The suffix that asks for semantic version order.
pub(super) const SEMVER_SUFFIX: &str = ":semver";

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    /// EQUAL.
    Equal,
    /// NOT_EQUAL.
    NotEqual,
    /// GREATER_THAN.
    Greater,
    /// GREATER_THAN_INCLUSIVE.
    GreaterOrEqual,
    /// LESS_THAN.
    Less,
    /// LESS_THAN_INCLUSIVE.
    LessOrEqual,
}

impl Comparison {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "EQUAL" => Self::Equal,
            "NOT_EQUAL" => Self::NotEqual,
            "GREATER_THAN" => Self::Greater,
            "GREATER_THAN_INCLUSIVE" => Self::GreaterOrEqual,
            "LESS_THAN" => Self::Less,
            "LESS_THAN_INCLUSIVE" => Self::LessOrEqual,
            _ => return None,
        })
    }

    /// The verdict. Bools are ordered, text by code point, versions by precedence.
    pub(super) fn holds(self, subject: &Subject<'_>, operand: &Operand) -> bool {
        match subject {
            Subject::Missing => false,
            Subject::Bool(left) => self.accepts(left.cmp(&operand.as_bool)),
            Subject::Int(left) => {
                operand.as_int.as_ref().is_some_and(|right| self.accepts(right.compare_small(*left)))
            }
            Subject::BigInt(left) => {
                operand.as_int.as_ref().is_some_and(|right| self.accepts(right.compare_big(left)))
            }
            Subject::Float(left) => operand.as_float.is_some_and(|right| match left.partial_cmp(&right) {
                Some(ordering) => self.accepts(ordering),
                None => self == Self::NotEqual, // NaN differs from everything, itself included
            }),
            Subject::Text(left) => match &operand.as_text {
                TextOperand::Plain(right) => self.accepts((*left).cmp(right)),
                TextOperand::Version(right) => match (Semver::parse(left), right) {
                    (Some(left), Some(right)) => self.accepts(left.precedence(&right.borrowed())),
                    (None, _) | (_, None) => false,
                },
            },
        }
    }

    pub(crate) fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

/// An operand cast to every type that a value can have.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    /// Everything but `False` and `false` is true, `""`, `0` and `FALSE` included.
    as_bool: bool,
    pub(crate) as_int: Option<Int>,
    pub(crate) as_float: Option<f64>,
    pub(crate) as_text: TextOperand,
}

/// An operand beside text.
#[derive(Clone, Debug)]
pub(crate) enum TextOperand {
    /// Text.
    Plain(Box<str>),
    /// Ends with [`SEMVER_SUFFIX`]; `None` when what stands before isn't a version.
    Version(Option<OwnedSemver>),
}

/// A version's text, known to parse.
#[derive(Clone, Debug)]
pub(crate) struct OwnedSemver(Box<str>);

impl OwnedSemver {
    /// The version.
    pub(crate) fn borrowed(&self) -> Semver<'_> {
        Semver::parse(&self.0).unwrap_or_default()
    }
}

impl Operand {
    pub(super) fn new(value: Option<&str>) -> Self {
        let as_text = match value.and_then(|text| text.strip_suffix(SEMVER_SUFFIX)) {
            Some(version) => {
                TextOperand::Version(Semver::parse(version).map(|_| OwnedSemver(version.into())))
            }
            None => TextOperand::Plain(value.unwrap_or("None").into()),
        };
        Self {
            as_bool: !matches!(value, Some("False" | "false")),
            as_int: value.and_then(parse_int),
            as_float: value.and_then(parse_float),
            as_text,
        }
    }

    /// The operand as it is compared with this value, for people.
    pub(super) fn cast_text(&self, subject: &Subject<'_>) -> Option<String> {
        match subject {
            Subject::Missing => None,
            Subject::Bool(_) => Some(bool_text(self.as_bool).to_owned()),
            Subject::Int(_) | Subject::BigInt(_) => self.as_int.as_ref().map(Int::text),
            Subject::Float(_) => {
                let mut text = String::new();
                python::write_float(self.as_float?, &mut text).ok()?;
                Some(text)
            }
            Subject::Text(_) => match &self.as_text {
                TextOperand::Plain(text) => Some(text.to_string()),
                TextOperand::Version(version) => {
                    version.as_ref().map(|version| format!("version {}", version.0))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(subject: &Subject<'_>, name: &str, value: &str) -> bool {
        Comparison::of_name(name).expect("a comparison").holds(subject, &Operand::new(Some(value)))
    }

    #[test]
    fn bools_are_compared_with_anything_but_false() {
        for value in ["", "0", "1", "FALSE", "growth", "True"] {
            assert!(holds(&Subject::Bool(true), "EQUAL", value), "{value:?}");
        }
        assert!(holds(&Subject::Bool(false), "EQUAL", "false"));
        assert!(holds(&Subject::Bool(true), "GREATER_THAN", "False"));
        assert!(Comparison::Equal.holds(&Subject::Bool(true), &Operand::new(None)));
    }

    #[test]
    fn c24_not_equal_is_no_negation() {
        assert!(!holds(&Subject::Int(10), "NOT_EQUAL", "9.5"));
        assert!(!holds(&Subject::Missing, "NOT_EQUAL", "x"));
        assert!(!holds(&Subject::Text("v1"), "NOT_EQUAL", "1.2.3:semver"));
        assert!(holds(&Subject::Int(10), "NOT_EQUAL", " 11 "));
    }

    #[test]
    fn numbers_are_compared_in_the_type_of_the_value() {
        assert!(!holds(&Subject::Int(10), "EQUAL", "10.0"));
        assert!(holds(&Subject::Float(10.0), "EQUAL", "1e1"));
        assert!(holds(&Subject::Int(i64::MAX), "LESS_THAN", "9223372036854775808"));
        assert!(holds(&Subject::Int((1 << 53) + 1), "GREATER_THAN", "9007199254740992"));
        assert!(holds(&Subject::Float(f64::NAN), "NOT_EQUAL", "nan"));
        assert!(!holds(&Subject::Float(f64::NAN), "EQUAL", "nan"));
        assert!(holds(&Subject::Float(-0.0), "EQUAL", "0"));
    }

    #[test]
    fn text_is_compared_by_code_point() {
        assert!(holds(&Subject::Text("abd"), "GREATER_THAN", "abc"));
        assert!(holds(&Subject::Text("2024-02-01"), "GREATER_THAN", "2024-01-01"));
        assert!(holds(&Subject::Text("abc"), "GREATER_THAN", "9"));
        assert!(!holds(&Subject::Text("True"), "EQUAL", "true"));
        assert!(holds(&Subject::Text("\u{ffff}"), "LESS_THAN", "\u{10000}"));
        assert!(Comparison::Equal.holds(&Subject::Text("None"), &Operand::new(None)));
    }

    #[test]
    fn versions_follow_precedence() {
        assert!(holds(&Subject::Text("1.10.0"), "GREATER_THAN", "1.9.0:semver"));
        assert!(holds(&Subject::Text("1.0.0-rc.2"), "LESS_THAN", "1.0.0-rc.10:semver"));
        assert!(holds(&Subject::Text("1.0.0+a"), "EQUAL", "1.0.0+b:semver"));
        assert!(!holds(&Subject::Text("1.2"), "EQUAL", "1.2:semver"));
        assert!(!holds(&Subject::Int(2), "EQUAL", "2:semver"));
    }
}
