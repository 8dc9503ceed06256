//! Segment rules, decided exactly as the reference engine decides them. Pure: no I/O, no clock, no chance.
//!
//! ```text
//! SegmentDoc ──compile──▶ CompiledSegment ──judge(&Context)──▶ Ok(member?) | Err(Raised)
//!                          │  operands parsed once             the reference raises here, too
//!                          ├─ unsupported() ─▶ why no identity may be judged by it at all (static)
//!                          └─ explain(&Context) ─▶ the same tree with every value and verdict
//!
//! a line of JSON ──LineReader──▶ Context and CompiledSegment, for rules under test
//!
//! Context ──property──▶ Subject (coerced value) ──operator(operand)──▶ verdict
//! ```
//!
//! The reference is the Python package `flagsmith-flag-engine`; what it does with odd input is the specification, so
//! [`python`](self) text and number rules have modules of their own and each operator is one module under
//! `operators`. `tests/differential` compares all of it with the reference on generated cases.

mod compile;
mod context;
mod document;
mod explain;
mod jsonpath;
mod judge;
mod operators;
mod property;
mod python;
pub mod sql;
mod steps;
mod subject;

pub use compile::{CompiledSegment, RULE_DEPTH_MAX};
pub use context::{Context, DocumentTree};
pub use document::{JudgeLine, LineError, LineReader, PredicateLine};
pub use explain::{ConditionExplanation, Explanation, RuleExplanation};
pub use judge::{Raised, Raiser};
pub use steps::JUDGEMENT_STEPS_MAX;
