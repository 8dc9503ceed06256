//! `segments_segment.rules_data`: the JSON form of a segment's rules.
//!
//! A list of `{type, conditions: [{property, operator, value, description}], rules?: […]}`. The platform's model
//! declares the fields as text, and its mapper gives the engine `property or ""` and `value or ""`; so each JSON type
//! that may stand in a condition's `value` becomes the text that Python's `str` makes of it:
//!
//! | JSON | text |
//! |---|---|
//! | `"text"` | as it is, every character |
//! | `null`, absent | none (the engine sees `""`) |
//! | `true`, `false` | `True`, `False` |
//! | `21` | `21` |
//! | `1.50`, `1e22` | `1.5`, `1e+22` |
//! | `["a", 1.0]` | the JSON text: the engine reads IN from it exactly as from the list |
//! | `{…}` | the segment can't be understood |
//!
//! Anything else of another shape makes the segment invalid, with the reason: an unknown shape is not an empty one.

use rollcall_model::{Condition, Rule};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::documents::{DEPTH_MAX, rule_type, too_deep};

#[derive(Deserialize)]
struct JsonRule<'a> {
    r#type: String,
    #[serde(default, borrow)]
    conditions: Option<Vec<JsonCondition<'a>>>,
    #[serde(default, borrow)]
    rules: Option<Vec<JsonRule<'a>>>,
}

#[derive(Deserialize)]
struct JsonCondition<'a> {
    operator: String,
    #[serde(default)]
    property: Option<String>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
}

/// The rules, or why they can't be understood.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let rules: Vec<JsonRule<'_>> = serde_json::from_str(text).map_err(|error| {
        // serde_json's own words name a type and a place, and could quote a value: only the place is passed on.
        if error.to_string().starts_with("recursion limit") {
            return too_deep();
        }
        format!(
            "its rules_data is no list of rules with type, conditions and rules (line {} column {})",
            error.line(),
            error.column()
        )
    })?;
    rules.into_iter().map(|rule| convert(rule, 1)).collect()
}

fn convert(rule: JsonRule<'_>, depth: usize) -> Result<Rule, String> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let conditions = rule.conditions.unwrap_or_default().into_iter().map(|condition| {
        let value = match condition.value {
            Some(raw) => text_of(raw.get())?,
            None => String::new(),
        };
        let property = Some(condition.property.unwrap_or_default());
        Ok(Condition { operator: condition.operator, property, value: Some(value) })
    });
    let rules = rule.rules.unwrap_or_default().into_iter().map(|rule| convert(rule, depth + 1));
    Ok(Rule {
        rule_type: rule_type(&rule.r#type),
        conditions: conditions.collect::<Result<_, String>>()?,
        rules: rules.collect::<Result<_, String>>()?,
    })
}

/// A JSON value as the text that the platform would compare with; null is the empty text (`value or ""`).
fn text_of(json: &str) -> Result<String, String> {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str(json).map_err(|_| "a value in its rules_data is broken".to_owned())
        }
        Some(b'n') => Ok(String::new()),
        Some(b't') => Ok("True".to_owned()),
        Some(b'f') => Ok("False".to_owned()),
        Some(b'[') => Ok(json.to_owned()),
        Some(b'-' | b'0'..=b'9') => number(json),
        Some(_) | None => Err("a condition's value in its rules_data is an object".to_owned()),
    }
}

fn number(json: &str) -> Result<String, String> {
    if json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return Ok(json.to_owned());
    }
    let number: f64 = json.parse().map_err(|_| "a number in its rules_data is broken".to_owned())?;
    Ok(python_float(number))
}

/// A float as Python's `str` shows it: the shortest digits that read back, with an exponent of at least two digits
/// below 1e-4 and from 1e16 on.
fn python_float(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_json_type_become_the_text_that_python_would_make() {
        let cases = [
            (r#""  a\u0000\"b\\ ""#, Some("  a\0\"b\\ ")),
            ("null", Some("")),
            ("true", Some("True")),
            ("false", Some("False")),
            ("21", Some("21")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("1.50", Some("1.5")),
            ("10.0", Some("10.0")),
            ("-0.0", Some("-0.0")),
            ("0.00001", Some("1e-05")),
            ("1e22", Some("1e+22")),
            ("1.5E300", Some("1.5e+300")),
            ("1e400", Some("inf")),
            (r#"["a", 1.0, null]"#, Some(r#"["a", 1.0, null]"#)),
        ];
        for (json, expected) in cases {
            let rules = parse(&format!(
                r#"[{{"type":"ALL","conditions":[{{"operator":"EQUAL","property":"p","value":{json}}}]}}]"#
            ))
            .expect(json);
            assert_eq!(rules[0].conditions[0].value.as_deref(), expected, "{json}");
        }
        let absent =
            parse(r#"[{"type":"ALL","conditions":[{"operator":"IS_SET","property":"p"}]}]"#).expect("parses");
        assert_eq!(absent[0].conditions[0].value.as_deref(), Some(""));
    }

    #[test]
    fn other_shapes_are_invalid_and_never_quoted() {
        for json in [
            "{}",
            "21",
            "\"secret\"",
            "[\"secret\"]",
            r#"[{"conditions":[]}]"#,
            r#"[{"type":5}]"#,
            r#"[{"type":"ALL","conditions":[{"property":"p"}]}]"#,
            r#"[{"type":"ALL","conditions":[{"operator":"EQUAL","property":["secret"]}]}]"#,
            r#"[{"type":"ALL","conditions":[{"operator":"EQUAL","value":{"secret":1}}]}]"#,
            r#"[{"type":"ALL","rules":{"secret":1}}]"#,
        ] {
            let reason = parse(json).expect_err(json);
            assert!(reason.contains("rules_data") && !reason.contains("secret"), "{json}: {reason}");
        }
    }

    #[test]
    fn nesting_up_to_the_bound_is_read_and_deeper_is_named() {
        let nested = |depth: usize| {
            let open = r#"{"type":"ALL","rules":["#.repeat(depth - 1);
            format!("[{open}{}{}]", r#"{"type":"ANY"}"#, "]}".repeat(depth - 1))
        };
        let mut rule = &parse(&nested(DEPTH_MAX)).expect("parses")[0].clone();
        let mut depth = 1;
        while let Some(next) = rule.rules.first() {
            rule = next;
            depth += 1;
        }
        assert_eq!(depth, DEPTH_MAX);
        assert_eq!(parse(&nested(DEPTH_MAX + 1)), Err(too_deep()));
        assert_eq!(parse(&nested(500)), Err(too_deep()));
    }
}
