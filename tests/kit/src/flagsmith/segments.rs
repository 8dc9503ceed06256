//! Segments: rule trees, as the JSON of `rules_data` and as the rows of the rule and condition tables.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;

use super::vocabulary::{self, OPERATORS, pick};

/// The deepest tree that is generated.
pub(super) const DEPTH_MAX: usize = 50;

/// A condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The operator.
    pub operator: &'static str,
    /// The property.
    pub property: Option<String>,
    /// The operand.
    pub value: Option<String>,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// `ALL`, `ANY` or `NONE`.
    pub rule_type: &'static str,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Its sub-rules.
    pub rules: Vec<Rule>,
}

/// Where a segment's rules stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In `rules_data` and, as long as the platform writes both, in rows.
    RulesData,
    /// In rows alone: made before `rules_data` existed.
    Rows,
    /// In rows alone, for ever: one IS_SET on a key that the platform sets.
    Cohort,
}

/// A segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its project.
    pub project: i32,
    /// Where its rules stand.
    pub form: Form,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Segment {
    /// Its `rules_data`, where it has one.
    pub(super) fn rules_data(&self) -> Option<serde_json::Value> {
        match self.form {
            Form::RulesData => Some(to_json(&self.rules)),
            Form::Rows | Form::Cohort => None,
        }
    }

    /// `managed_by`.
    pub(super) fn managed_by(&self) -> &'static str {
        match self.form {
            Form::Cohort => "cohort",
            Form::RulesData | Form::Rows => "",
        }
    }
}

/// The `number`th segment of a population. Numbers spread the operators, forms and depths: every 14th has the same
/// first operator, every 10th is nested 50 deep, every 3rd has no `rules_data`, every 11th is a cohort's.
pub(super) fn segment(rng: &mut StdRng, number: usize, project: i32) -> Segment {
    if number % 11 == 10 {
        return Segment { project, form: Form::Cohort, rules: vec![cohort_rule(&cohort_key(number))] };
    }
    let depth = match number % 10 {
        9 => DEPTH_MAX,
        4 => rng.random_range(3..13),
        _ => rng.random_range(1..3),
    };
    let form = if number % 3 == 1 { Form::Rows } else { Form::RulesData };
    let mut rules = vec![rule(rng, depth, OPERATORS[number % OPERATORS.len()])];
    if number % 7 == 6 {
        let operator = pick(rng, &OPERATORS);
        rules.push(rule(rng, 1, operator));
    }
    Segment { project, form, rules }
}

/// The system trait of the `number`th segment, where that is a cohort's.
pub(super) fn cohort_key(number: usize) -> String {
    format!("flagsmith_cohort_{number:08x}-0000-4000-8000-000000000000")
}

fn cohort_rule(key: &str) -> Rule {
    let condition = Condition { operator: "IS_SET", property: Some(key.to_owned()), value: None };
    Rule { rule_type: "ALL", conditions: vec![condition], rules: Vec::new() }
}

/// A rule nested `depth` deep, whose deepest condition has this operator.
fn rule(rng: &mut StdRng, depth: usize, operator: &'static str) -> Rule {
    if depth <= 1 {
        let more = rng.random_range(0..3);
        let mut conditions = vec![vocabulary::condition(rng, operator)];
        for _ in 0..more {
            let operator = pick(rng, &OPERATORS);
            conditions.push(vocabulary::condition(rng, operator));
        }
        return Rule { rule_type: pick(rng, &["ALL", "ANY", "ANY", "NONE"]), conditions, rules: Vec::new() };
    }
    let rule_type = if depth % 9 == 8 { "NONE" } else { pick(rng, &["ALL", "ALL", "ANY"]) };
    let mut rules = vec![rule(rng, depth - 1, operator)];
    if depth < 6 && rng.random_bool(0.3) {
        let operator = pick(rng, &OPERATORS);
        rules.push(rule(rng, 1, operator));
    }
    let conditions = if rng.random_bool(0.05) {
        let operator = pick(rng, &OPERATORS);
        vec![vocabulary::condition(rng, operator)]
    } else {
        Vec::new()
    };
    Rule { rule_type, conditions, rules }
}

/// The shape that the platform's API writes.
pub(super) fn to_json(rules: &[Rule]) -> serde_json::Value {
    rules
        .iter()
        .map(|rule| {
            let conditions: Vec<_> = rule
                .conditions
                .iter()
                .map(|condition| {
                    json!({
                        "operator": condition.operator,
                        "property": condition.property,
                        "value": condition.value,
                        "description": null,
                    })
                })
                .collect();
            json!({"type": rule.rule_type, "conditions": conditions, "rules": to_json(&rule.rules)})
        })
        .collect()
}
