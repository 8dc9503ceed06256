//! `rollcall judge` as its users meet it: answers, errors, exit codes, a line at a time and many at once.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.args(["--config", "/no/such.yaml", "judge"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut process = start(args);
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

fn answers(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A line whose identity has a plan and an age, and whose segment has one condition.
fn line(operator: &str, property: &str, value: &str) -> String {
    json!({
        "context": {
            "environment": {"key": "env", "name": "Production"},
            "identity": {"identifier": "alice", "traits": {"plan": "growth", "age": 42}},
        },
        "segment": {"key": "1", "name": "test", "rules": [
            {"type": "ALL", "conditions": [{"operator": operator, "property": property, "value": value}]},
        ]},
    })
    .to_string()
}

#[test]
fn each_line_gets_its_answer_in_order_and_broken_ones_an_error() {
    let input = [
        line("EQUAL", "plan", "growth"),
        String::new(),
        "{\"context\": ".to_owned(),
        line("EQUAL", "age", "41") + "\r",
        "\r".to_owned(),
        line("MODULO", "age", "0|0"),
        line("EQUAL", "$.identity.key", "env_alice"),
    ]
    .join("\n");
    let output = run(&[], input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let answers = answers(&output);
    assert_eq!(answers.len(), 7);
    assert_eq!(answers[0], json!({"result": true, "unsupported": null}));
    assert_eq!(answers[1], json!({"error": "a blank line"}));
    assert!(answers[2]["error"].as_str().unwrap().contains("a value expected at byte 12"), "{answers:?}");
    assert_eq!(answers[3], json!({"result": false, "unsupported": null}));
    assert_eq!(answers[4], json!({"error": "a blank line"}));
    assert_eq!(answers[5]["result"], Value::Null);
    assert!(answers[5]["unsupported"].as_str().unwrap().contains("modulo by zero"));
    assert_eq!(answers[6]["result"], json!(true));
    assert!(
        said(&output).starts_with("error: 3 of 7 lines got an error; the first is line 2: "),
        "{}",
        said(&output)
    );
}

#[test]
fn nothing_broken_exits_with_0_and_wrong_use_with_2() {
    let output = run(&[], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(run(&[], line("IS_SET", "plan", "").as_bytes()).status.code(), Some(0));
    assert_eq!(run(&["--sql", "--explain"], b"").status.code(), Some(2));
}

#[test]
fn many_lines_keep_their_order_over_many_threads() {
    let input: String = (0..30_000).map(|n| line("EQUAL", "age", &(n % 50).to_string()) + "\n").collect();
    for threads in ["1", "7"] {
        let output = run(&["--threads", threads], input.as_bytes());
        let answers = answers(&output);
        assert_eq!(answers.len(), 30_000);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer["result"], json!(n % 50 == 42), "line {n}");
        }
    }
}

#[test]
fn a_line_is_answered_while_the_input_stays_open() {
    let mut process = start(&[]);
    let mut input = process.stdin.take().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    for (plan, result) in [("growth", true), ("scale", false), ("growth", true)] {
        writeln!(input, "{}", line("EQUAL", "plan", plan)).unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{{\"result\":{result},\"unsupported\":null}}\n"));
    }
    drop(input);
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut process = start(&[]);
    let mut input = process.stdin.take().unwrap();
    drop(process.stdout.take());
    let line = line("EQUAL", "plan", "growth") + "\n";
    // Until the pipe breaks on this side, too.
    while input.write_all(line.as_bytes()).is_ok() {}
    assert!(process.wait().unwrap().success());
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn hostile_lines_are_answered_like_others() {
    let deep_rules = |depth: usize| {
        format!("{}{}", "[{\"type\":\"ALL\",\"rules\":".repeat(depth), "[]".to_owned() + &"}]".repeat(depth))
    };
    let with_rules = |rules: &str| {
        format!(
            "{{\"context\":{{\"environment\":{{\"key\":\"e\",\"name\":\"n\"}},\"identity\":{{\"identifier\":\"i\"}}}},\
             \"segment\":{{\"key\":\"1\",\"rules\":{rules}}}}}"
        )
    };
    let lines: Vec<Vec<u8>> = vec![
        b"\xff\xfe".to_vec(),
        b"\0".to_vec(),
        vec![b'['; 200_000],
        b"{\"a\":".repeat(200_000),
        format!("{{\"a\":{}}}", "9".repeat(1_000_000)).into_bytes(),
        vec![b' '; 100],
        vec![b'x'; (4 << 20) + 1],
        with_rules(&deep_rules(100_000)).into_bytes(),
        with_rules(&deep_rules(400)).into_bytes(),
        line("REGEX", "plan", &"(".repeat(100_000)).into_bytes(),
        line("IS_SET", &format!("$.a[?{}@.b", "(".repeat(100_000)), "").into_bytes(),
        line("IN", "plan", &"[".repeat(100_000)).into_bytes(),
        line("EQUAL", "plan", "growth").into_bytes(),
    ];
    let input = lines.join(&b'\n');
    for mode in [&[][..], &["--explain"], &["--sql"]] {
        let output = run(mode, &input);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        // Read as text: an explanation is as deep as its rules.
        let answers: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(answers.len(), lines.len());
        let broken = |answer: &&str| answer.starts_with(r#"{"error":"#);
        assert!(answers[..8].iter().all(broken) && !answers[8..].iter().any(broken), "{answers:?}");
        assert_eq!(answers[6], r#"{"error":"longer than 4194304 bytes"}"#);
    }
}

#[test]
fn explain_shows_the_value_found_and_the_operand_as_it_was_cast() {
    let output = run(&["--explain"], line("GREATER_THAN", "age", " 4_1 ").as_bytes());
    let answer = &answers(&output)[0];
    assert_eq!(answer["verdict"], json!(true));
    let condition = &answer["rules"][0]["conditions"][0];
    assert_eq!(condition["found"], json!("42"));
    assert_eq!(condition["found_type"], json!("int"));
    assert_eq!(condition["operand_cast"], json!("41"));
}

#[test]
fn sql_needs_no_identity() {
    let line = |operator: &str| {
        let segment = json!({"key": "1", "name": "n", "rules": [
            {"type": "ALL", "conditions": [{"operator": operator, "property": "plan", "value": "growth"}]},
        ]});
        json!({"context": {"environment": {"key": "e", "name": "n"}}, "segment": segment}).to_string()
    };
    let input = [line("EQUAL"), line("LIKE"), "{}".to_owned()].join("\n");
    let output = run(&["--sql"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let answers = answers(&output);
    assert!(answers[0]["where"].is_string() && answers[0]["params"].is_object(), "{answers:?}");
    assert_eq!(
        answers[1],
        json!({"class": "unsupported", "reason": "rules[0].conditions[0]: LIKE on 'plan': this version doesn't know the \
               operator", "where": null, "params": {}})
    );
    assert_eq!(answers[2], json!({"error": "context: missing"}));
}

#[test]
fn an_expression_beyond_its_bound_is_unsupported_on_that_identity() {
    let line = json!({
        "context": {
            "environment": {"key": "env", "name": "Production"},
            "identity": {"identifier": "alice", "traits": {"t": "a".repeat(60) + "!"}},
        },
        "segment": {"key": "1", "name": "s", "rules": [{"type": "ALL", "conditions": [
            {"property": "t", "operator": "REGEX", "value": "(a+)+\\1$"},
        ]}]},
    });
    let output = run(&[], line.to_string().as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer = &answers(&output)[0];
    assert_eq!(answer["result"], Value::Null);
    let reason = answer["unsupported"].as_str().unwrap();
    assert!(
        reason.contains("'alice'") && reason.contains("(a+)+\\1$") && reason.contains("needs more than"),
        "{reason}"
    );
}
