//! What a fuzzer tries, from bytes to a claim. Two callers: the cargo-fuzz targets of `tests/fuzz`, which look for bytes
//! that break a claim, and the test `fuzz`, which tries a few thousand random ones on each `make test`.
//!
//! ```text
//! bytes ──Unstructured──▶ Case ──compile──▶ unsupported? ──judge──▶ explain says the same ──▶ predicate
//!                    └──▶ line of JSON ──LineReader──▶ the same
//! ```
//!
//! The claims: nothing panics or overflows the stack; a judgement ends (its steps are bounded, so a fuzzer's timeout is
//! a bug) with the same answer each time; what raises is unsupported, or on the list at `rollcall_rules::Raised`.

#![allow(clippy::unwrap_used)]

mod line;
mod vocabulary;

use arbitrary::{Arbitrary, Result, Unstructured};
use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::sql::Scope;
use rollcall_rules::{CompiledSegment, Context, LineReader};
use vocabulary::{KEYS, NUMBERS, OPERATORS, PATHS, PATTERNS, TEXTS};

/// Pieces of one text.
const PIECES_MAX: usize = 24;
/// How often one piece may be repeated, which makes texts long and nestings deep.
const REPEATS: [usize; 5] = [2, 3, 30, 300, 3_000];

/// A document with any rules, on any identity.
pub(crate) fn rule_document(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(case) = Case::document(&mut input) else { return };
    case.check();
}

/// One condition on one value: the bytes all go into what is looked for and what is there.
pub(crate) fn condition(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(case) = Case::condition(&mut input) else { return };
    case.check();
}

/// A line of JSON, mostly of the shape that is read, with anything in its places.
pub(crate) fn line(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(line) = line::text(&mut input) else { return };
    let mut reader = LineReader::default();
    let known = |reader: &mut LineReader| match reader.judge_line(line.as_bytes()) {
        Ok(read) => {
            let (segment, context) = (&read.segment, read.context());
            let judged = segment.judge(&context);
            assert_eq!(
                segment.explain(&context).verdict,
                judged.clone().ok(),
                "an explanation says otherwise"
            );
            Ok(judged)
        }
        Err(error) => Err(error),
    };
    let judged = known(&mut reader);
    assert_eq!(known(&mut reader), judged, "a line that is known says otherwise");
    match reader.predicate_line(line.as_bytes()) {
        Ok(read) => drop(read.predicate("p")),
        Err(error) => assert!(judged.is_err(), "read to be judged, but not: {error}"),
    }
}

struct Case {
    names: [String; 4],
    traits: Traits,
    system_traits: Traits,
    doc: SegmentDoc,
}

impl Case {
    fn document(input: &mut Unstructured<'_>) -> Result<Self> {
        let rules = rules(input, 4)?;
        let rules = if input.ratio(1, 50)? { vec![nested(input, rules)?] } else { rules };
        Self::around(input, rules)
    }

    fn condition(input: &mut Unstructured<'_>) -> Result<Self> {
        let condition = any_condition(input)?;
        Self::around(
            input,
            vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: vec![] }],
        )
    }

    fn around(input: &mut Unstructured<'_>, rules: Vec<Rule>) -> Result<Self> {
        let segment_key = text(input, KEYS)?;
        Ok(Self {
            names: [text(input, KEYS)?, text(input, TEXTS)?, text(input, TEXTS)?, text(input, TEXTS)?],
            traits: traits(input)?,
            system_traits: if input.ratio(1, 8)? { traits(input)? } else { Traits::new() },
            doc: SegmentDoc {
                id: segment_key.as_str().into(),
                project_id: "1".into(),
                name: "case".to_owned(),
                rules,
                invalid: None,
                deleted: false,
            },
        })
    }

    fn check(&self) {
        let [environment_key, environment_name, identifier, identity_key] = &self.names;
        let context = Context {
            environment_key,
            environment_name,
            identifier,
            identity_key,
            traits: &self.traits,
            system_traits: &self.system_traits,
            tree: None,
        };
        let segment = CompiledSegment::compile(&self.doc);
        let judged = segment.judge(&context);
        assert_eq!(segment.judge(&context), judged, "a verdict changes");
        assert_eq!(segment.explain(&context).verdict, judged.clone().ok(), "an explanation says otherwise");
        if let (Err(raised), None) = (&judged, segment.unsupported()) {
            let dynamic = ["more than 4300 digits", "too large for a float", "needs more than"];
            assert!(
                dynamic.iter().any(|part| raised.reason.contains(part)),
                "isn't static: {}",
                raised.reason
            );
        }
        let predicate = segment.predicate(&Scope { environment_key, environment_name, prefix: "p" });
        for param in &predicate.params {
            let _ = param.value.http_text();
        }
    }
}

