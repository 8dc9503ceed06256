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

use std::fmt;

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

/// A segment as the platform's API and the reference's context give it; of the rest nothing matters here.
#[derive(Deserialize)]
struct JsonSegment<'a> {
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    rules: Vec<JsonRule<'a>>,
}

/// Rules that are in no catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The key that salts its percentage splits, if it has one: `key`, else `id`.
    pub key: Option<String>,
    /// The top-level rules.
    pub rules: Vec<Rule>,
}

/// Why JSON is no list of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RulesFault {
    /// It has another shape, or is no JSON at all.
    Shape {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What was expected; may quote what was found.
        words: String,
    },
    /// A part of it can't be what it is.
    Part {
        /// Where: `rules[0].conditions[1].value`.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is nested too deep.
    TooDeep,
}

impl RulesFault {
    fn of_json(error: &serde_json::Error) -> Self {
        let words = error.to_string();
        if words.starts_with("recursion limit") {
            return Self::TooDeep;
        }
        let place = format!(" at line {} column {}", error.line(), error.column());
        let words = words.strip_suffix(&place).unwrap_or(&words).to_owned();
        Self::Shape { line: error.line(), column: error.column(), words }
    }

    /// As the reason of an invalid segment: only the place is passed on, since serde_json's words could quote a value.
    fn of_rules_data(&self) -> String {
        match self {
            Self::Shape { line, column, .. } => format!(
                "its rules_data is no list of rules with type, conditions and rules (line {line} column {column})"
            ),
            Self::Part { path, what } => format!("its rules_data can't be read: {path} {what}"),
            Self::TooDeep => too_deep(),
        }
    }
}

impl fmt::Display for RulesFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { line, column, words } => write!(f, "line {line}, column {column}: {words}"),
            Self::Part { path, what } => write!(f, "{path} {what}"),
            Self::TooDeep => write!(f, "the rules are nested more than {DEPTH_MAX} deep"),
        }
    }
}

impl std::error::Error for RulesFault {}

/// The rules, or why they can't be understood.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let rules: Result<Vec<JsonRule<'_>>, _> = serde_json::from_str(text);
    let rules = rules.map_err(|error| RulesFault::of_json(&error));
    rules.and_then(|rules| convert_all(rules, "", 1)).map_err(|fault| fault.of_rules_data())
}

/// Rules as their author has them: a segment of the platform's API, of the reference's context, or the bare list of
/// its `rules_data`. Values mean what they would mean in `rules_data`.
///
/// # Errors
/// Where it is something else.
pub fn read_draft(text: &str) -> Result<Draft, RulesFault> {
    let fault = |error| RulesFault::of_json(&error);
    if text.trim_start().starts_with('[') {
        let rules = serde_json::from_str(text).map_err(fault)?;
        return Ok(Draft { key: None, rules: convert_all(rules, "", 1)? });
    }
    let segment: JsonSegment<'_> = serde_json::from_str(text).map_err(fault)?;
    let key = match key_text(segment.key, "key")? {
        Some(key) => Some(key),
        None => key_text(segment.id, "id")?,
    };
    Ok(Draft { key, rules: convert_all(segment.rules, "", 1)? })
}

fn key_text(raw: Option<&RawValue>, name: &str) -> Result<Option<String>, RulesFault> {
    let Some(json) = raw.map(|raw| raw.get().trim()) else { return Ok(None) };
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"' | b'-' | b'0'..=b'9') => text_of(json, || name.to_owned()).map(Some),
        Some(_) | None => {
            Err(RulesFault::Part { path: name.to_owned(), what: "is neither text nor a number" })
        }
    }
}

fn convert_all(rules: Vec<JsonRule<'_>>, parent: &str, depth: usize) -> Result<Vec<Rule>, RulesFault> {
    let numbered = rules.into_iter().enumerate();
    numbered.map(|(at, rule)| convert(rule, &format!("{parent}rules[{at}]"), depth)).collect()
}

fn convert(rule: JsonRule<'_>, path: &str, depth: usize) -> Result<Rule, RulesFault> {
    if depth > DEPTH_MAX {
        return Err(RulesFault::TooDeep);
    }
    let conditions = rule.conditions.unwrap_or_default().into_iter().enumerate().map(|(at, condition)| {
        let value = match condition.value {
            Some(raw) => text_of(raw.get().trim(), || format!("{path}.conditions[{at}].value"))?,
            None => String::new(),
        };
        let property = Some(condition.property.unwrap_or_default());
        Ok(Condition { operator: condition.operator, property, value: Some(value) })
    });
    Ok(Rule {
        rule_type: rule_type(&rule.r#type),
        conditions: conditions.collect::<Result<_, RulesFault>>()?,
        rules: convert_all(rule.rules.unwrap_or_default(), &format!("{path}."), depth + 1)?,
    })
}

/// A JSON value as the text that the platform would compare with; null is the empty text (`value or ""`).
fn text_of(json: &str, path: impl Fn() -> String) -> Result<String, RulesFault> {
    let fault = |what| RulesFault::Part { path: path(), what };
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map_err(|_| fault("is broken text")),
        Some(b'n') => Ok(String::new()),
        Some(b't') => Ok("True".to_owned()),
        Some(b'f') => Ok("False".to_owned()),
        Some(b'[') => Ok(json.to_owned()),
        Some(b'-' | b'0'..=b'9') => number(json).ok_or_else(|| fault("is a broken number")),
        Some(_) | None => Err(fault("is an object")),
    }
}

fn number(json: &str) -> Option<String> {
    if json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return Some(json.to_owned());
    }
    json.parse().ok().map(python_float)
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
    fn a_draft_is_a_segment_or_a_bare_list_and_its_values_mean_the_same() {
        let list = r#"[{"type":"ALL","conditions":[{"operator":"EQUAL","property":"p","value":1.50}]}]"#;
        let rules = parse(list).expect("parses");
        let key_of = |fields: &str| {
            let draft =
                read_draft(&format!("{{{fields}\"rules\": {list}, \"overrides\": []}}")).expect(fields);
            assert_eq!(draft.rules, rules, "{fields}");
            draft.key
        };
        assert_eq!(read_draft(&format!(" \n{list}")), Ok(Draft { key: None, rules: rules.clone() }));
        assert_eq!(key_of(""), None);
        assert_eq!(key_of(r#""key": null, "name": "x", "#), None);
        assert_eq!(key_of(r#""key": "k", "id": 7, "#).as_deref(), Some("k"));
        assert_eq!(key_of(r#""id": 7, "uuid": "u", "project": 1, "#).as_deref(), Some("7"));
    }

    #[test]
    fn a_fault_of_a_draft_says_where() {
        let faults = [
            ("", "line 1, column 0: EOF while parsing a value"),
            ("{\"rules\": [\n  {\"type\": \"ALL\",}]}", "line 2, column 18: trailing comma"),
            ("{\"name\": \"x\"}", "line 1, column 13: missing field `rules`"),
            ("[\n{\"conditions\": []}]", "line 2, column 18: missing field `type`"),
            ("{\"key\": [], \"rules\": []}", "key is neither text nor a number"),
            (
                r#"[{"type":"ALL"},{"type":"ALL","rules":[{"type":"ANY","conditions":[{"operator":"IN","value":{}}]}]}]"#,
                "rules[1].rules[0].conditions[0].value is an object",
            ),
        ];
        for (text, expected) in faults {
            assert_eq!(read_draft(text).expect_err(text).to_string(), expected);
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
