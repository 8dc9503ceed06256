//! A smaller case that still tells the engines apart, whichever these are.

use rollcall_model::{Rule, Traits, Value};

use crate::case::Case;

/// Rounds of shrinking, each with all candidates asked at once.
const ROUNDS_MAX: usize = 60;

/// The smallest case found. `first_difference` says which of some candidates, if any, still tells the engines apart.
pub fn shrink(case: Case, mut first_difference: impl FnMut(&[Case]) -> Option<usize>) -> Case {
    let mut smallest = case;
    for _ in 0..ROUNDS_MAX {
        let mut candidates = candidates(&smallest);
        match first_difference(&candidates) {
            Some(index) => smallest = candidates.swap_remove(index),
            None => break,
        }
    }
    smallest
}

/// One step smaller, the large steps first. The identity's key is never blank: the reference would make one up.
fn candidates(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    let with = |change: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        change(&mut smaller);
        smaller
    };
    found.extend(
        smaller_rules(&case.rules).into_iter().map(|rules| with(&|smaller| smaller.rules.clone_from(&rules))),
    );
    found.extend(
        smaller_traits(&case.traits).into_iter().map(|t| with(&|smaller| smaller.traits.clone_from(&t))),
    );
    found.extend(
        smaller_traits(&case.system_traits)
            .into_iter()
            .map(|t| with(&|smaller| smaller.system_traits.clone_from(&t))),
    );
    found.extend(
        smaller_text(&case.identifier)
            .into_iter()
            .map(|t| with(&|smaller| smaller.identifier.clone_from(&t))),
    );
    found.extend(
        smaller_text(&case.identity_key)
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(|t| with(&|smaller| smaller.identity_key.clone_from(&t))),
    );
    found
}

fn smaller_rules(rules: &[Rule]) -> Vec<Vec<Rule>> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let replaced = |by: &[Rule]| {
            let mut smaller = rules.to_vec();
            smaller.splice(at..=at, by.iter().cloned());
            smaller
        };
        found.push(replaced(&[]));
        found.push(replaced(&rule.rules));
        for index in 0..rule.conditions.len() {
            let mut smaller = rule.clone();
            smaller.conditions.remove(index);
            found.push(replaced(&[smaller]));
        }
        for sub_rules in smaller_rules(&rule.rules) {
            found.push(replaced(&[Rule { rules: sub_rules, ..rule.clone() }]));
        }
        for (index, condition) in rule.conditions.iter().enumerate() {
            let edited = |change: &dyn Fn(&mut rollcall_model::Condition)| {
                let mut smaller = rule.clone();
                change(&mut smaller.conditions[index]);
                replaced(&[smaller])
            };
            for text in condition.value.iter().flat_map(|text| smaller_text(text)) {
                found.push(edited(&|condition| condition.value = Some(text.clone())));
            }
            for text in condition.property.iter().flat_map(|text| smaller_text(text)) {
                found.push(edited(&|condition| condition.property = Some(text.clone())));
            }
        }
    }
    found
}

fn smaller_traits(traits: &Traits) -> Vec<Traits> {
    let mut found = Vec::new();
    for (key, value) in traits {
        let mut without = traits.clone();
        without.remove(key);
        found.push(without);
        if let Value::Str(text) = value {
            for text in smaller_text(text) {
                let mut shorter = traits.clone();
                shorter.insert(key.clone(), Value::Str(text));
                found.push(shorter);
            }
        }
    }
    found
}

/// Halves, then with each of the first characters left out.
fn smaller_text(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    if chars.len() > 3 {
        found.push(chars[..chars.len() / 2].iter().collect());
        found.push(chars[chars.len() / 2..].iter().collect());
    }
    found.extend((0..chars.len().min(60)).map(|at| {
        let mut shorter = chars.clone();
        shorter.remove(at);
        shorter.into_iter().collect()
    }));
    found
}
