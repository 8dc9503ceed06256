#![allow(clippy::unwrap_used)]
use super::*;
use crate::Raiser;

const SEGMENT: &str = r#"{"key":"1","rules":[]}"#;

fn answer(line: &str) -> String {
    answer_bytes(line.as_bytes())
}

fn answer_bytes(line: &[u8]) -> String {
    match LineReader::default().judge_line(line) {
        Err(LineError { reason }) => reason,
        Ok(line) => match line.segment.judge(&line.context()) {
            Ok(verdict) => verdict.to_string(),
            Err(raised) if raised.by == Raiser::Reference => "null".to_owned(),
            Err(raised) => raised.reason,
        },
    }
}

/// One rule of one condition.
fn segment(condition: &str) -> String {
    format!(r#"{{"key":"1","name":"s","rules":[{{"type":"ALL","conditions":[{condition}]}}]}}"#)
}

fn ask(context: &str, condition: &str) -> String {
    answer(&format!(r#"{{"context":{context},"segment":{}}}"#, segment(condition)))
}

/// The operand of an EQUAL that holds on a path, in a context.
fn first(context: &str, path: &str, text: &str) {
    let path = path.replace('"', "\\\"");
    let condition = format!(r#"{{"property":"{path}","operator":"EQUAL","value":"{text}"}}"#);
    assert_eq!(ask(context, &condition), "true", "{path} of {context}");
}

const CONTEXT: &str = r#"{"environment":{"key":"env","name":"Prod"},
    "identity":{"identifier":"alice","traits":{"b":"first","a":"second"}}}"#;

#[test]
fn paths_take_the_first_node_of_the_document() {
    first(CONTEXT, "$..*[?@ != 'x']", "env");
    first(CONTEXT, "$.identity.traits.*", "first");
    first(CONTEXT, "$.identity.*", "alice");
    first(CONTEXT, "$..key", "env");
    first(CONTEXT, "$.identity.key", "env_alice");
    let turned = r#"{"identity":{"traits":{"z":"Z"},"key":"","identifier":"alice"},"environment":{"name":"Prod","key":"env"}}"#;
    first(turned, "$..key", "env_alice");
    first(turned, "$.environment.*", "Prod");
    first(turned, "$.identity[?@ == 'alice' || @ == 'env_alice']", "env_alice");
}

#[test]
fn a_missing_key_goes_to_the_end_and_an_empty_one_keeps_its_place() {
    let of =
        |identity: &str| format!(r#"{{"environment":{{"key":"env","name":"n"}},"identity":{identity}}}"#);
    for (identity, found) in [
        (r#"{"identifier":"i","traits":null}"#, "i"),
        (r#"{"key":null,"identifier":"i"}"#, "env_i"),
        (r#"{"key":"","identifier":"i"}"#, "env_i"),
        (r#"{"key":"k","identifier":"i"}"#, "k"),
    ] {
        first(&of(identity), "$.identity[?@ == 'i' || @ == 'env_i' || @ == 'k']", found);
    }
    // The null is a node, though there are no traits in it.
    let null = of(r#"{"traits":null,"identifier":"i"}"#);
    let is_set = r#"{"property":"$.identity.*","operator":"IS_SET"}"#;
    assert_eq!(ask(&null, is_set), "false");
    assert_eq!(ask(&of(r#"{"identifier":"i"}"#), is_set), "true");
}

#[test]
fn keys_that_come_twice_count_once() {
    first(
        r#"{"environment":{"key":"e","name":"n"},"identity":{"identifier":"i","traits":{"a":1,"b":2,"a":3}},
            "environment":{"name":"m","key":"f"}}"#,
        "$.identity.traits.*",
        "3",
    );
    let line = format!(r#"{{"segment":{{"rules":7}},"context":{CONTEXT},"segment":{SEGMENT}}}"#);
    assert_eq!(answer(&line), "false");
}

#[test]
fn absent_parts_raise_where_they_are_reached() {
    for (condition, expected) in [
        (r#"{"property":"b","operator":"IS_SET"}"#, "true"),
        (r#"{"property":"b","operator":"IS_SET","value":[1]}"#, "true"),
        (r#"{"property":"b","operator":"EQUAL"}"#, "null"),
        (r#"{"property":"missing","operator":"EQUAL"}"#, "false"),
        (r#"{"property":"missing","operator":"REGEX"}"#, "false"),
        (r#"{"property":"b","operator":"EQUAL","value":null}"#, "false"),
        (r#"{"property":"b","operator":"WAT"}"#, "false"),
        (r#"{"property":"missing","operator":"IN"}"#, "null"),
        (r#"{"property":"","operator":"PERCENTAGE_SPLIT"}"#, "null"),
        (r#"{"property":"missing","operator":"PERCENTAGE_SPLIT"}"#, "false"),
        (r#"{"property":null,"operator":"PERCENTAGE_SPLIT","value":100}"#, "true"),
        (r#"{"operator":"PERCENTAGE_SPLIT","value":"100"}"#, "null"),
        (r#"{"property":"b","value":"x"}"#, "null"),
        (r#"{"property":"b","operator":"IN","value":["x",1,"first"]}"#, "true"),
        (r#"{"property":"b","operator":"IN","value":[]}"#, "false"),
    ] {
        assert_eq!(ask(CONTEXT, condition), expected, "{condition}");
    }
    for (segment, expected) in [
        (r#"{"key":"1"}"#, "null"),
        (r#"{"rules":[]}"#, "false"),
        (r#"{"rules":null}"#, "false"),
        (r#"{"rules":[{}]}"#, "null"),
        (r#"{"key":1.5,"rules":[{}]}"#, "true"),
        (r#"{"key":"1","rules":[{"conditions":[{}]}]}"#, "null"),
        (r#"{"key":"1","rules":[{"type":null,"rules":[{}]}]}"#, "null"),
    ] {
        assert_eq!(answer(&format!(r#"{{"context":{CONTEXT},"segment":{segment}}}"#)), expected, "{segment}");
    }
}

#[test]
fn what_stands_beside_is_walked_or_refused() {
    let beside = r#"{"features":{"f":{"key":"1"}},"id":7,"environment":{"key":"env","name":"n","x":true},
        "identity":{"identifier":"i"}}"#;
    first(beside, "$.id", "7");
    first(beside, "$.environment.x", "true");
    first(beside, "$.identity.identifier", "i");
    let is_set = |path: &str| ask(beside, &format!(r#"{{"property":"{path}","operator":"IS_SET"}}"#));
    assert_eq!(is_set("$.features"), "false", "an object is no value");
    for path in ["$.features.f", "$..key", "$.*.key", "$.identity[?@ == 'i']"] {
        assert!(is_set(path).contains("doesn't walk"), "{path}: {}", is_set(path));
    }
}

#[test]
fn errors_say_where() {
    let context = |context: &str| answer(&format!(r#"{{"context":{context},"segment":{SEGMENT}}}"#));
    let identity = |identity: &str| {
        context(&format!(r#"{{"environment":{{"key":"e","name":"n"}},"identity":{identity}}}"#))
    };
    assert_eq!(context("[]"), "context: a list instead of an object");
    assert_eq!(context("{}"), "context.environment: missing");
    assert_eq!(context(r#"{"environment":{"key":"e"}}"#), "context.environment.name: missing");
    assert_eq!(identity("null"), "context.identity: null instead of an object");
    assert_eq!(identity(r#"{"key":"k"}"#), "context.identity.identifier: missing");
    assert_eq!(
        identity(r#"{"identifier":"i","traits":{"x":[]}}"#),
        "context.identity.traits.x: a list instead of text, a number, a bool or null"
    );
    assert!(identity(r#"{"identifier":"\ud800"}"#).contains("half of a surrogate pair"));
    assert!(identity(r#"{"identifier":"i","traits":{"\ud800":1}}"#).contains("half of a surrogate pair"));
    assert_eq!(
        ask(CONTEXT, r#"{"property":"a","operator":"EQUAL","value":7}"#),
        "segment.rules[0].conditions[0].value: a number instead of text or null"
    );
    assert_eq!(answer("{}"), "context: missing");
    assert_eq!(answer_bytes(b"\xff{}"), "not UTF-8 at byte 0");
    for line in ["", "[]", "{", "{\"context\":", "nul", "{\"a\":1}x", "\u{feff}{}"] {
        assert!(answer(line).starts_with("not the JSON of a case: "), "{line}: {}", answer(line));
    }
    assert_eq!(answer(&"[".repeat(100_000)), "not the JSON of a case: '{' expected at byte 0");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert_eq!(answer(&deep), "not the JSON of a case: nested too deep");
    assert!(answer(&format!("{{\"a\":{}}}", "1".repeat(4_301))).contains("digits"));
}

#[test]
fn deep_rules_raise_and_deeper_ones_are_no_line() {
    let nested = |depth: usize| {
        let open = r#"{"type":"ALL","rules":["#.repeat(depth);
        let rules = format!("{open}{}", "]}".repeat(depth));
        answer(&format!(r#"{{"context":{CONTEXT},"segment":{{"key":"1","rules":[{rules}]}}}}"#))
    };
    assert_eq!(nested(crate::RULE_DEPTH_MAX), "true");
    assert_eq!(nested(crate::RULE_DEPTH_MAX + 1), "null");
    assert_eq!(nested(480), "null");
    assert!(nested(5_000).contains("too deep"));
}

#[test]
fn segments_are_remembered_by_their_text() {
    let mut reader = LineReader::default();
    let line = |segment: &str| format!(r#"{{"segment":{segment},"context":{CONTEXT}}}"#);
    let one = segment(r#"{"property":"a","operator":"EQUAL","value":"}\"{"}"#);
    let (first, other) = (line(&one), line(SEGMENT));
    let read = |reader: &mut LineReader, line: &str| reader.judge_line(line.as_bytes()).unwrap().segment;
    let segments = [&first, &other, &first, &first, &other].map(|line| read(&mut reader, line));
    assert!(Arc::ptr_eq(&segments[0], &segments[2]) && Arc::ptr_eq(&segments[2], &segments[3]));
    assert!(Arc::ptr_eq(&segments[1], &segments[4]) && !Arc::ptr_eq(&segments[0], &segments[1]));
    assert!(reader.judge_line(line(&format!("{SEGMENT}x")).as_bytes()).is_err());
    for n in 0..known::SEGMENTS_MAX * 2 {
        read(&mut reader, &line(&format!(r#"{{"key":"{n}","rules":[]}}"#)));
    }
    assert!(reader.known.len() <= known::SEGMENTS_MAX);
    // Long ones that differ late, and one that is another's beginning, are not taken for each other.
    let late = |n: usize| {
        let plans = format!(r#"{{"property":"plan","operator":"EQUAL","value":"{}"}}"#, "x,".repeat(40));
        segment(&format!(r#"{plans},{{"property":"b","operator":"EQUAL","value":"{n}"}}"#))
    };
    for _ in 0..2 {
        for n in 0..20 {
            let lines = line(&late(n));
            let read = read(&mut reader, &lines);
            let fresh = LineReader::default().judge_line(lines.as_bytes()).unwrap().segment;
            assert_eq!(format!("{read:?}"), format!("{fresh:?}"));
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_line_panics(line in r#"(\{"context":)?[\[\]{}",:\\a-e0-9. u\-]{0,60}"#) {
        let _ = LineReader::default().judge_line(line.as_bytes());
    }

    #[test]
    fn no_damaged_line_panics(at in 0usize..400, byte: u8) {
        let condition = r#"{"property":"$..a","operator":"IN","value":["x", 1.5, {"k": "\ud83d\ude00"}]}"#;
        let mut line = format!(r#"{{"context":{CONTEXT},"segment":{}}}"#, segment(condition)).into_bytes();
        let at = at % line.len();
        line[at] = byte;
        let _ = answer_bytes(&line);
    }
}
