//! The operators, each in the module of its family, with its operand parsed once.
//!
//! An operand is text, or nothing (SQL NULL, JSON null), which Python's `str()` turns into `None` where it is used as
//! text. Except for IS_SET and IS_NOT_SET every operator is false on a missing value; IN and PERCENTAGE_SPLIT look at
//! their operand in their own order, which shows when it is nothing.

pub(crate) mod compare;
pub(crate) mod contains;
pub(crate) mod in_list;
pub(crate) mod modulo;
pub(crate) mod percentage_split;
pub(crate) mod regex;
pub(crate) mod semver;
mod set;

use crate::judge::Raised;
use crate::steps::Steps;
use crate::subject::Subject;
use compare::{Comparison, Operand};
use contains::{Contains, NotContains};
use in_list::InList;
use modulo::Modulo;
use percentage_split::PercentageSplit;
use regex::Regex;

/// The name of the one operator whose blank property means the identity key.
pub(crate) const PERCENTAGE_SPLIT: &str = "PERCENTAGE_SPLIT";

/// An operator with its operand.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// EQUAL, NOT_EQUAL and the four orderings.
    Compare(Comparison, Operand),
    /// CONTAINS.
    Contains(Contains),
    /// NOT_CONTAINS.
    NotContains(NotContains),
    /// REGEX.
    Regex(Regex),
    /// IN.
    In(InList),
    /// MODULO.
    Modulo(Modulo),
    /// PERCENTAGE_SPLIT.
    PercentageSplit(PercentageSplit),
    /// IS_SET.
    IsSet,
    /// IS_NOT_SET.
    IsNotSet,
    /// One of those above that the reference asks for an operand, which is absent: it raises on any value.
    Valueless,
    /// A name that the reference doesn't know: it answers false.
    Unknown,
}

const VALUELESS: &str = "a condition without a value raises in the reference";

impl Operator {
    /// The operator of a name, and why no identity may be judged by it, if so.
    pub(crate) fn compile(name: &str, value: Option<&str>, segment_key: &str) -> (Self, Option<String>) {
        if let Some(comparison) = Comparison::of_name(name) {
            return (Self::Compare(comparison, Operand::new(value)), None);
        }
        match name {
            "CONTAINS" => (Self::Contains(Contains::new(value)), None),
            "NOT_CONTAINS" => (Self::NotContains(NotContains::new(value)), None),
            "REGEX" => {
                let regex = Regex::new(value);
                let unsupported = regex.unsupported();
                (Self::Regex(regex), unsupported)
            }
            "IN" => {
                let list = InList::new(value);
                let unsupported = list.unsupported();
                (Self::In(list), unsupported)
            }
            "MODULO" => {
                let modulo = Modulo::new(value);
                let unsupported = modulo.unsupported();
                (Self::Modulo(modulo), unsupported)
            }
            PERCENTAGE_SPLIT => {
                let split = PercentageSplit::new(value, segment_key);
                let unsupported = split.unsupported();
                (Self::PercentageSplit(split), unsupported)
            }
            "IS_SET" => (Self::IsSet, None),
            "IS_NOT_SET" => (Self::IsNotSet, None),
            _ => (Self::Unknown, Some("this version doesn't know the operator".to_owned())),
        }
    }

    /// As [`Self::compile`], of a condition without an operand, not even null.
    pub(crate) fn compile_absent(name: &str, segment_key: &str) -> (Self, Option<String>) {
        let (operator, reason) = Self::compile(name, None, segment_key);
        match operator {
            Self::Compare(..)
            | Self::Contains(_)
            | Self::NotContains(_)
            | Self::Regex(_)
            | Self::Modulo(_)
            | Self::Valueless => (Self::Valueless, Some(VALUELESS.to_owned())),
            // Null raises there as well, and as late.
            Self::In(_) | Self::PercentageSplit(_) => (operator, reason),
            // Nothing is asked for.
            Self::IsSet | Self::IsNotSet | Self::Unknown => (operator, reason),
        }
    }

    /// The verdict on a value.
    ///
    /// # Errors
    /// Where the reference raises.
    pub(crate) fn holds(&self, subject: &Subject<'_>, steps: &Steps) -> Result<bool, Raised> {
        match self {
            Self::Compare(comparison, operand) => Ok(comparison.holds(subject, operand)),
            Self::Contains(contains) => Ok(contains.holds(subject)),
            Self::NotContains(not_contains) => Ok(not_contains.holds(subject)),
            Self::Regex(regex) => regex.holds(subject, steps),
            Self::In(list) => list.holds(subject),
            Self::Modulo(modulo) => modulo.holds(subject),
            Self::PercentageSplit(split) => split.holds(subject),
            Self::IsSet => Ok(set::is_set(subject)),
            Self::IsNotSet => Ok(!set::is_set(subject)),
            Self::Valueless if set::is_set(subject) => Err(Raised::new(VALUELESS)),
            Self::Valueless | Self::Unknown => Ok(false),
        }
    }

    /// What the operand becomes beside this value, for people; `None` where it plays no part.
    pub(crate) fn cast_operand(&self, subject: &Subject<'_>) -> Option<String> {
        match self {
            Self::Compare(_, operand) => operand.cast_text(subject),
            Self::Contains(contains) => contains.cast_text(subject),
            Self::NotContains(not_contains) => Some(not_contains.text().to_owned()),
            Self::Regex(regex) => Some(regex.pattern().to_owned()),
            Self::In(list) => list.cast_text(),
            Self::Modulo(modulo) => modulo.cast_text(),
            Self::PercentageSplit(split) => split.cast_text(subject),
            Self::IsSet | Self::IsNotSet | Self::Valueless | Self::Unknown => None,
        }
    }
}
