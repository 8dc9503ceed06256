//! Whole segments: composition (C24), what is unsupported and how it is said, explanations, depth.

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context, LineReader, RULE_DEPTH_MAX};

fn condition(property: &str, operator: &str, value: &str) -> Condition {
    Condition { operator: operator.into(), property: Some(property.into()), value: Some(value.into()) }
}

fn rule(rule_type: RuleType, conditions: &[Condition], rules: &[Rule]) -> Rule {
    Rule { rule_type, conditions: conditions.to_vec(), rules: rules.to_vec() }
}

fn doc(rules: &[Rule]) -> SegmentDoc {
    SegmentDoc {
        id: "42".into(),
        project_id: "1".into(),
        name: "segment".into(),
        rules: rules.to_vec(),
        invalid: None,
        deleted: false,
    }
}

fn traits(entries: &[(&str, Value)]) -> Traits {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn context<'a>(traits: &'a Traits, system_traits: &'a Traits) -> Context<'a> {
    Context {
        environment_key: "env_abc",
        environment_name: "Production",
        identifier: "alice",
        identity_key: "env_abc_alice",
        traits,
        system_traits,
        tree: None,
    }
}

fn judge(rules: &[Rule], entries: &[(&str, Value)]) -> Result<bool, String> {
    let (traits, none) = (traits(entries), Traits::new());
    CompiledSegment::compile(&doc(rules)).judge(&context(&traits, &none)).map_err(|raised| raised.reason)
}

fn yes() -> Condition {
    condition("missing", "IS_NOT_SET", "")
}

fn no() -> Condition {
    condition("missing", "IS_SET", "")
}

#[test]
fn c24_empty_groups_hold_and_a_segment_without_rules_does_not() {
    assert_eq!(judge(&[], &[]), Ok(false));
    for rule_type in [RuleType::All, RuleType::Any, RuleType::None, RuleType::Unknown("XOR".into())] {
        assert_eq!(judge(&[rule(rule_type, &[], &[])], &[]), Ok(true));
    }
}

#[test]
fn c24_both_groups_must_hold_each_by_the_rules_type() {
    let sub = |condition: Condition| [rule(RuleType::All, &[condition], &[])];
    for (rule_type, conditions, sub_rules, expected) in [
        (RuleType::Any, vec![yes(), no()], sub(yes()), true),
        (RuleType::Any, vec![yes()], sub(no()), false),
        (RuleType::None, vec![no()], sub(no()), true),
        (RuleType::None, vec![no()], sub(yes()), false),
        (RuleType::All, vec![yes()], sub(no()), false),
    ] {
        assert_eq!(
            judge(&[rule(rule_type.clone(), &conditions, &sub_rules)], &[]),
            Ok(expected),
            "{rule_type:?}"
        );
    }
    assert_eq!(
        judge(&[rule(RuleType::All, &[yes()], &[]), rule(RuleType::All, &[no()], &[])], &[]),
        Ok(false)
    );
    let not_equal = rule(RuleType::None, &[condition("missing", "NOT_EQUAL", "x")], &[]);
    assert_eq!(judge(&[not_equal], &[]), Ok(true), "no comparison holds on a missing value");
}

#[test]
fn a_raising_condition_raises_only_where_it_is_reached() {
    let raising = condition("age", "MODULO", "0|0");
    let age = [("age", Value::Int(1))];
    let after = |first: Condition, rule_type| judge(&[rule(rule_type, &[first, raising.clone()], &[])], &age);
    assert_eq!(after(no(), RuleType::All), Ok(false));
    assert!(after(yes(), RuleType::All).is_err());
    assert_eq!(after(yes(), RuleType::Any), Ok(true));
    assert!(after(no(), RuleType::None).is_err());
    // The sub-rules are looked at even when the conditions have decided.
    let sub = rule(RuleType::All, std::slice::from_ref(&raising), &[]);
    assert!(judge(&[rule(RuleType::All, &[no()], &[sub])], &age).is_err());
    assert_eq!(judge(&[rule(RuleType::All, &[raising], &[])], &[]), Ok(false));
}

#[test]
fn unsupported_says_where_and_why() {
    let inner = |condition: Condition| {
        vec![rule(RuleType::Any, &[yes()], &[rule(RuleType::All, &[yes(), condition], &[])])]
    };
    for (condition, operator, reason) in [
        (condition("a", "REGEX", "["), "REGEX", "unterminated character set"),
        (condition("a", "MODULO", "0.0|1"), "MODULO", "zero"),
        (condition("a", "SEMVER", "1"), "SEMVER", "doesn't know the operator"),
        (condition("$.flags.x.enabled", "EQUAL", "True"), "EQUAL", "other flags"),
        (condition("$.identity.traits[?foo(@)]", "IS_SET", ""), "IS_SET", "function"),
        (Condition { value: None, ..condition("a", "IN", "") }, "IN", "without a list"),
        (
            Condition { value: None, ..condition("a", "PERCENTAGE_SPLIT", "") },
            "PERCENTAGE_SPLIT",
            "without a percentage",
        ),
        (Condition { property: None, ..condition("", "EQUAL", "1") }, "EQUAL", "without a property"),
    ] {
        let segment = CompiledSegment::compile(&doc(&inner(condition)));
        let said = segment.unsupported().expect(operator);
        assert!(said.starts_with(&format!("rules[0].rules[0].conditions[1]: {operator} on '")), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let unknown = rule(RuleType::Unknown("XOR".into()), &[], &[]);
    let segment = CompiledSegment::compile(&doc(&[unknown]));
    assert_eq!(segment.unsupported(), Some("rules[0]: unknown rule type 'XOR'"));
    let invalid = SegmentDoc { invalid: Some("rules_data is a number".into()), ..doc(&[]) };
    assert_eq!(CompiledSegment::compile(&invalid).unsupported(), Some("rules_data is a number"));
}

#[test]
fn what_only_answers_false_is_supported() {
    for condition in [
        condition("a", "MODULO", "2"),
        condition("a", "PERCENTAGE_SPLIT", "50%"),
        condition("a", "GREATER_THAN", "1.2:semver"),
        condition("$.a.", "EQUAL", "1"),
        condition("$.nowhere", "EQUAL", "1"),
        Condition { value: None, ..condition("a", "REGEX", "") },
        Condition { value: None, ..condition("a", "EQUAL", "") },
        Condition { property: None, ..condition("", "PERCENTAGE_SPLIT", "50") },
    ] {
        let segment = CompiledSegment::compile(&doc(&[rule(RuleType::All, &[condition], &[])]));
        assert_eq!(segment.unsupported(), None);
    }
}

#[test]
fn deep_segments_are_judged_and_the_deepest_refused() {
    let nested = |depth: usize| {
        (1..depth).fold(rule(RuleType::All, &[yes()], &[]), |inner, _| rule(RuleType::None, &[], &[inner]))
    };
    assert_eq!(judge(&[nested(51)], &[]), Ok(true));
    assert_eq!(judge(&[nested(52)], &[]), Ok(false));
    let segment = CompiledSegment::compile(&doc(&[nested(RULE_DEPTH_MAX)]));
    assert_eq!(segment.unsupported(), None);
    let segment = CompiledSegment::compile(&doc(&[nested(RULE_DEPTH_MAX + 1)]));
    assert!(segment.unsupported().is_some_and(|reason| reason.contains("nested")));
    let none = Traits::new();
    assert!(segment.judge(&context(&none, &none)).is_err());
}

#[test]
fn one_expression_beyond_the_bound_leaves_others_alone() {
    let text = [("a", Value::Str(format!("{}!", "a".repeat(60))))];
    let heavy = rule(RuleType::All, &[condition("a", "REGEX", r"(a+)+\1$")], &[]);
    let reason = judge(std::slice::from_ref(&heavy), &text).expect_err("needs too many steps");
    assert!(
        reason.contains(r"(a+)+\1$") && !reason.contains("aaaa!"),
        "names the expression, not the value: {reason}"
    );
    assert_eq!(CompiledSegment::compile(&doc(&[heavy])).unsupported(), None);
}

#[test]
fn all_conditions_of_a_segment_share_its_steps() {
    let text = [("a", Value::Str(format!("{}!", "a".repeat(17))))];
    let dear = condition("a", "REGEX", "(?:a|a)*$");
    let segment = |conditions: usize| vec![rule(RuleType::None, &vec![dear.clone(); conditions], &[])];
    assert_eq!(judge(&segment(1), &text), Ok(true));
    assert!(judge(&segment(10), &text).is_err());
}

#[test]
fn a_path_costs_steps() {
    let many: Vec<(String, Value)> = (0..1_000).map(|n| (format!("k{n}"), Value::Int(n))).collect();
    let many: Vec<(&str, Value)> = many.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let judged = |path: &str| judge(&[rule(RuleType::All, &[condition(path, "IS_SET", "")], &[])], &many);
    assert_eq!(judged("$.identity.traits[?@ == 999]"), Ok(true));
    assert_eq!(judged("$..k999"), Ok(true));
    for path in [
        "$..[?$..[?@ == -1]].x",
        "$.identity.traits[?$.identity.traits == $.identity.traits].x",
        &format!("$.identity.traits[?{}].x", vec!["$..x"; 100].join("||")),
        &format!("$.identity[{}][{}].x", ["'traits'"; 30].join(","), ["*"; 300].join(",")),
    ] {
        let reason = judged(path).expect_err("needs too many steps");
        assert!(reason.starts_with(&format!("'{path}'")) && reason.contains("steps"), "{reason}");
    }
}

#[test]
fn a_path_over_the_keys_of_a_document_costs_steps_too() {
    let keys: Vec<String> = (0..1_000).map(|n| format!("\"k{n}\": 1")).collect();
    let line = format!(
        r#"{{"context": {{"environment": {{"key": "e", "name": "P"}}, "identity": {{"identifier": "a"}}, {}}},
            "segment": {{"key": "1", "rules": [{{"type": "ALL", "conditions": [
                {{"operator": "IS_SET", "property": "$..[?$..[?@ == -1]].x", "value": ""}}]}}]}}}}"#,
        keys.join(", ")
    );
    let mut reader = LineReader::default();
    let read = reader.judge_line(line.as_bytes()).expect("a line of that shape");
    let raised = read.segment.judge(&read.context()).expect_err("needs too many steps");
    assert!(raised.reason.contains("steps"), "{raised}");
}

/// Found by reading; each ended the process, or held it for minutes.
#[test]
fn deep_and_long_operands_are_read() {
    let calls = format!("$.a[?{}@{} == 1]", "length(".repeat(100_000), ")".repeat(100_000));
    let segment =
        CompiledSegment::compile(&doc(&[rule(RuleType::All, &[condition(&calls, "IS_SET", "")], &[])]));
    assert!(segment.unsupported().is_some_and(|reason| reason.contains("nesting this deep")));
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":1")).collect();
    let list = condition("a", "IN", &format!("[{{{}}}, 7]", keys.join(",")));
    assert_eq!(judge(&[rule(RuleType::All, &[list], &[])], &[("a", Value::Int(7))]), Ok(true));
}

