//! Cases, adversarial on purpose: every operator on every type of value, with operands near it.

mod expressions;
mod operands;
mod paths;
mod values;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall_model::{Condition, Rule, RuleType, Traits, Value};

use crate::case::Case;

/// Every operator of the reference.
pub const OPERATORS: [&str; 14] = [
    "EQUAL",
    "NOT_EQUAL",
    "GREATER_THAN",
    "GREATER_THAN_INCLUSIVE",
    "LESS_THAN",
    "LESS_THAN_INCLUSIVE",
    "CONTAINS",
    "NOT_CONTAINS",
    "REGEX",
    "IN",
    "MODULO",
    "PERCENTAGE_SPLIT",
    "IS_SET",
    "IS_NOT_SET",
];

/// Trait keys, some of which look like paths, or like the syntax of a JSON column's paths.
const KEYS: &[&str] = &[
    "a",
    "b",
    "plan",
    "a.b",
    "a.b.c",
    "a..b",
    ".",
    "a.",
    "",
    "$",
    "$identity",
    "$.",
    "$.a",
    "$.identity.key",
    "$.identity.traits.a",
    "é",
    "A b",
    "0",
    "'",
    "\\",
    "\"",
    "a`b",
    "a%2Eb",
    "a.:Int64",
    "a[]",
    "^a",
    "$int",
    "a\tb",
    "a\0b",
    "e\u{301}",
    "NULL",
    "traits",
    "identifier",
    "key",
    "name",
];

const ENVIRONMENT_KEYS: &[&str] = &["env", "env", "7", "1.0", "a_b", "é", "it's\\"];
const ENVIRONMENT_NAMES: &[&str] =
    &["Production", "Production", "10", "010", "1.5", "", "true", "None", "it's", " 10 ", "1.2.3"];

/// The case of a number, from a seed; all its conditions of one operator, if one is named.
#[must_use]
pub fn case(seed: u64, number: u64, only: Option<&str>) -> Case {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let rng = &mut rng;
    let environment_key = pick(rng, ENVIRONMENT_KEYS).to_owned();
    let identifier = values::text(rng);
    let identity_key = match rng.random_range(0..4) {
        0 => values::text(rng),
        _ => format!("{environment_key}_{identifier}"),
    };
    // A blank key is one that is missing, and the reference then makes one; stored identities always have one.
    let identity_key = if identity_key.is_empty() { "k".to_owned() } else { identity_key };
    let mut case = Case {
        environment_key,
        environment_name: pick(rng, ENVIRONMENT_NAMES).to_owned(),
        identifier,
        identity_key,
        traits: traits(rng, 4),
        system_traits: if rng.random_bool(0.1) { traits(rng, 2) } else { Traits::new() },
        segment_id: pick(rng, &["1", "42", "100000", "é"]).to_owned(),
        rules: Vec::new(),
    };
    case.rules = rules(rng, &case);
    if let Some(operator) = only {
        case.rules = vec![Rule {
            rule_type: RuleType::All,
            conditions: vec![condition(rng, &case, operator.to_owned())],
            rules: vec![],
        }];
    }
    case
}

pub(crate) fn pick<'a>(rng: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices.choose(rng).copied().unwrap_or_default()
}

fn traits(rng: &mut StdRng, most: usize) -> Traits {
    (0..rng.random_range(0..=most)).map(|_| (key(rng), values::value(rng))).collect()
}

fn key(rng: &mut StdRng) -> String {
    match rng.random_range(0..100) {
        0..45 => pick(rng, &KEYS[..3]).to_owned(),
        45..85 => pick(rng, KEYS).to_owned(),
        // Many keys: a JSON column keeps what is beyond its first ones in another structure.
        85..97 => format!("{}{}", pick(rng, KEYS), rng.random_range(0..200)),
        _ => {
            let key = pick(rng, KEYS);
            values::changed(rng, key)
        }
    }
}

/// Mostly one condition alone, which tells most; else a tree.
fn rules(rng: &mut StdRng, case: &Case) -> Vec<Rule> {
    if rng.random_bool(0.7) {
        let rule_type = if rng.random_bool(0.8) { RuleType::All } else { RuleType::None };
        return vec![Rule { rule_type, conditions: vec![any_condition(rng, case)], rules: vec![] }];
    }
    if rng.random_bool(0.01) {
        return vec![nested(rng, case)];
    }
    (0..rng.random_range(0..=2)).map(|_| rule(rng, case, 3)).collect()
}

fn rule(rng: &mut StdRng, case: &Case, depth: usize) -> Rule {
    let conditions = (0..rng.random_range(0..=3)).map(|_| any_condition(rng, case)).collect();
    let most = if depth == 0 { 0 } else { 2 };
    let rules = (0..rng.random_range(0..=most)).map(|_| rule(rng, case, depth - 1)).collect();
    Rule { rule_type: rule_type(rng), conditions, rules }
}

fn rule_type(rng: &mut StdRng) -> RuleType {
    match rng.random_range(0..100) {
        0 => RuleType::Unknown(pick(rng, &["all", "", "XOR"]).to_owned()),
        1..40 => RuleType::All,
        40..70 => RuleType::Any,
        _ => RuleType::None,
    }
}

/// One condition under 50 to 200 rules.
fn nested(rng: &mut StdRng, case: &Case) -> Rule {
    let mut inner =
        Rule { rule_type: RuleType::All, conditions: vec![any_condition(rng, case)], rules: vec![] };
    for _ in 0..rng.random_range(50..200) {
        inner = Rule { rule_type: rule_type(rng), conditions: vec![], rules: vec![inner] };
    }
    inner
}

fn any_condition(rng: &mut StdRng, case: &Case) -> Condition {
    let operator = match rng.random_range(0..200) {
        0 => pick(rng, &["EQUALS", "equal", "", "SEMVER"]),
        _ => pick(rng, &OPERATORS),
    };
    condition(rng, case, operator.to_owned())
}

fn condition(rng: &mut StdRng, case: &Case, operator: String) -> Condition {
    let property = property(rng, case, &operator);
    let found =
        property.as_deref().and_then(|key| case.system_traits.get(key).or_else(|| case.traits.get(key)));
    let near = match (found, property.as_deref()) {
        (Some(value), _) => value.clone(),
        (None, Some("$.identity.identifier")) => Value::Str(case.identifier.clone()),
        (None, Some("$.identity.key")) => Value::Str(case.identity_key.clone()),
        (None, Some("$.environment.name")) => Value::Str(case.environment_name.clone()),
        (None, Some("$.environment.key")) => Value::Str(case.environment_key.clone()),
        (None, _) => values::value(rng),
    };
    let value = if rng.random_bool(0.02) { None } else { Some(operands::operand(rng, &operator, &near)) };
    Condition { operator, property, value }
}

fn property(rng: &mut StdRng, case: &Case, operator: &str) -> Option<String> {
    if operator == "PERCENTAGE_SPLIT" && rng.random_bool(0.5) {
        return if rng.random_bool(0.5) { None } else { Some(String::new()) };
    }
    let keys: Vec<&String> = case.traits.keys().chain(case.system_traits.keys()).collect();
    match rng.random_range(0..100) {
        0 => None,
        1..60 if !keys.is_empty() => keys.choose(rng).map(|key| (*key).clone()),
        1..65 => Some(key(rng)),
        65..80 => {
            let paths =
                ["$.identity.identifier", "$.identity.key", "$.environment.name", "$.environment.key"];
            Some(pick(rng, &paths).to_owned())
        }
        _ => Some(paths::path(rng, &keys)),
    }
}
