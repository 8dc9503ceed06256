//! Nanoseconds per condition, by operator: `cargo run --release -p rollcall-rules --example judge_speed`.

use std::hint::black_box;
use std::time::Instant;

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context};

const ROUNDS: u32 = 2_000_000;

fn main() {
    let traits: Traits = [
        ("plan", Value::Str("growth".into())),
        ("age", Value::Int(42)),
        ("score", Value::Float(7.5)),
        ("paid", Value::Bool(true)),
        ("version", Value::Str("1.10.3-rc.2".into())),
        ("email", Value::Str("someone@example.com".into())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let none = Traits::new();
    let context = Context {
        environment_key: "env_abc",
        environment_name: "Production",
        identifier: "alice",
        identity_key: "env_abc_alice",
        traits: &traits,
        system_traits: &none,
        tree: None,
    };
    for (property, operator, value) in [
        ("plan", "EQUAL", "scale"),
        ("age", "EQUAL", "41"),
        ("score", "GREATER_THAN", "7"),
        ("paid", "EQUAL", "true"),
        ("version", "GREATER_THAN", "1.9.0:semver"),
        ("email", "CONTAINS", "@example"),
        ("email", "REGEX", r".*@example\.com$"),
        ("email", "REGEX", r"(?i)^[\w.]+@(example|sample)\.(com|org)$"),
        ("plan", "IN", "free,start-up,scale,growth"),
        ("age", "MODULO", "2|0"),
        ("", "PERCENTAGE_SPLIT", "50"),
        ("missing", "IS_SET", ""),
        ("$.identity.identifier", "EQUAL", "bob"),
    ] {
        let condition = Condition {
            operator: operator.into(),
            property: Some(property.into()),
            value: Some(value.into()),
        };
        let segment = CompiledSegment::compile(&SegmentDoc {
            id: "42".into(),
            project_id: "1".into(),
            name: "speed".into(),
            rules: vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: vec![] }],
            invalid: None,
            deleted: false,
        });
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let _ = black_box(segment.judge(black_box(&context)));
        }
        let nanoseconds = start.elapsed().as_nanos() / u128::from(ROUNDS);
        println!("{operator:20} {property:24} {value:44} {nanoseconds:6} ns");
    }
}
