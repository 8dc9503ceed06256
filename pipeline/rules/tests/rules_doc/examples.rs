//! The examples of docs/rules.md: each row of a table whose columns are [`COLUMNS`].
//!
//! ```text
//! | `{"age": 10}` `system {…}` | `ANY(age IS_SET, ALL(b IN "1,2"))` | yes | why |
//!   identity                     rules                               verdict
//! ```

use rollcall_model::{Condition, Rule, RuleType, Traits, Value};

const COLUMNS: &str = "| identity | rule | member | why |";
/// Fewer than the page has; a parser that loses tables falls below it.
const EXAMPLES_MIN: usize = 120;

/// One row.
#[derive(Debug)]
pub(crate) struct Example {
    /// The row, to be shown.
    pub(crate) row: String,
    pub(crate) environment_name: String,
    pub(crate) identifier: String,
    pub(crate) traits: Traits,
    pub(crate) system_traits: Traits,
    pub(crate) rules: Vec<Rule>,
    pub(crate) verdict: Verdict,
}

/// What the page says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Yes,
    No,
    /// The reference raises; unsupported here.
    Raises,
    /// The reference answers; unsupported here.
    Unsupported,
    /// The evaluator stops on this identity.
    Stops,
}

pub(crate) const ENVIRONMENT_KEY: &str = "env_abc";
pub(crate) const SEGMENT_ID: &str = "42";

/// All of them.
///
/// # Panics
/// If a row doesn't parse, with the row; if there are too few.
pub(crate) fn examples() -> Vec<Example> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    let page = std::fs::read_to_string(path).expect("docs/rules.md is readable");
    let mut examples = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == COLUMNS {
            assert_eq!(lines.next(), Some("|---|---|---|---|"), "below the columns");
            let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
            let before = examples.len();
            examples
                .extend(rows.map(|row| example(row).unwrap_or_else(|problem| panic!("{problem}: {row}"))));
            assert!(examples.len() > before, "a table without rows");
        }
    }
    assert!(examples.len() >= EXAMPLES_MIN, "only {} examples were found", examples.len());
    examples
}

fn example(row: &str) -> Result<Example, String> {
    let cells: Vec<String> = cells(row);
    let [identity, rules, verdict, _why] = cells.as_slice() else {
        return Err(format!("{} cells", cells.len()));
    };
    let mut example = Example {
        row: row.to_owned(),
        environment_name: "Production".to_owned(),
        identifier: "alice".to_owned(),
        traits: Traits::new(),
        system_traits: Traits::new(),
        rules: Vec::new(),
        verdict: match verdict.as_str() {
            "yes" => Verdict::Yes,
            "no" => Verdict::No,
            "raises" => Verdict::Raises,
            "unsupported" => Verdict::Unsupported,
            "stops" => Verdict::Stops,
            other => return Err(format!("'{other}' is no verdict")),
        },
    };
    for part in spans(identity)? {
        if part.starts_with('{') {
            example.traits = traits(part)?;
        } else if let Some(json) = part.strip_prefix("system ") {
            example.system_traits = traits(json)?;
        } else if let Some(json) = part.strip_prefix("identifier ") {
            example.identifier = text(json)?;
        } else if let Some(json) = part.strip_prefix("environment ") {
            example.environment_name = text(json)?;
        } else {
            return Err(format!("'{part}' is no part of an identity"));
        }
    }
    let [text] = spans(rules)?[..] else { return Err("not one rule".to_owned()) };
    if text != "(no rules)" {
        let mut parser = Parser { rest: text };
        example.rules = parser.top()?;
    }
    Ok(example)
}

