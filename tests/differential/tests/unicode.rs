//! C20: every character means to the rules what it means to the reference's Python, whose Unicode is older than ours.

use std::collections::BTreeSet;

use rollcall_differential::Answer;
use rollcall_differential::reference::unicode_tables;
use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context};

fn holds(operator: &str, value: &str, subject: &str) -> Answer {
    let condition =
        Condition { operator: operator.into(), property: Some("t".into()), value: Some(value.into()) };
    let segment = CompiledSegment::compile(&SegmentDoc {
        id: "1".into(),
        project_id: "1".into(),
        name: "character".into(),
        rules: vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: vec![] }],
        invalid: None,
        deleted: false,
    });
    let (traits, none) = (Traits::from([("t".to_owned(), Value::Str(subject.into()))]), Traits::new());
    let context = Context {
        environment_key: "env",
        environment_name: "Production",
        identifier: "a",
        identity_key: "env_a",
        traits: &traits,
        system_traits: &none,
        tree: None,
    };
    segment.judge(&context).map_or_else(|raised| Answer::Raises(raised.reason), Answer::Is)
}

/// All characters but these, so that each class is tested from both sides.
fn others(class: &str) -> String {
    let class: BTreeSet<char> = class.chars().collect();
    ('\0'..=char::MAX).filter(|c| !class.contains(c)).collect()
}

#[test]
fn c20_every_character_is_what_the_reference_takes_it_for() {
    let tables = unicode_tables();
    for (class, negated, characters) in
        [(r"\w", r"\W", &tables.word), (r"\d", r"\D", &tables.digit), (r"\s", r"\S", &tables.space)]
    {
        assert!(!characters.is_empty());
        for (class, characters) in [(class, characters), (negated, &others(characters))] {
            // As many at once as a judgement's steps allow.
            for run in characters.chars().collect::<Vec<_>>().chunks(100_000) {
                // A letter in front: a text of digits alone would be a number.
                let text: String = std::iter::once(&'x').chain(run).collect();
                assert_eq!(holds("REGEX", &format!("x{class}*\\Z"), &text), Answer::Is(true), "{class}");
            }
        }
    }
    for (character, lower) in &tables.cased {
        assert_eq!(
            holds("REGEX", &format!("(?i:{character})\\Z"), lower),
            Answer::Is(true),
            "{character:?} {lower:?}"
        );
    }
    let uncased = others(&tables.cased.iter().map(|(character, _)| character.as_str()).collect::<String>());
    for run in uncased.chars().collect::<Vec<_>>().chunks(1_000) {
        // What has no case equals itself alone: none of them becomes its neighbour under (?i).
        let text: String = run.iter().collect();
        let set: String = run.iter().map(|c| format!("\\U{:08x}", u32::from(*c))).collect();
        assert_eq!(holds("REGEX", &format!("(?i:[^{set}]|x)*?y"), &format!("{text}y")), Answer::Is(false));
    }
    for (text, repr) in &tables.reprs {
        let operand = serde_json::to_string(&[[text]]).expect("text is JSON");
        assert_eq!(
            holds("IN", &operand, &format!("[{repr}]")),
            Answer::Is(true),
            "{:?}",
            text.chars().next()
        );
    }
    for character in tables.names.chars() {
        assert!(holds("REGEX", &format!("(?P<a{character}>b)"), "b") == Answer::Is(true), "{character:?}");
    }
    for character in others(&tables.names).chars().filter(|c| *c != '>') {
        assert!(
            matches!(holds("REGEX", &format!("(?P<a{character}>b)"), "b"), Answer::Raises(_)),
            "{character:?}"
        );
    }
}
