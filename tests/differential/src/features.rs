//! What a case has in it: whether the generator really makes what it is there to make.

use std::collections::BTreeMap;

use rollcall_model::{Condition, Rule, RuleType, Value};
use serde_json::Value as Json;

use crate::case::Case;
use crate::generate::OPERATORS;

/// Text at the edges of the engines' rules, demanded as a trait under every operator, and as an operand.
pub const BOUNDARY_TEXTS: [&str; 46] = [
    "",
    " 10 ",
    "+10",
    "1_0",
    "010",
    "1e3",
    "inf",
    "nan",
    "-0",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740991",
    "-9007199254740992",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1234567890123456789012345678901234567890",
    "True",
    "true",
    "False",
    "FALSE",
    "None",
    "2024-01-01",
    "2024-01-01T10:00:00+02:00",
    "1999/01/02",
    "١٠",
    "１０",
    "e\u{301}",
    "\0",
    "a\0b",
    "'",
    "\"",
    "\\",
    "%",
    "[",
    "[1]",
    "1, 2",
    "1.2.3",
    "1.2.3-rc.10",
    "1.2.3+build",
    "v1.2.3",
    "1.2.3:semver",
];

/// Ints likewise.
pub const BOUNDARY_INTS: [&str; 13] = [
    "0",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740991",
    "-9007199254740992",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775809",
    "-9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
];

/// Types of what a condition looks at.
const TYPES: [&str; 9] =
    ["missing", "null", "bool", "int", "big int", "float", "non-finite float", "text", "text like a number"];

/// Everything else that is demanded.
const OTHERS: [&str; 26] = [
    "40-digit int",
    "empty list",
    "list of mixed types",
    "list that is no JSON",
    "semver operand",
    "lookahead",
    "lookbehind",
    "backreference",
    "catastrophic pattern",
    "invalid pattern",
    "empty rule within a rule",
    "segment without rules",
    "NONE over a missing trait",
    "several conditions",
    "rules 3 deep",
    "rules 50 deep",
    "unknown rule type",
    "unknown operator",
    "trait named $.identity.key",
    "dotted key beside its parent",
    "identifier like a number",
    "system trait over a trait",
    "condition on $.environment.name",
    "condition on $.environment.key",
    "condition on $.identity.key",
    "condition on $.flags",
];

/// How often each feature was seen; those never seen are there, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features(pub BTreeMap<String, usize>);

impl Default for Features {
    fn default() -> Self {
        let mut names: Vec<String> = OTHERS.map(str::to_owned).into();
        for operator in OPERATORS {
            names.extend(TYPES.map(|name| format!("{operator} on {name}")));
            names.extend(BOUNDARY_TEXTS.map(|text| format!("{operator} on {text:?}")));
            names.extend(BOUNDARY_INTS.map(|int| format!("{operator} on {int}")));
            names.push(format!("{operator} without operand"));
        }
        names.extend(BOUNDARY_TEXTS.map(|text| format!("operand {text:?}")));
        Self(names.into_iter().map(|name| (name, 0)).collect())
    }
}

impl Features {
    /// Counts what is in a case.
    pub fn count(&mut self, case: &Case) {
        let any_name = |prefix: &str| case.traits.keys().any(|key| key.starts_with(prefix));
        self.seen("segment without rules", case.rules.is_empty());
        self.seen("trait named $.identity.key", case.traits.contains_key("$.identity.key"));
        self.seen("dotted key beside its parent", case.traits.contains_key("a") && any_name("a."));
        self.seen("identifier like a number", is_like_a_number(&case.identifier));
        let hides = case.system_traits.keys().any(|key| case.traits.contains_key(key));
        self.seen("system trait over a trait", hides);
        let depth = depth(&case.rules);
        self.seen("rules 3 deep", (3..10).contains(&depth));
        self.seen("rules 50 deep", depth >= 50);
        for rule in &case.rules {
            self.rule(case, rule);
        }
    }

    /// What was never seen.
    #[must_use]
    pub fn missing(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect()
    }

