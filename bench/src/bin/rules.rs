//! Judging one condition, by operator: our evaluator beside the Python reference in the same run, on the same condition
//! and identity.
//!
//! `rules [ROUNDS] [PYTHON_ROUNDS]` (defaults 2000000 100000) prints one line of JSON per condition: nanoseconds per
//! judgement. Both have parsed the segment before; both loops are timed by themselves, without process or pipe.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context};
use serde_json::json;

const REFERENCE: &str = include_str!("../python/rules.py");

/// Property, operator, operand.
const CONDITIONS: [(&str, &str, &str); 22] = [
    ("plan", "EQUAL", "scale"),
    ("age", "EQUAL", "41"),
    ("paid", "EQUAL", "true"),
    ("version", "EQUAL", "1.10.3-rc.2:semver"),
    ("$.identity.identifier", "EQUAL", "bob"),
    ("plan", "NOT_EQUAL", "scale"),
    ("score", "GREATER_THAN", "7"),
    ("version", "GREATER_THAN", "1.9.0:semver"),
    ("age", "GREATER_THAN_INCLUSIVE", "42"),
    ("score", "LESS_THAN", "7"),
    ("age", "LESS_THAN_INCLUSIVE", "42"),
    ("email", "CONTAINS", "@example"),
    ("email", "NOT_CONTAINS", "@example"),
    ("email", "REGEX", r".*@example\.com$"),
    ("email", "REGEX", r"(?i)^[\w.]+@(example|sample)\.(com|org)$"),
    ("plan", "IN", "free,start-up,scale,growth"),
    ("plan", "IN", r#"["free","start-up","scale"]"#),
    ("age", "MODULO", "2|0"),
    ("", "PERCENTAGE_SPLIT", "50"),
    ("age", "PERCENTAGE_SPLIT", "50"),
    ("missing", "IS_SET", ""),
    ("missing", "IS_NOT_SET", ""),
];

fn traits() -> Traits {
    [
        ("plan", Value::Str("growth".into())),
        ("age", Value::Int(42)),
        ("score", Value::Float(7.5)),
        ("paid", Value::Bool(true)),
        ("version", Value::Str("1.10.3-rc.2".into())),
        ("email", Value::Str("someone@example.com".into())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The same identity and condition, for the reference.
fn for_the_reference((property, operator, value): (&str, &str, &str), rounds: u32) -> serde_json::Value {
    let condition = json!({ "property": property, "operator": operator, "value": value });
    json!({
        "context": {
            "environment": { "key": "env_abc", "name": "Production" },
            "identity": {
                "identifier": "alice",
                "key": "env_abc_alice",
                "traits": {
                    "plan": "growth", "age": 42, "score": 7.5, "paid": true, "version": "1.10.3-rc.2",
                    "email": "someone@example.com",
                },
            },
        },
        "segment": {
            "key": "42", "name": "speed", "rules": [{ "type": "ALL", "conditions": [condition], "rules": [] }],
        },
        "rounds": rounds,
    })
}

/// Our verdict, and nanoseconds per judgement.
fn ours((property, operator, value): (&str, &str, &str), rounds: u32) -> Result<(bool, f64), Box<dyn Error>> {
    let condition =
        Condition { operator: operator.into(), property: Some(property.into()), value: Some(value.into()) };
    let segment = CompiledSegment::compile(&SegmentDoc {
        id: "42".into(),
        project_id: "1".into(),
        name: "speed".into(),
        rules: vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: vec![] }],
        invalid: None,
        deleted: false,
    });
    let (traits, none) = (traits(), Traits::new());
    let context = Context {
        environment_key: "env_abc",
        environment_name: "Production",
        identifier: "alice",
        identity_key: "env_abc_alice",
        traits: &traits,
        system_traits: &none,
        tree: None,
    };
    let verdict = segment.judge(&context)?;
    let began = Instant::now();
    for _ in 0..rounds {
        let _ = black_box(segment.judge(black_box(&context)));
    }
    Ok((verdict, began.elapsed().as_nanos() as f64 / f64::from(rounds)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>());
    let mut arg = |default| args.next().unwrap_or(Ok(default));
    let (rounds, python_rounds) = (arg(2_000_000)?.max(1), arg(100_000)?.max(1));
    let mut python = Command::new(rollcall_test_servers::python())
        .args(["-c", REFERENCE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = python.stdin.take().ok_or("a pipe")?;
    let mut answers = BufReader::new(python.stdout.take().ok_or("a pipe")?).lines();
    for condition in CONDITIONS {
        let (verdict, ns) = ours(condition, rounds)?;
        writeln!(input, "{}", for_the_reference(condition, python_rounds))?;
        let answer: serde_json::Value =
            serde_json::from_str(&answers.next().ok_or("the reference stopped")??)?;
        let reference_ns = answer["ns"].as_f64().ok_or("the reference says no time")?;
        if answer["verdict"] != verdict {
            return Err(format!("{condition:?}: ours {verdict}, the reference {}", answer["verdict"]).into());
        }
        let (property, operator, value) = condition;
        let line = json!({
            "figure": "judging one condition", "operator": operator, "property": property, "value": value,
            "verdict": verdict, "ns": (ns * 10.0).round() / 10.0, "reference_ns": reference_ns.round(),
            "times_faster": (reference_ns / ns).round(),
        });
        println!("{line}");
    }
    drop(input);
    python.wait()?;
    Ok(())
}
