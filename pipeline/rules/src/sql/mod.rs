//! Segments as ClickHouse predicates.

use crate::compile::CompiledSegment;

mod param;

pub use param::{Param, ParamValue};

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
    /// The bound values, in the order in which the text names them first.
    pub params: Vec<Param>,
}

/// How a predicate relates to the evaluator, on every identity on which the evaluator answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// True for the members and nobody else.
    Exact,
    /// True for every member, and perhaps for others.
    Superset(String),
    /// The segment is not judged.
    Unsupported(String),
}

impl CompiledSegment {
    /// The segment as a ClickHouse predicate.
    #[must_use]
    pub fn predicate(&self, scope: &Scope<'_>) -> Predicate {
        let _ = scope;
        match self.unsupported() {
            Some(reason) => Predicate {
                class: Class::Unsupported(reason.to_owned()),
                condition: String::new(),
                params: Vec::new(),
            },
            None => Predicate {
                class: Class::Superset("not compiled yet".to_owned()),
                condition: "1".to_owned(),
                params: Vec::new(),
            },
        }
    }
}