    /// A name that isn't demanded isn't counted.
    fn seen(&mut self, name: &str, is_seen: bool) {
        if is_seen && let Some(count) = self.0.get_mut(name) {
            *count += 1;
        }
    }

    fn rule(&mut self, case: &Case, rule: &Rule) {
        let is_empty = |rule: &Rule| rule.conditions.is_empty() && rule.rules.is_empty();
        self.seen("empty rule within a rule", rule.rules.iter().any(is_empty));
        self.seen("several conditions", rule.conditions.len() > 1);
        self.seen("unknown rule type", matches!(rule.rule_type, RuleType::Unknown(_)));
        for condition in &rule.conditions {
            let is_missing = value_of(case, condition).is_none();
            self.seen("NONE over a missing trait", rule.rule_type == RuleType::None && is_missing);
            self.condition(case, condition);
        }
        for rule in &rule.rules {
            self.rule(case, rule);
        }
    }

    fn condition(&mut self, case: &Case, condition: &Condition) {
        let operator = condition.operator.as_str();
        self.seen("unknown operator", !OPERATORS.contains(&operator));
        let property = condition.property.as_deref().unwrap_or_default();
        self.seen(&format!("condition on {property}"), true);
        self.seen("condition on $.flags", property.starts_with("$.flags"));
        let value = value_of(case, condition);
        self.seen(&format!("{operator} on {}", type_of(value)), true);
        match value {
            Some(Value::Str(text)) => {
                self.seen(&format!("{operator} on {text:?}"), true);
                self.seen(&format!("{operator} on text like a number"), is_like_a_number(text));
            }
            Some(Value::Int(n)) => self.seen(&format!("{operator} on {n}"), true),
            Some(Value::BigInt(n)) => {
                let text = n.to_string();
                self.seen(&format!("{operator} on {text}"), true);
                self.seen("40-digit int", text.trim_start_matches('-').len() == 40);
            }
            Some(Value::Null | Value::Bool(_) | Value::Float(_)) | None => (),
        }
        match condition.value.as_deref() {
            Some(operand) => self.operand(operator, operand),
            None => self.seen(&format!("{operator} without operand"), true),
        }
    }

    fn operand(&mut self, operator: &str, operand: &str) {
        self.seen(&format!("operand {operand:?}"), true);
        self.seen("semver operand", operand.ends_with(":semver"));
        match operator {
            "REGEX" => {
                let has = |parts: &[&str]| parts.iter().any(|part| operand.contains(part));
                self.seen("lookahead", has(&["(?=", "(?!"]));
                self.seen("lookbehind", has(&["(?<=", "(?<!"]));
                self.seen("backreference", has(&["\\1", "(?P="]));
                self.seen("catastrophic pattern", has(&["(a+)+$", "(a*)*$", "(a|b)*c?$"]));
                self.seen("invalid pattern", has(&["a**", "[z-a]", "(?L)a"]) || operand == "[");
            }
            "IN" if operand.starts_with('[') => match serde_json::from_str::<Vec<Json>>(operand) {
                Ok(items) => {
                    self.seen("empty list", items.is_empty());
                    let types: Vec<_> = items.iter().map(std::mem::discriminant).collect();
                    self.seen("list of mixed types", types.windows(2).any(|pair| pair[0] != pair[1]));
                }
                Err(_) => self.seen("list that is no JSON", true),
            },
            _ => (),
        }
    }
}

/// A trait, or one of the fixed paths.
fn value_of<'a>(case: &'a Case, condition: &Condition) -> Option<&'a Value> {
    let property = condition.property.as_deref()?;
    case.system_traits.get(property).or_else(|| case.traits.get(property))
}

fn type_of(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Int(_)) => "int",
        Some(Value::BigInt(_)) => "big int",
        Some(Value::Float(x)) if x.is_finite() => "float",
        Some(Value::Float(_)) => "non-finite float",
        Some(Value::Str(_)) => "text",
    }
}

fn is_like_a_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn depth(rules: &[Rule]) -> usize {
    rules.iter().map(|rule| 1 + depth(&rule.rules)).max().unwrap_or(0)
}
