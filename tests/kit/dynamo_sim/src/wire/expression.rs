//! Conditions of Query and Scan: conjunctions of comparisons of top-level attributes with values, and no more.

use std::collections::BTreeMap;

use rollcall_model::{Attribute, Item};

use crate::core::ApiError;

/// A conjunction.
#[derive(Debug)]
pub(super) struct Condition(pub(super) Vec<Comparison>);

/// `name op value`.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) name: String,
    pub(super) test: Test,
}

#[derive(Debug)]
pub(super) enum Test {
    Equal(Attribute),
    Less(String),
    LessOrEqual(String),
    Greater(String),
    GreaterOrEqual(String),
    BeginsWith(String),
    Between(String, String),
}

/// Names and values that an expression speaks of by a short form.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub(super) names: &'a BTreeMap<String, String>,
    pub(super) values: &'a Item,
}

impl Words<'_> {
    pub(super) fn name(&self, word: &str) -> Result<String, ApiError> {
        if !word.starts_with('#') {
            return Ok(word.to_owned());
        }
        self.names.get(word).cloned().ok_or_else(|| {
            invalid(&format!("An expression attribute name used in the document path is not defined; attribute name: {word}"))
        })
    }

    fn value(&self, word: &str) -> Result<Attribute, ApiError> {
        self.values.get(word).cloned().ok_or_else(|| {
            invalid(&format!(
                "An expression attribute value used in expression is not defined; attribute value: {word}"
            ))
        })
    }

    fn text(&self, word: &str) -> Result<String, ApiError> {
        let value = self.value(word)?;
        let Attribute::S(text) = value else {
            return Err(invalid(&format!("the simulator orders texts alone, not {}", value.type_name())));
        };
        Ok(text)
    }
}

impl Condition {
    /// Reads `expression`.
    pub(super) fn parse(expression: &str, words: &Words<'_>) -> Result<Self, ApiError> {
        let spaced = expression.replace(['(', ')', ','], " ");
        // Two signs before one, so that `<=` stays whole.
        let spaced = spaced.replace("<=", " ≤ ").replace(">=", " ≥ ");
        let spaced = spaced.replace('<', " < ").replace('>', " > ").replace('=', " = ");
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = tokens.as_slice();
        let mut comparisons = Vec::new();
        loop {
            let (comparison, after) = Comparison::parse(rest, words, expression)?;
            comparisons.push(comparison);
            match after {
                [] => return Ok(Self(comparisons)),
                [and, more @ ..] if and.eq_ignore_ascii_case("and") => rest = more,
                [..] => return Err(unknown(expression)),
            }
        }
    }

    /// Whether it holds of an item.
    pub(super) fn holds(&self, item: &Item) -> bool {
        self.0.iter().all(|comparison| {
            item.get(&comparison.name).is_some_and(|attribute| comparison.test.holds(attribute))
        })
    }
}

impl Comparison {
    fn parse<'t, 'w>(
        tokens: &'t [&'w str],
        words: &Words<'_>,
        expression: &str,
    ) -> Result<(Self, &'t [&'w str]), ApiError> {
        if let [function, name, value, rest @ ..] = tokens
            && *function == "begins_with"
        {
            return Ok((Self { name: words.name(name)?, test: Test::BeginsWith(words.text(value)?) }, rest));
        }
        if let [name, between, low, and, high, rest @ ..] = tokens
            && between.eq_ignore_ascii_case("between")
            && and.eq_ignore_ascii_case("and")
        {
            let test = Test::Between(words.text(low)?, words.text(high)?);
            return Ok((Self { name: words.name(name)?, test }, rest));
        }
        let [name, sign, value, rest @ ..] = tokens else { return Err(unknown(expression)) };
        let test = match *sign {
            "=" => Test::Equal(words.value(value)?),
            "<" => Test::Less(words.text(value)?),
            "≤" => Test::LessOrEqual(words.text(value)?),
            ">" => Test::Greater(words.text(value)?),
            "≥" => Test::GreaterOrEqual(words.text(value)?),
            _ => return Err(unknown(expression)),
        };
        Ok((Self { name: words.name(name)?, test }, rest))
    }
}

impl Test {
    pub(super) fn holds(&self, attribute: &Attribute) -> bool {
        let Attribute::S(text) = attribute else {
            return matches!(self, Self::Equal(value) if value == attribute);
        };
        match self {
            Self::Equal(value) => value == attribute,
            Self::Less(value) => text < value,
            Self::LessOrEqual(value) => text <= value,
            Self::Greater(value) => text > value,
            Self::GreaterOrEqual(value) => text >= value,
            Self::BeginsWith(value) => text.starts_with(value.as_str()),
            Self::Between(low, high) => text >= low && text <= high,
        }
    }
}

fn invalid(what: &str) -> ApiError {
    ApiError::validation(format!("Invalid expression: {what}"))
}

fn unknown(expression: &str) -> ApiError {
    invalid(&format!("the simulator doesn't know: {expression}"))
}
