//! Segments as ClickHouse predicates over `IDENTITIES AS i`.
//!
//! ```text
//! CompiledSegment ─┐                        ┌─ Exact        SQL is the evaluator
//! Scope ───────────┴─▶ conditions ─▶ groups ┼─ Superset     SQL holds for every member, and perhaps for others
//! (environment)        [below, above]       └─ Unsupported  nobody is judged by it
//! ```
//!
//! **Why it is exact.** Every condition is compiled to a verdict, or to two expressions that the verdict lies between.
//! ALL, ANY and NONE combine both ends (NONE turns them around), so that a condition which SQL can't say makes the
//! segment a superset only where it matters. The expressions are of type UInt8 and never NULL, so a `not` is a `not`.
//! `tests/differential` compares them with the evaluator on the real engine.
//!
//! **What they read.** `i.identifier`, `i.identity_key` and paths of the JSON column `i.traits`, as
//! `schemas/arrow/identities.v1.json` describes them: text, `Int64`, `Float64`, `Bool`; ints beyond 64 bits as text, and
//! floats that aren't finite as arrays of one text. Values are bound, never written into the text.
//!
//! **Where the evaluator raises** on an identity, the predicate says nothing about it.

mod by_text;
mod by_type;
mod condition;
mod expr;
mod modulo;
mod names;
mod number;
mod param;
mod place;
mod text_of;
mod version;

use crate::compile::{CompiledRule, CompiledSegment, GroupType};
use expr::{Bounds, Expr};
use names::Names;
pub use param::{Param, ParamValue};

/// ClickHouse refuses queries of more bytes than 256 KiB, values not counted; a query holds more than one predicate.
const TEXT_BYTES_MAX: usize = 200 << 10;
/// ClickHouse's parser refuses expressions that are nested too deep.
const DEPTH_MAX: usize = 60;

/// What a predicate is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `$.environment.key`.
    pub environment_key: &'a str,
    /// `$.environment.name`.
    pub environment_name: &'a str,
    /// What the names of its parameters begin with, so that several predicates fit into one query.
    pub prefix: &'a str,
}

/// A segment as a boolean expression over `IDENTITIES AS i`, of type UInt8 and never NULL.
#[derive(Clone, PartialEq, Debug)]
pub struct Predicate {
    /// How it relates to the evaluator.
    pub class: Class,
    /// The expression's text. It holds no value of a rule: those are in `params`. Empty when unsupported.
    pub condition: String,
    /// The bound values.
    pub params: Vec<Param>,
}

/// How a predicate relates to the evaluator, on every identity on which the evaluator answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// True for the members and nobody else.
    Exact,
    /// True for every member, and perhaps for others, for this reason.
    Superset(String),
    /// The segment is not judged, for this reason.
    Unsupported(String),
}

impl CompiledSegment {
    /// The segment as a ClickHouse predicate.
    #[must_use]
    pub fn predicate(&self, scope: &Scope<'_>) -> Predicate {
        if let Some(reason) = self.unsupported() {
            return Predicate {
                class: Class::Unsupported(reason.to_owned()),
                condition: String::new(),
                params: Vec::new(),
            };
        }
        let mut compiler = Compiler { scope: *scope, names: Names::new(scope.prefix), text_bytes: 0 };
        let bounds = if self.rules().is_empty() {
            Bounds::Exact(Expr::FALSE)
        } else {
            Bounds::all(compiler.rules(self.rules(), 1))
        };
        let (class, expr) = match bounds {
            Bounds::Exact(expr) => (Class::Exact, expr),
            Bounds::Between { upper, reason, .. } => (Class::Superset(reason), upper),
        };
        let (condition, params) = compiler.names.finish(&expr.text());
        if condition.len() > TEXT_BYTES_MAX {
            let reason = "the rules are too large for one query".to_owned();
            return Predicate {
                class: Class::Superset(reason),
                condition: Expr::TRUE.text(),
                params: Vec::new(),
            };
        }
        Predicate { class, condition, params }
    }
}

struct Compiler<'a> {
    scope: Scope<'a>,
    names: Names<'a>,
    /// Written for conditions so far.
    text_bytes: usize,
}

impl Compiler<'_> {
    fn rules(&mut self, rules: &[CompiledRule], depth: usize) -> Vec<Bounds> {
        rules.iter().map(|rule| self.rule(rule, depth)).collect()
    }

    /// Both groups must hold; an empty one does.
    fn rule(&mut self, rule: &CompiledRule, depth: usize) -> Bounds {
        if depth > DEPTH_MAX {
            return Bounds::unknown("the rules are nested too deep for ClickHouse");
        }
        let conditions: Vec<Bounds> = rule.conditions.iter().map(|c| self.condition(c)).collect();
        let rules = self.rules(&rule.rules, depth + 1);
        Bounds::all(vec![group(&rule.group_type, conditions), group(&rule.group_type, rules)])
    }

    fn condition(&mut self, condition: &crate::compile::CompiledCondition) -> Bounds {
        // The rest would be thrown away.
        if self.text_bytes > TEXT_BYTES_MAX {
            return Bounds::unknown("the rules are too large for one query");
        }
        let bounds = condition::condition(condition, &self.scope, &mut self.names);
        self.text_bytes += match &bounds {
            Bounds::Exact(expr) => expr.len(),
            Bounds::Between { lower, upper, .. } => lower.len().max(upper.len()),
        };
        bounds
    }
}

fn group(group_type: &GroupType, parts: Vec<Bounds>) -> Bounds {
    if parts.is_empty() {
        return Bounds::Exact(Expr::TRUE);
    }
    match group_type {
        GroupType::All => Bounds::all(parts),
        GroupType::Any => Bounds::any(parts),
        GroupType::None => Bounds::any(parts).negated(),
        // A segment with one is unsupported unless all its groups are empty.
        GroupType::Unknown(name) => Bounds::unknown(format!("the rule type '{name}' is unknown")),
    }
}