fn rules(input: &mut Unstructured<'_>, depth: usize) -> Result<Vec<Rule>> {
    let count = input.int_in_range(0..=if depth == 0 { 0 } else { 2 })?;
    (0..count).map(|_| rule(input, depth)).collect()
}

fn rule(input: &mut Unstructured<'_>, depth: usize) -> Result<Rule> {
    let rule_type = rule_type(input)?;
    let count = input.int_in_range(0..=3)?;
    let conditions = (0..count).map(|_| any_condition(input)).collect::<Result<_>>()?;
    Ok(Rule { rule_type, conditions, rules: rules(input, depth - 1)? })
}

fn rule_type(input: &mut Unstructured<'_>) -> Result<RuleType> {
    Ok(match input.int_in_range(0..=9)? {
        0..=3 => RuleType::All,
        4..=6 => RuleType::Any,
        7 | 8 => RuleType::None,
        _ => RuleType::Unknown(text(input, KEYS)?),
    })
}

/// Rules under many others, more than may be nested among them.
fn nested(input: &mut Unstructured<'_>, mut rules: Vec<Rule>) -> Result<Rule> {
    let rule_type = rule_type(input)?;
    for _ in 0..input.int_in_range(0..=600)? {
        rules = vec![Rule { rule_type: rule_type.clone(), conditions: vec![], rules }];
    }
    Ok(Rule { rule_type, conditions: vec![], rules })
}

fn any_condition(input: &mut Unstructured<'_>) -> Result<Condition> {
    let operator =
        if input.ratio(1, 50)? { text(input, OPERATORS)? } else { (*input.choose(OPERATORS)?).to_owned() };
    let property = match input.int_in_range(0..=9)? {
        0 => None,
        1..=4 => Some(format!("$.{}", text(input, PATHS)?)),
        _ => Some((*input.choose(KEYS)?).to_owned()),
    };
    let operand = match operator.as_str() {
        "REGEX" => PATTERNS,
        "MODULO" | "PERCENTAGE_SPLIT" | "EQUAL" | "GREATER_THAN" => NUMBERS,
        _ => TEXTS,
    };
    let value = if input.ratio(1, 30)? { None } else { Some(text(input, operand)?) };
    Ok(Condition { operator, property, value })
}

fn traits(input: &mut Unstructured<'_>) -> Result<Traits> {
    let count = input.int_in_range(0..=6)?;
    (0..count).map(|_| Ok(((*input.choose(KEYS)?).to_owned(), value(input)?))).collect()
}

fn value(input: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match input.int_in_range(0..=9)? {
        0 => Value::Null,
        1 => Value::Bool(input.arbitrary()?),
        2 => Value::Int(input.arbitrary()?),
        3 => Value::Float(input.arbitrary()?),
        4 => {
            let digits = "7".repeat(*input.choose(&[20, 400, 4_301, 20_000])?);
            Value::int(digits.parse().unwrap())
        }
        5 | 6 => Value::Str(text(input, NUMBERS)?),
        _ => Value::Str(text(input, TEXTS)?),
    })
}

/// Text of pieces, some of them repeated, and of any characters.
fn text(input: &mut Unstructured<'_>, pieces: &[&str]) -> Result<String> {
    let mut text = String::new();
    for _ in 0..input.int_in_range(0..=PIECES_MAX)? {
        match input.int_in_range(0..=11)? {
            0 => text.push(char::arbitrary(input)?),
            1 => text.push_str(&input.choose(pieces)?.repeat(*input.choose(&REPEATS)?)),
            _ => text.push_str(input.choose(pieces)?),
        }
    }
    Ok(text)
}
