//! The command `rollcall judge` equals the reference, on the same raw lines: the generated cases with their keys in
//! any order, written twice, left out, and with others beside them.
//!
//! `DIFFERENTIAL_SEED=… JUDGE_LINES=…` run others; the seed is printed.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rollcall_differential::case::json_value;
use rollcall_differential::{Answer, Case, Reference, Release, generate};
use serde_json::{Value, json};

const LINES: u64 = 20_000;
const PRINTED_MAX: usize = 12;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not '{text}'")))
}

#[test]
fn the_command_equals_the_reference() {
    let seed = from_env("DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
    eprintln!("reference {}, DIFFERENTIAL_SEED={seed}", Release::Pinned.version());
    let lines: Vec<String> = (0..from_env("JUDGE_LINES").unwrap_or(LINES))
        .map(|number| {
            let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number));
            raw_line(&generate::case(seed, number, None), &mut rng)
        })
        .collect();
    let judged = judge(&lines);
    let answers = Reference::start_raw(Release::Pinned).raw_answers(&lines);
    assert_eq!(judged.len(), lines.len());
    let (mut results, mut unsure, mut mismatches) = ([0; 4], 0, 0);
    for (line, (judged, answer)) in lines.iter().zip(judged.iter().zip(answers)) {
        let expected = match answer {
            Some(Answer::Is(true)) => json!(true),
            Some(Answer::Is(false)) => json!(false),
            Some(Answer::Raises(_)) => Value::Null,
            None => json!("error"),
        };
        // What this version doesn't answer, though the reference would.
        let reason = |field: &str| judged[field].as_str().unwrap_or_default();
        if reason("error").contains("doesn't walk") || reason("unsupported").contains("needs more than") {
            unsure += 1;
            continue;
        }
        let said = if judged.get("error").is_some() { json!("error") } else { judged["result"].clone() };
        let kind = match said.as_bool() {
            Some(true) => 0,
            Some(false) => 1,
            None if said.is_null() => 2,
            None => 3,
        };
        results[kind] += 1;
        if said != expected {
            mismatches += 1;
            if mismatches <= PRINTED_MAX {
                eprintln!("judge {judged}, reference {expected}\n  {line}");
            }
        }
    }
    eprintln!("true, false, null, error: {results:?}; not answered: {unsure}; mismatches: {mismatches}");
    assert_eq!(mismatches, 0, "rollcall judge differs from the reference; seed {seed}");
    assert!(unsure < lines.len() / 50 && results.iter().all(|count| *count > 0), "the lines test little");
}

/// The binary beside this test's own, which `make test` builds first.
fn binary() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    let file = exe.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps").join("rollcall");
    assert!(file.exists(), "{} is missing. Build it with: cargo build -p rollcall", file.display());
    file
}

fn judge(lines: &[String]) -> Vec<Value> {
    let mut process = Command::new(binary())
        .arg("judge")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rollcall starts");
    let mut input = process.stdin.take().expect("a pipe");
    let text = lines.join("\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = process.wait_with_output().expect("rollcall ends");
    writer.join().expect("no panic").expect("rollcall reads");
    let text = String::from_utf8(output.stdout).expect("answers are UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an answer is JSON")).collect()
}

fn text(text: &str) -> String {
    json!(text).to_string()
}

/// An object of these entries in any order, some of them written twice.
fn object(mut entries: Vec<(String, String)>, rng: &mut StdRng) -> String {
    entries.shuffle(rng);
    if !entries.is_empty() && rng.random_bool(0.1) {
        // What it said first is forgotten, where it first stood is not.
        let (key, _) = entries[rng.random_range(0..entries.len())].clone();
        let place = rng.random_range(0..=entries.len());
        let first = entries.iter().position(|(known, _)| *known == key).unwrap_or_default();
        let value = if place > first { entries[first].1.clone() } else { "{\"\": []}".to_owned() };
        entries.insert(place, (key, value));
    }
    let space = if rng.random_bool(0.1) { " " } else { "" };
    let entries: Vec<String> =
        entries.iter().map(|(key, value)| format!("{space}{}{space}:{space}{value}", text(key))).collect();
    format!("{{{}{space}}}", entries.join(","))
}

/// Now and then something that the context has no place for.
fn beside(entries: &mut Vec<(String, String)>, rng: &mut StdRng) {
    if rng.random_bool(0.05) {
        let (key, value) = [
            ("a", "\"beside\""),
            ("id", "7"),
            ("x", "null"),
            ("name", "\"other\""),
            ("features", "{\"a\": {\"key\": \"b\", \"name\": \"c\"}}"),
            ("list", "[1, \"x\"]"),
        ][rng.random_range(0..6)];
        if entries.iter().all(|(known, _)| known != key) {
            entries.push((key.to_owned(), value.to_owned()));
        }
    }
}