#[test]
fn an_explanation_shows_each_condition() {
    let rules = [rule(
        RuleType::All,
        &[condition("plan", "IN", "growth,scale"), condition("$.identity.identifier", "EQUAL", "7")],
        &[rule(
            RuleType::None,
            &[condition("age", "GREATER_THAN", "+18"), condition("age", "MODULO", "0|1")],
            &[],
        )],
    )];
    let (traits, none) =
        (traits(&[("plan", Value::Str("growth".into())), ("age", Value::Str("010".into()))]), Traits::new());
    let segment = CompiledSegment::compile(&doc(&rules));
    let explanation = serde_json::to_value(segment.explain(&context(&traits, &none))).expect("serialises");
    let reason = "modulo by zero raises in the reference";
    assert_eq!(
        explanation,
        serde_json::json!({
            "segment_id": "42", "verdict": null, "raised": reason,
            "unsupported": format!("rules[0].rules[0].conditions[1]: MODULO on 'age': {reason}"),
            "rules": [{"type": "ALL", "verdict": null,
                "conditions": [
                    {"property": "plan", "operator": "IN", "operand": "growth,scale", "found": "growth", "found_type": "str",
                     "operand_cast": "one of [\"growth\", \"scale\"]", "verdict": true},
                    {"property": "$.identity.identifier", "operator": "EQUAL", "operand": "7", "found": "alice",
                     "found_type": "str", "operand_cast": "7", "verdict": false}],
                "rules": [{"type": "NONE", "verdict": null, "rules": [],
                    "conditions": [
                        {"property": "age", "operator": "GREATER_THAN", "operand": "+18", "found": "10", "found_type": "int",
                         "operand_cast": "18", "verdict": false},
                        {"property": "age", "operator": "MODULO", "operand": "0|1", "found": "10", "found_type": "int",
                         "operand_cast": "modulo 0.0", "verdict": null, "raised": reason}]}]}]
        })
    );
}