/// The cells of a row, `\|` read as what it stands for.
fn cells(row: &str) -> Vec<String> {
    let marked = row.replace(r"\|", "\u{0}");
    let inner = marked.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The code spans of a cell that holds nothing else.
fn spans(cell: &str) -> Result<Vec<&str>, String> {
    let pieces: Vec<&str> = cell.split('`').collect();
    let between_is_blank = pieces.iter().step_by(2).all(|piece| piece.trim().is_empty());
    if pieces.len().is_multiple_of(2) || !between_is_blank {
        return Err(format!("'{cell}' isn't code alone"));
    }
    Ok(pieces.into_iter().skip(1).step_by(2).collect())
}

fn text(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|error| format!("{json}: {error}"))
}

fn traits(json: &str) -> Result<Traits, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|error| format!("{json}: {error}"))?;
    object.into_iter().map(|(key, value)| Ok((key, scalar(&value)?))).collect()
}

fn scalar(value: &serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::String(text) => Value::Str(text.clone()),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(x)) if number.is_f64() => Value::Float(x),
            (None, _) => return Err(format!("{number} is too large for an example")),
        },
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            return Err("a trait is a scalar".to_owned());
        }
    })
}

/// `ANY(plan EQUAL "growth", ALL(…))`, or a condition alone, which stands in an ALL.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn top(&mut self) -> Result<Vec<Rule>, String> {
        if self.rule_type().is_none() {
            let conditions = vec![self.condition()?];
            return self.end(vec![Rule { rule_type: RuleType::All, conditions, rules: vec![] }]);
        }
        let mut rules = Vec::new();
        while !self.rest.is_empty() {
            rules.push(self.rule()?);
            self.rest = self.rest.trim_start();
        }
        self.end(rules)
    }

    fn end(&self, rules: Vec<Rule>) -> Result<Vec<Rule>, String> {
        if self.rest.is_empty() { Ok(rules) } else { Err(format!("'{}' is too much", self.rest)) }
    }

    /// The type of the rule that comes next, if it is one: capitals before a parenthesis.
    fn rule_type(&self) -> Option<(RuleType, usize)> {
        let (name, _) = self.rest.split_once('(')?;
        let rule_type = match name {
            "ALL" => RuleType::All,
            "ANY" => RuleType::Any,
            "NONE" => RuleType::None,
            _ => RuleType::Unknown(name.to_owned()),
        };
        let capitals = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
        capitals.then_some((rule_type, name.len() + 1))
    }

    fn rule(&mut self) -> Result<Rule, String> {
        let (rule_type, length) = self.rule_type().ok_or_else(|| format!("'{}' is no rule", self.rest))?;
        self.rest = &self.rest[length..];
        let mut rule = Rule { rule_type, conditions: vec![], rules: vec![] };
        while !self.take(")") {
            if self.rule_type().is_some() {
                rule.rules.push(self.rule()?);
            } else {
                rule.conditions.push(self.condition()?);
            }
            if !self.take(", ") && !self.rest.starts_with(')') {
                return Err(format!("'{}' neither goes on nor ends", self.rest));
            }
        }
        Ok(rule)
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Property, operator in capitals, and an operand as JSON, which IS_SET and IS_NOT_SET go without.
    fn condition(&mut self) -> Result<Condition, String> {
        let is_operator =
            |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let (at, operator) = self
            .rest
            .match_indices(' ')
            .map(|(at, _)| (at, self.rest[at + 1..].split([' ', ',', ')']).next().unwrap_or_default()))
            .find(|(_, word)| is_operator(word))
            .ok_or_else(|| format!("'{}' is no condition", self.rest))?;
        let property = Some(self.rest[..at].to_owned());
        let operator = operator.to_owned();
        self.rest = &self.rest[at + 1 + operator.len()..];
        let value = if operator.starts_with("IS_") { Some(String::new()) } else { self.operand()? };
        Ok(Condition { operator, property, value })
    }

    fn operand(&mut self) -> Result<Option<String>, String> {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Option<String>>();
        let value = values
            .next()
            .ok_or("no operand")?
            .map_err(|error| format!("the operand '{}': {error}", self.rest))?;
        self.rest = &self.rest[values.byte_offset()..];
        Ok(value)
    }
}
