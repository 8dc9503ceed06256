//! A case, what the evaluator says of it, and its JSON in the reference's shape.

use std::fmt::Write;

use rollcall_model::{Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context};

/// One identity and one segment.
#[derive(Clone, Debug)]
pub struct Case {
    /// `$.environment.key`.
    pub environment_key: String,
    /// `$.environment.name`.
    pub environment_name: String,
    /// `$.identity.identifier`.
    pub identifier: String,
    /// `$.identity.key`.
    pub identity_key: String,
    /// User traits.
    pub traits: Traits,
    /// System traits.
    pub system_traits: Traits,
    /// The segment's id, which salts splits.
    pub segment_id: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What an engine says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// In or out.
    Is(bool),
    /// It raises, for this reason.
    Raises(String),
}

impl Answer {
    /// Whether two engines say the same; reasons are each engine's own.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(a), Self::Is(b)) => a == b,
            (Self::Raises(_), Self::Raises(_)) => true,
            (Self::Is(_), Self::Raises(_)) | (Self::Raises(_), Self::Is(_)) => false,
        }
    }

    /// Whether the evaluator stopped where the reference goes on: a regular expression took too many steps.
    #[must_use]
    pub fn is_beyond_the_bound(&self) -> bool {
        matches!(self, Self::Raises(reason) if reason.contains("needs more than"))
    }

    /// Whether it raised for what only shows on some identity, and so isn't static (`rollcall_rules::Raised`).
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        let marks = ["more than 4300 digits", "too large for a float", "needs more than"];
        matches!(self, Self::Raises(reason) if marks.iter().any(|mark| reason.contains(mark)))
    }
}

impl Case {
    /// The segment's document.
    #[must_use]
    pub fn segment(&self) -> SegmentDoc {
        SegmentDoc {
            id: self.segment_id.as_str().into(),
            project_id: "1".into(),
            name: "case".to_owned(),
            rules: self.rules.clone(),
            invalid: None,
            deleted: false,
        }
    }

    /// The identity, to be judged.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            environment_key: &self.environment_key,
            environment_name: &self.environment_name,
            identifier: &self.identifier,
            identity_key: &self.identity_key,
            traits: &self.traits,
            system_traits: &self.system_traits,
            tree: None,
        }
    }

    /// The evaluator's answer.
    #[must_use]
    pub fn judged(&self) -> Answer {
        match CompiledSegment::compile(&self.segment()).judge(&self.context()) {
            Ok(verdict) => Answer::Is(verdict),
            Err(raised) => Answer::Raises(raised.reason),
        }
    }

    /// One line of JSON: the two trait maps merged, system traits winning, in key order.
    #[must_use]
    pub fn json(&self) -> String {
        let mut traits = self.traits.clone();
        traits.extend(self.system_traits.clone());
        let mut out = String::new();
        let _ = write!(
            out,
            r#"{{"context":{{"environment":{{"key":{},"name":{}}},"identity":{{"identifier":{},"key":{},"traits":{{"#,
            text(&self.environment_key),
            text(&self.environment_name),
            text(&self.identifier),
            text(&self.identity_key)
        );
        for (n, (key, value)) in traits.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{}:{}", text(key), json_value(value));
        }
        let _ = write!(out, r#"}}}}}},"segment":{{"key":{},"name":"case","rules":["#, text(&self.segment_id));
        write_rules(&self.rules, &mut out);
        out.push_str("]}}");
        out
    }
}

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), text)
}

/// A value in Python's JSON, which has numbers of any size, NaN and the infinities.
#[must_use]
pub fn json_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::BigInt(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => "NaN".to_owned(),
        Value::Float(x) if x.is_infinite() => if *x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Value::Float(x) => format!("{x:?}"),
        Value::Str(string) => text(string),
    }
}

fn write_rules(rules: &[Rule], out: &mut String) {
    for (n, rule) in rules.iter().enumerate() {
        out.push_str(if n == 0 { "" } else { "," });
        let rule_type = match &rule.rule_type {
            RuleType::All => "ALL",
            RuleType::Any => "ANY",
            RuleType::None => "NONE",
            RuleType::Unknown(name) => name,
        };
        let _ = write!(out, r#"{{"type":{},"conditions":["#, text(rule_type));
        for (n, condition) in rule.conditions.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(
                out,
                r#"{comma}{{"operator":{},"property":{},"value":{}}}"#,
                text(&condition.operator),
                optional(condition.property.as_deref()),
                optional(condition.value.as_deref())
            );
        }
        out.push_str(r#"],"rules":["#);
        write_rules(&rule.rules, out);
        out.push_str("]}");
    }
}
