//! What the bound of a judgement costs at worst: milliseconds and megabytes of rules that exceed it, as JSON lines.
//! `cargo run --release -p rollcall-rules --example bound_cost`

use std::time::Instant;

use rollcall_model::{Condition, Rule, RuleType, SegmentDoc, Traits, Value};
use rollcall_rules::{CompiledSegment, Context};

const ROUNDS: usize = 5;

fn main() {
    let (ascii, wide) = (format!("{}!", "a".repeat(2_000)), format!("{}!", "é".repeat(2_000)));
    let ranges: String = (0..330_u32)
        .filter_map(|n| {
            Some(format!("{}-{}", char::from_u32(0x1_0000 + n * 4)?, char::from_u32(0x1_0001 + n * 4)?))
        })
        .collect();
    let mut traits: Traits = (0..1_000).map(|n| (format!("k{n}"), Value::Str("x".to_owned()))).collect();
    traits.insert("ascii".to_owned(), Value::Str(ascii));
    traits.insert("wide".to_owned(), Value::Str(wide));
    for (property, operator, operand) in [
        ("ascii", "REGEX", r"(a+)+\1$".to_owned()),
        ("ascii", "REGEX", r"(?:a|a)*$".to_owned()),
        ("ascii", "REGEX", r"(?:(?<!.{1990}b)a|a)*$".to_owned()),
        ("ascii", "REGEX", r"(?:){4000000000}".to_owned()),
        ("ascii", "REGEX", format!("{}(?:()){{80000}}{}", "(?>".repeat(440), ")".repeat(440))),
        ("wide", "REGEX", r"(?:\w{15}|\w{15})*\?$".to_owned()),
        ("wide", "REGEX", r"(?i)(?:[à-ü]{15}|[á-ü]{15})*\?$".to_owned()),
        ("wide", "REGEX", format!("(?i)(?:[^{ranges}]{{15}}|[^{ranges}]{{15}})*\\?$")),
        ("wide", "REGEX", format!("(?i)(?:([\\w{ranges}])|([\\W{ranges}é]))*\\?$")),
        ("$..[?$..[?$..x]].x", "IS_SET", String::new()),
        ("$.identity.traits[?$.identity.traits==$.identity.traits].x", "IS_SET", String::new()),
    ] {
        let condition = Condition {
            operator: operator.to_owned(),
            property: Some(property.to_owned()),
            value: Some(operand.clone()),
        };
        let segment = CompiledSegment::compile(&SegmentDoc {
            id: "42".into(),
            project_id: "1".into(),
            name: "bound".to_owned(),
            rules: vec![Rule { rule_type: RuleType::All, conditions: vec![condition], rules: vec![] }],
            invalid: None,
            deleted: false,
        });
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
        let mut milliseconds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                let raised = segment.judge(&context).is_err();
                let taken = start.elapsed().as_secs_f64() * 1e3;
                assert!(raised, "{operand} is within the bound");
                taken
            })
            .collect();
        milliseconds.sort_by(f64::total_cmp);
        let rule: String = format!("{property} {operator} {operand}").chars().take(60).collect();
        println!(
            "{}",
            serde_json::json!({"bench": "bound_cost", "rule": rule, "fastest_ms": milliseconds[0],
                "slowest_ms": milliseconds[ROUNDS - 1], "peak_kib": peak_kib()})
        );
    }
}

/// The most memory that the process has had, so far.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}
