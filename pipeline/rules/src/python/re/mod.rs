//! Python's `re`: the dialect, what it refuses, and `match()`, within a bound of steps.
//!
//! ```text
//! text ──parse──▶ Node tree ──program──▶ instructions ──machine(text)──▶ matches at the start? | Exceeded
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

pub(crate) use re2::translate;

/// Steps of one match, at most: a few milliseconds. Python goes on for minutes or years on the patterns that need more.
pub const MATCH_STEPS_MAX: u32 = 2_000_000;

/// A match needed more than [`MATCH_STEPS_MAX`] steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exceeded {
    pub(crate) steps_max: u32,
}

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
        let parsed = parse::pattern(text)?;
        Ok(Self { program: program::compile(&parsed)? })
    }

    /// Whether `match(text)` finds a match.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, Exceeded> {
        machine::matches(&self.program, text)
    }
}

#[cfg(test)]
mod tests;
