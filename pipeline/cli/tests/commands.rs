//! The binary as its users meet it: exit codes, messages, what is printed for people and for programs.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use rollcall_dynamo_sim::{Action, DynamoSim, Faults, SimSettings, ViewType};

const TOPOLOGY: &str = r#"
rollcall: 1
log: { type: embedded, path: ./data }
sources:
  core: { type: postgres, platform: flagsmith, url: ${CORE_URL} }
http: { listen: LISTEN, token: ${TOKEN} }
"#;

/// A topology file of its own, removed with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rollcall-cli-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.env_remove("CORE_URL").env("TOKEN", "t0ps3cret").env_remove("RUST_LOG");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "s3cret");
        command.arg("--config").arg(&self.0).args(args).output().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// An instance that answers one request, and then says what was asked.
fn instance(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut asked = vec![0; length];
        reader.read_exact(&mut asked).unwrap();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
        format!("{head}{}", String::from_utf8(asked).unwrap())
    });
    (address, asked)
}

/// Asks an instance that answers `body`; gives the output and what was asked.
fn ask(name: &str, status: &'static str, body: &'static str, args: &[&str]) -> (Output, String) {
    let (address, asked) = instance(status, body);
    let output = File::new(name, &TOPOLOGY.replace("LISTEN", &address)).run(args);
    (output, asked.join().unwrap())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_reports_every_fault_and_exits_with_78() {
    let text = "rollcall: 1\nlog: { type: embedded, path: d, partitons: 8 }\nsources:\n  core: { type: postgres, \
                platform: flagsmith, url: 'postgres://u:hunter2@h/d' }\nsinks: { counts: { url: 7 } }\n";
    let output = File::new("faults", text).run(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = err(&output);
    assert!(said.contains(".yaml:2:33: log.partitons: unknown key"), "{said}");
    assert!(said.contains("did you mean 'partitions'?") && said.contains("in clear"), "{said}");
    assert_eq!(said.matches("error: ").count(), 3, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_missing_file_is_configuration_and_a_missing_argument_is_wrong_use() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rollcall")).args(["-c", "/no/such.yaml", "status"]).output();
    assert_eq!(output.unwrap().status.code(), Some(78));
    assert_eq!(File::new("use", TOPOLOGY).run(&["members"]).status.code(), Some(2));
    assert_eq!(
        File::new("use2", TOPOLOGY).run(&["topic", "tail", "x", "--from", "middle"]).status.code(),
        Some(2)
    );
    // The schema needs no file.
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall")).args(["check", "--schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["sinks"]["description"].is_string());
}

#[test]
fn nobody_there_names_the_command_that_starts_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = File::new("nobody", &TOPOLOGY.replace("LISTEN", &free)).run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(said.contains(&format!("no rollcall answers at {free}")), "{said}");
    assert!(said.contains("repair: start it: rollcall --config") && said.contains(" run"), "{said}");
}

#[test]
fn commands_bring_the_token_and_pass_refusals_on() {
    let body = r#"{"error": "there is no segment '9'", "repair": "`rollcall counts` lists them"}"#;
    let args = ["members", "--segment", "9/ä", "--environment", "1"];
    let (output, asked) = ask("refusal", "404 Not Found", body, &args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "error: there is no segment '9'\nrepair: `rollcall counts` lists them\n");
    assert!(asked.starts_with("GET /api/v1/members?segment=9%2F%C3%A4&environment=1&limit=100 "), "{asked}");
    assert!(asked.contains("Bearer t0ps3cret"), "{asked}");
}

#[test]
fn verify_exits_with_1_on_a_difference_and_on_silence() {
    const EQUAL: &str = r#"{"equal": true, "checked": [{"segment_id": "3", "environment_id": "7",
        "stores": {"roster": 2, "clickhouse": 2}}], "differences": [], "parked": [], "unanswered": []}"#;
    const SILENT: &str = r#"{"equal": true, "checked": [], "unanswered": ["sink/counts"]}"#;
    const DIFFERS: &str =
        r#"{"equal": false, "checked": [], "differences": ["segment 3: clickhouse lacks core/1"]}"#;
    let (output, asked) = ask("equal", "200 OK", EQUAL, &["verify", "--environment", "7"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(asked.contains(r#""environment":"7""#) && asked.contains(r#""repair":false"#), "{asked}");
    assert_eq!(
        out(&output),
        "SEGMENT  ENVIRONMENT  clickhouse  roster\n3        7            2           2\nequal: 1 of (segment, \
         environment)\n"
    );
    let (output, _) = ask("silent", "200 OK", SILENT, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        out(&output),
        "{\"kind\":\"unanswered\",\"task\":\"sink/counts\"}\n{\"kind\":\"verdict\",\"equal\":false}\n"
    );
    let (output, _) = ask("differs", "200 OK", DIFFERS, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("difference: segment 3: clickhouse lacks core/1"), "{}", out(&output));
}

#[test]
fn a_failed_task_shows_with_its_repair_and_exits_with_1() {
    const STATUS: &str = r#"{"log_id": "l", "partitions": 2, "parked": 1, "sources": [], "fills": [], "tasks": [
        {"task": "source/core", "state": "failed", "error": "the slot is gone", "repair": "rollcall backfill core"}]}"#;
    let (output, _) = ask("failed", "200 OK", STATUS, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = out(&output);
    assert!(
        said.contains("source/core is failed: the slot is gone\n  repair: rollcall backfill core"),
        "{said}"
    );
    assert!(said.contains("1 identities are parked: rollcall quarantine list"), "{said}");
}

#[test]
fn a_fill_that_differed_exits_with_1() {
    const FILLED: &str = r#"{"id": "fill-1", "differed": 2, "identities": 10}"#;
    let (output, asked) =
        ask("fill", "200 OK", FILLED, &["fill", "--segment", "3", "--environment", "all", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "{\"id\":\"fill-1\",\"differed\":2,\"identities\":10}\n");
    assert!(asked.contains(r#""segment":"3""#) && asked.contains(r#""environment":null"#), "{asked}");
}

#[test]
fn topics_come_a_record_a_line() {
    const LINES: &str = "{\"topic\":\"catalog\",\"partition\":0,\"offset\":4,\"key\":\"gate\",\"value\":null,\"headers\":{}}\n";
    let (output, asked) = ask("tail", "200 OK", LINES, &["topic", "tail", "catalog", "--limit", "1"]);
    assert_eq!(out(&output), "catalog/0 @4  gate  null\n");
    assert!(
        asked.starts_with("GET /api/v1/topics/catalog/tail?from=beginning&follow=false&limit=1 "),
        "{asked}"
    );
    let (output, _) = ask("tail-json", "200 OK", LINES, &["topic", "tail", "catalog", "--json"]);
    assert_eq!(out(&output), LINES);
}

#[test]
fn explain_prints_value_type_cast_operand_and_verdict() {
    const EXPLAINED: &str = r#"{"member": false, "judged": {"verdict": false, "rules": [{"type": "ALL", "verdict": false,
        "rules": [], "conditions": [
        {"property": "age", "operator": "GREATER_THAN", "operand": "4_1", "found": "42", "found_type": "int",
         "operand_cast": "41", "verdict": true},
        {"property": "age", "operator": "EQUAL", "operand": "x", "found": "42", "found_type": "int",
         "operand_cast": null, "verdict": false},
        {"property": null, "operator": "IN", "operand": "1,2", "found": "e_i", "found_type": "str",
         "operand_cast": "one of [\"1\", \"2\"]", "verdict": false},
        {"property": "plan", "operator": "IS_SET", "operand": null, "found": null, "found_type": "none",
         "operand_cast": null, "verdict": false}]}]}}"#;
    let args = ["explain", "--segment", "3", "--environment", "1", "--identity", "i"];
    let (output, _) = ask("explain", "200 OK", EXPLAINED, &args);
    assert_eq!(
        out(&output),
        "i in segment 3: is not a member\n  no  ALL of\n    yes age GREATER_THAN '4_1': found '42' (int), operand as 41\n    \
         no  age EQUAL 'x': found '42' (int), the operand is no int\n    no  the identity's key IN '1,2': found 'e_i' \
         (str), operand as one of [\"1\", \"2\"]\n    no  plan IS_SET: found nothing\n"
    );
}

/// A topology whose edge is the simulator.
fn edge(name: &str, sim: &DynamoSim) -> File {
    let edge = format!(
        "  edge: {{ type: dynamodb, platform: flagsmith, table: flagsmith_identities, region: eu-west-2, \
         endpoint: '{}' }}\nhttp:",
        sim.url()
    );
    let topology =
        TOPOLOGY.replace("LISTEN", "127.0.0.1:8642").replace("${CORE_URL}", "postgres://core/flagsmith");
    File::new(name, &topology.replace("http:", &edge))
}

#[test]
fn setup_of_a_table_names_what_is_missing_and_exits_with_1() {
    let sim = DynamoSim::start(SimSettings { view: None, ..SimSettings::default() });
    let file = edge("setup-edge", &sim);
    let command = "aws dynamodb update-table --region eu-west-2 --table-name flagsmith_identities \
                   --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES";
    let output = file.run(&["setup", "edge"]);
    let lack = "sources.edge: left to do: the table flagsmith_identities has no stream; ";
    assert_eq!(out(&output), format!("{lack}{command}\n"), "{}", err(&output));
    assert_eq!(output.status.code(), Some(1));

    sim.enable_stream(ViewType::NewAndOldImages);
    let denied = [Action::Scan, Action::GetRecords].into();
    sim.set_faults(Faults { denied, ..Faults::default() });
    let output = file.run(&["setup", "edge", "--json"]);
    let lines: Vec<serde_json::Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [records, scan] = lines.as_slice() else { panic!("{lines:?}: {}", err(&output)) };
    for (line, action) in [(records, "GetRecords"), (scan, "Scan")] {
        assert_eq!(line["part"], "sources.edge");
        let statement = format!(r#"{{"Effect": "Allow", "Action": "dynamodb:{action}""#);
        assert!(line["left"].as_str().unwrap().contains(&statement), "{line}");
    }
    assert_eq!(output.status.code(), Some(1));

    // What is printed may go to psql.
    let output = file.run(&["setup", "edge", "--print-sql"]);
    assert!(out(&output).contains(r#""Action": "dynamodb:Scan""#), "{}", err(&output));
    assert!(out(&output).lines().all(|line| line.starts_with("-- ")), "{}", out(&output));
    assert_eq!(output.status.code(), Some(0));

    sim.set_faults(Faults::default());
    let output = file.run(&["setup", "edge"]);
    assert_eq!(out(&output), "sources.edge: ready\n", "{}", err(&output));
    assert_eq!(output.status.code(), Some(0));
}
