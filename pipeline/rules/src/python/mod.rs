//! The parts of Python whose exact behaviour decides memberships.

mod float_text;
mod int_text;
mod json;
pub(crate) mod re;
mod str_repr;
pub(crate) mod unicode;
mod unicode_14;

pub(crate) use float_text::{parse_float, remainder, write_float};
pub(crate) use int_text::{INT_DIGITS_MAX, Int, parse_int};
pub(crate) use json::{Failure, Json, Parser, StringList, Text, parse_string_list};
pub(crate) use unicode_14::is_assigned;

/// Python's `str()` of a truth value.
pub(crate) fn bool_text(b: bool) -> &'static str {
    if b { "True" } else { "False" }
}