fn entry(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

fn raw_line(case: &Case, rng: &mut StdRng) -> String {
    let mut environment =
        vec![entry("key", text(&case.environment_key)), entry("name", text(&case.environment_name))];
    let mut identity = vec![entry("identifier", text(&case.identifier))];
    match rng.random_range(0..10) {
        0..2 => {}
        2 => identity.push(entry("key", "null")),
        3 => identity.push(entry("key", "\"\"")),
        _ => identity.push(entry("key", text(&case.identity_key))),
    }
    let mut traits = case.traits.clone();
    traits.extend(case.system_traits.clone());
    let entries = traits.iter().map(|(key, value)| entry(key, json_value(value))).collect();
    match (traits.is_empty(), rng.random_range(0..3)) {
        (true, 0) => {}
        (true, 1) => identity.push(entry("traits", "null")),
        _ => identity.push(entry("traits", object(entries, rng))),
    }
    beside(&mut environment, rng);
    beside(&mut identity, rng);
    let mut context =
        vec![entry("environment", object(environment, rng)), entry("identity", object(identity, rng))];
    beside(&mut context, rng);
    let line = vec![entry("context", object(context, rng)), entry("segment", segment(case, rng))];
    object(line, rng)
}

/// The segment with parts left out and operands of other types.
fn segment(case: &Case, rng: &mut StdRng) -> String {
    const START: &str = "},\"segment\":";
    let json = case.json();
    let at = json.find(START).expect("a case has a segment") + START.len();
    let raw = &json[at..json.len() - 1];
    // Rules nested deeper than serde_json reads stay as they are.
    let Ok(mut segment) = serde_json::from_str::<Value>(raw) else { return raw.to_owned() };
    if rng.random_bool(0.05) {
        segment["key"] = [json!(7), json!(1.5), json!(1e22)][rng.random_range(0..3)].clone();
    }
    if rng.random_bool(0.01) {
        leave_out(&mut segment, ["key", "rules"][rng.random_range(0..2)]);
    }
    change_rules(&mut segment, case, rng);
    segment.to_string()
}

fn leave_out(object: &mut Value, key: &str) {
    if let Some(entries) = object.as_object_mut() {
        entries.remove(key);
    }
}

fn change_rules(parent: &mut Value, case: &Case, rng: &mut StdRng) {
    for group in ["conditions", "rules"] {
        if parent[group].as_array().is_some_and(Vec::is_empty) && rng.random_bool(0.1) {
            parent[group] = Value::Null;
        }
    }
    for rule in parent["rules"].as_array_mut().into_iter().flatten() {
        if rng.random_bool(0.02) {
            leave_out(rule, "type");
        }
        for condition in rule["conditions"].as_array_mut().into_iter().flatten() {
            change_condition(condition, case, rng);
        }
        change_rules(rule, case, rng);
    }
}

/// Paths that take the first of several nodes.
const ORDERED_PATHS: [&str; 10] = [
    "$.identity.*",
    "$.identity[?@ != null]",
    "$.identity[?@ == $.environment.key || length(@) > 0]",
    "$.identity.traits.*",
    "$.identity.traits[?@ != null]",
    "$.environment.*",
    "$..key",
    "$..name",
    "$..[?@ == 1 || @ == 'a']",
    "$.*.*",
];

fn change_condition(condition: &mut Value, case: &Case, rng: &mut StdRng) {
    if rng.random_bool(0.2) {
        let key = format!("{}_{}", case.environment_key, case.identifier);
        let texts =
            [&case.identifier, &case.identity_key, &key, &case.environment_key, &case.environment_name];
        *condition = json!({
            "property": ORDERED_PATHS[rng.random_range(0..ORDERED_PATHS.len())],
            "operator": (["EQUAL", "NOT_EQUAL", "IS_SET"][rng.random_range(0..3)]),
            "value": texts[rng.random_range(0..texts.len())],
        });
    }
    if rng.random_bool(0.05) {
        leave_out(condition, ["value", "value", "value", "property", "operator"][rng.random_range(0..5)]);
    }
    let operator = condition["operator"].as_str().unwrap_or_default().to_owned();
    match operator.as_str() {
        "IN" if rng.random_bool(0.4) => {
            let items: Vec<Value> = condition["value"]
                .as_str()
                .unwrap_or_default()
                .split(',')
                .map(|item| serde_json::from_str(item).unwrap_or_else(|_| json!(item)))
                .collect();
            condition["value"] = json!(items);
        }
        "PERCENTAGE_SPLIT" if rng.random_bool(0.2) => {
            condition["value"] =
                [json!(0), json!(50), json!(49.5), json!(100)][rng.random_range(0..4)].clone();
        }
        "IS_SET" | "IS_NOT_SET" if rng.random_bool(0.2) => {
            condition["value"] = [json!(1), json!(true), json!([])][rng.random_range(0..3)].clone();
        }
        _ => {}
    }
}
