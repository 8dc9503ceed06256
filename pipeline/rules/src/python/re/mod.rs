//! Python's `re`: the dialect, what it refuses, and `match()`, within a bound of steps.
//!
//! ```text
//! text ──parse──▶ Node tree ──program──▶ instructions ──machine(text, steps)──▶ matches at the start? | Exceeded
//!          └ refused as Python refuses it
//! ```
//!
//! An own engine, because no library's is this one: Python's character classes, case folding, global flags, look-behind
//! widths, group references in loops and empty iterations decide memberships, and its refusals decide what is
//! unsupported. It backtracks as Python's does, so that it finds what Python finds; unlike Python's, it stops.

mod casefold;
mod charset;
mod escape;
mod machine;
mod parse;
mod program;
mod re2;
mod simplify;
mod source;
mod tree;

use std::fmt;

use crate::steps::{Exceeded, Steps};
pub(crate) use re2::translate;

/// Characters of a pattern, at most, and as many again that its sets may have under `(?i)`: what compiles it takes time
/// and memory in proportion.
const SIZE_MAX: usize = 1 << 20;
const TOO_LARGE: PatternError =
    PatternError("this version takes a million characters, sets under (?i) letter by letter");

/// Why Python refuses a pattern, or this version doesn't know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PatternError(pub(crate) &'static str);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "doesn't compile: {}", self.0)
    }
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    program: program::Program,
}

impl Pattern {
    /// `re.compile(text)`.
    pub(crate) fn compile(text: &str) -> Result<Self, PatternError> {
        if text.len() > SIZE_MAX && text.chars().count() > SIZE_MAX {
            return Err(TOO_LARGE);
        }
        let parsed = parse::pattern(text)?;
        Ok(Self { program: program::compile(&parsed)? })
    }

    /// Whether `match(text)` finds a match.
    pub(crate) fn matches(&self, text: &str, steps: &Steps) -> Result<bool, Exceeded> {
        machine::matches(&self.program, text, steps)
    }
}

#[cfg(test)]
mod tests;
