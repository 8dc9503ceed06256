//! How much of what is generated SQL decides exactly.

use std::collections::BTreeMap;
use std::fmt;

use rollcall_model::{Condition, Rule, RuleType};
use rollcall_rules::CompiledSegment;
use rollcall_rules::sql::{Class, Scope};

use crate::case::Case;
use crate::generate::OPERATORS;

/// Reasons printed, the most frequent first.
const REASONS_MAX: usize = 20;

/// Counts by class.
#[derive(Clone, Copy, Debug, Default)]
struct Classes {
    exact: u64,
    superset: u64,
    unsupported: u64,
}

impl Classes {
    fn count(&mut self, class: &Class) {
        match class {
            Class::Exact => self.exact += 1,
            Class::Superset(_) => self.superset += 1,
            Class::Unsupported(_) => self.unsupported += 1,
        }
    }

    fn line(self, name: &str) -> String {
        let all = self.exact + self.superset + self.unsupported;
        let share = |part: u64| 100.0 * part as f64 / all.max(1) as f64;
        format!(
            "{name:24} {all:9} {:7.2} % {:7.2} % {:7.2} %\n",
            share(self.exact),
            share(self.superset),
            share(self.unsupported)
        )
    }
}

/// What was generated, by class; each condition alone, too, by operator.
#[derive(Debug, Default)]
pub struct Tally {
    segments: Classes,
    conditions: BTreeMap<String, Classes>,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a case's segment, and each of its conditions as a segment of its own.
    pub fn count(&mut self, case: &Case) {
        self.segments.count(&class_of(case));
        let mut conditions = Vec::new();
        collect(&case.rules, &mut conditions);
        for condition in conditions {
            let operator = if OPERATORS.contains(&condition.operator.as_str()) {
                condition.operator.clone()
            } else {
                "(unknown)".to_owned()
            };
            let rule = Rule { rule_type: RuleType::All, conditions: vec![condition.clone()], rules: vec![] };
            let class = class_of(&Case { rules: vec![rule], ..case.clone() });
            self.conditions.entry(operator).or_default().count(&class);
            if let Class::Superset(reason) = class {
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }
}

fn class_of(case: &Case) -> Class {
    let scope = Scope {
        environment_key: &case.environment_key,
        environment_name: &case.environment_name,
        prefix: "p",
    };
    CompiledSegment::compile(&case.segment()).predicate(&scope).class
}

fn collect<'a>(rules: &'a [Rule], found: &mut Vec<&'a Condition>) {
    for rule in rules {
        found.extend(&rule.conditions);
        collect(&rule.rules, found);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24} {:>9} {:>9} {:>9} {:>9}", "", "generated", "exact", "superset", "unsupp.")?;
        for (operator, classes) in &self.conditions {
            f.write_str(&classes.line(operator))?;
        }
        f.write_str(&self.segments.line("whole segments"))?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        writeln!(f, "conditions that are a superset, by reason ({} reasons):", reasons.len())?;
        for (reason, count) in reasons.into_iter().take(REASONS_MAX) {
            writeln!(f, "{count:9} {reason}")?;
        }
        Ok(())
    }
}
