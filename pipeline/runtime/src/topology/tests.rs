#![allow(clippy::unwrap_used)]

use super::*;
use rollcall_model::GateMode;

const EXAMPLE: &str = r#"
rollcall: 1
log:      { type: embedded, path: ./data, partitions: 8 }
sources:
  core:   { type: postgres, platform: flagsmith, url: ${CORE_URL}, slot: rollcall, publication: rollcall }
gates:    { default: on, organisations: { 17: off, 23: exclude } }
sinks:
  clickhouse: { url: embedded, database: default, preset: flagsmith, flush_age_ms: 1000, flush_rows: 100000 }
  counts:     { url: "postgres://rollcall:${PASSWORD}@db.example:5432/flags", preset: flagsmith, flush_age_ms: 20 }
http:     { listen: 127.0.0.1:8080 }
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "CORE_URL" => Some("postgres://reader:hunter2@db.example/flags?sslmode=require".to_owned()),
        "PASSWORD" => Some("hunter2".to_owned()),
        "TOKEN" => Some("t0ps3cret".to_owned()),
        "NUMBER" => Some("16".to_owned()),
        "EVIL" => Some("a, slot: other }".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Topology, Vec<ConfigFault>> {
    Topology::parse(text, &env)
}

fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err("has faults").iter().map(ToString::to_string).collect()
}

/// The example with one line put in place of another.
fn with(old: &str, new: &str) -> String {
    assert!(EXAMPLE.contains(old), "{old}");
    EXAMPLE.replace(old, new)
}

#[test]
fn the_example_of_the_design_is_read_whole() {
    let topology = parse(EXAMPLE).unwrap();
    let LogConfig::Embedded(log) = &topology.log else { panic!("embedded") };
    assert_eq!((log.path.to_str(), log.partitions), (Some("./data"), 8));
    assert_eq!(log.tombstone_retention_days, 36);
    let SourceConfig::Postgres(source) = &topology.sources[&"core".into()] else { panic!("postgres") };
    assert_eq!(source.url.expose(), "postgres://reader:hunter2@db.example/flags?sslmode=require");
    assert_eq!(
        (source.slot.as_str(), source.schema.as_str(), source.page_rows),
        ("rollcall", "public", 1_000)
    );
    assert_eq!(topology.gates.default, GateMode::On);
    assert_eq!(topology.gates.organisations[&"17".into()], GateMode::Off);
    assert_eq!(topology.gates.organisations[&"23".into()], GateMode::Exclude);
    let SinkConfig::ClickHouse(sink) = &topology.sinks["clickhouse"] else { panic!("a clickhouse sink") };
    assert_eq!((&sink.url, sink.preset), (&ClickHouseUrl::Embedded, Preset::Flagsmith));
    let SinkConfig::Counts(sink) = &topology.sinks["counts"] else { panic!("a counts sink") };
    assert_eq!(sink.url.expose(), "postgres://rollcall:hunter2@db.example:5432/flags");
    assert_eq!(sink.flush_age_ms, 20);
    assert_eq!(topology.http.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?}", parse(&with("8080 }", "8080, token: ${TOKEN} }")).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("t0ps3cret"), "{shown}");
    let secret = Secret::new("postgres://a:b@db.example:5432/flags?password=c");
    assert_eq!(secret.public_url().as_deref(), Some("postgres://db.example:5432/flags"));
}

#[test]
fn every_fault_is_reported_at_once_with_line_and_column() {
    let text = r#"
rollcall: 2
log:
  type: embedded
  partitons: 8
  retention_ms: soon
sources:
  core: { type: postgres, platform: flagsmth, url: ${NOT_SET}, slot: "Roll Call", page_rows: 0 }
gates: { organisations: { 17: maybe } }
sinks:
  lake: { type: parket }
  counts: { url: "postgres://rollcall:hunter2@db.example/flags" }
http: { listen: 0.0.0.0:8080 }
extra: 1
"#;
    let expected = [
        "2:11: rollcall: '2' is out of range: 1 to 1",
        "3:1: log.path: 'path' is missing\n  repair: Folder of the log and the rosters' stores; a relative one \
         starts at the folder of this file.",
        "5:3: log.partitons: unknown key 'partitons'\n  repair: did you mean 'partitions'?",
        "6:17: log.retention_ms: expected a whole number, found 'soon'",
        "8:37: sources.core.platform: expected flagsmith, found 'flagsmth'\n  repair: did you mean 'flagsmith'?",
        "8:52: sources.core.url: the variable NOT_SET is not set\n  repair: export NOT_SET=…",
        "8:70: sources.core.slot: expected a name of at most 63 lower case letters, digits and underscores, no digit \
         first, found 'Roll Call'",
        "8:94: sources.core.page_rows: '0' is out of range: 1 to 1000000",
        "9:31: gates.organisations.17: expected on or off or exclude, found 'maybe'",
        "11:17: sinks.lake.type: unknown type 'parket'\n  repair: did you mean 'parquet'?",
        "12:18: sinks.counts.url: a password stands in the URL in clear\n  repair: put it in an environment variable: \
         …://user:${PASSWORD}@host… or the whole URL: ${URL}",
        "13:1: http.token: is required: http.listen 0.0.0.0:8080 is reachable from elsewhere and shows personal \
         data\n  repair: token: ${ROLLCALL_TOKEN}, or listen on 127.0.0.1",
        "14:1: extra: unknown key 'extra'\n  repair: use one of: rollcall, log, sources, gates, sinks, http",
    ];
    assert_eq!(faults(text), expected);
    assert!(!faults(text).join("").contains("hunter2"));
}

#[test]
fn what_is_missing_is_named() {
    let found = faults("log: { type: embedded, path: d }");
    assert!(found[0].starts_with("1:1: rollcall: 'rollcall' is missing"), "{found:?}");
    assert!(found[1].starts_with("1:1: sources: 'sources' is missing"), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(faults("")[0].starts_with("1:1: the file is empty"));
    assert!(faults("# nothing but a comment\n")[0].starts_with("1:1: the file is empty"));
    assert!(faults("[1, 2]")[0].starts_with("1:1: expected keys and values, found a list"));
    let no_source = with(
        "core:   { type: postgres, platform: flagsmith, url: ${CORE_URL}, slot: rollcall, publication: rollcall }",
        "",
    );
    assert!(faults(&no_source)[0].contains("there is no source"), "{:?}", faults(&no_source));
}

#[test]
fn broken_yaml_says_where() {
    let found = faults("rollcall: 1\nlog: { type: embedded, path: [ }\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("2:") && found[0].contains("not YAML"), "{found:?}");
    let deep = faults(&format!("{}1{}", "{a: ".repeat(100), "}".repeat(100)));
    assert!(deep.len() == 1 && deep[0].contains("nested deeper"), "{deep:?}");
    let alias = faults(&with("./data", "&here ./data").replace("http:     {", "http: *here #"));
    assert!(alias[0].contains("expected keys and values, found a YAML alias"), "{alias:?}");
}

#[test]
fn a_key_stands_once() {
    let found = faults(&with("http:     {", "http: { listen: 127.0.0.1:1 }\nhttp: {"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("http: stands here a second time; first on line 10"), "{found:?}");
}

#[test]
fn variables_are_values_never_yaml() {
    let found = faults(&with("slot: rollcall", "slot: ${EVIL}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("sources.core.slot") && found[0].contains("the variable's value"), "{found:?}");
    let LogConfig::Embedded(log) = parse(&with("partitions: 8", "partitions: ${NUMBER}")).unwrap().log else {
        panic!("embedded")
    };
    assert_eq!(log.partitions, 16);
    assert!(faults(&with("./data", "'${not a name}'"))[0].contains("'${' starts a variable"));
}

#[test]
fn columns_after_a_variable_stay_what_they_are() {
    let text = with("slot: rollcall", "slot: BAD");
    let fault = parse(&text).expect_err("a fault").remove(0);
    let line = text.lines().nth(fault.line - 1).unwrap();
    assert!(line.chars().skip(fault.column - 1).collect::<String>().starts_with("BAD"), "{fault}");
}

#[test]
fn gates_may_be_written_as_booleans() {
    let topology =
        parse(&with("default: on, organisations: { 17: off", "default: false, organisations: { 17: true"))
            .unwrap();
    assert_eq!(topology.gates.default, GateMode::Off);
    assert_eq!(topology.gates.organisations[&"17".into()], GateMode::On);
}

#[test]
fn a_password_written_anywhere_in_a_url_is_a_fault() {
    for url in [
        "postgres://u:secret@h/db",
        "postgres://u:${PASSWORD}x@h/db",
        "postgres://u:se/cret@h/db",
        "postgres://h/db?user=u&password=secret",
        "postgres://u@h/db?sslpassword=secret",
    ] {
        let found = faults(&with("url: ${CORE_URL}", &format!("url: '{url}'")));
        assert!(
            found.len() == 1 && found[0].contains("a password stands in the URL in clear"),
            "{url}: {found:?}"
        );
    }
    for url in [
        "postgres://u@h/db",
        "postgres://u:${PASSWORD}@h/db",
        "postgresql:///db?host=/tmp&password=${PASSWORD}",
    ] {
        assert!(parse(&with("url: ${CORE_URL}", &format!("url: '{url}'"))).is_ok(), "{url}");
    }
    let token = faults(&with("8080 }", "8080, token: abc }"));
    assert!(
        token[0].contains("a secret does not stand in the file") && !token[0].contains("abc"),
        "{token:?}"
    );
}

#[test]
fn a_sink_whose_name_says_its_type_needs_none() {
    let found = faults(&with("  counts:  ", "  totals:  "));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("sinks.totals.type: 'type' is missing"), "{found:?}");
    assert!(parse(&with("  counts:     {", "  totals: { type: counts, ")).is_ok());
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_unknown_keys() {
    let schema = json_schema();
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let mut good = serde_json::json!({
        "rollcall": 1,
        "log": {"type": "embedded", "path": "./data", "partitions": 8},
        "sources": {"core": {"type": "postgres", "platform": "flagsmith", "url": "${CORE_URL}"}},
        "gates": {"default": "on", "organisations": {"17": false}},
        "sinks": {"clickhouse": {"url": "embedded"}, "counts": {"url": "postgres://u:${P}@h/d", "flush_age_ms": 20}},
        "http": {"listen": "127.0.0.1:8080", "token": "${TOKEN}"},
    });
    assert!(validator.is_valid(&good), "{:?}", validator.iter_errors(&good).collect::<Vec<_>>());
    good["log"]["partitons"] = 8.into();
    assert!(!validator.is_valid(&good));
    // Every key of every section is documented.
    assert_eq!(
        schema["properties"]["sinks"]["properties"]["clickhouse"]["properties"]["flush_age_ms"]["default"],
        1000
    );
    let text = schema.to_string();
    assert!(!text.contains(r#""description":"""#), "{text}");
}

#[test]
fn agreements_differ_only_in_what_workers_share() {
    let old = Agreement::of(&parse(EXAMPLE).unwrap());
    let tuned = Agreement::of(
        &parse(&with("flush_rows: 100000", "flush_rows: 7").replace("./data", "/elsewhere")).unwrap(),
    );
    assert_eq!(old.fingerprint().unwrap(), tuned.fingerprint().unwrap());
    assert_eq!(old.differences(&tuned), []);
    let round: Agreement = serde_json::from_str(&old.canonical_json().unwrap()).unwrap();
    assert_eq!(round, old);

    let text = with("partitions: 8", "partitions: 16")
        .replace("17: off", "17: on")
        .replace("  counts:  ", "  totals: ");
    let new = Agreement::of(
        &parse(&text.replace("url: \"postgres://rollcall", "type: counts, url: \"postgres://rollcall"))
            .unwrap(),
    );
    assert_ne!(old.fingerprint().unwrap(), new.fingerprint().unwrap());
    let lines: Vec<String> = old
        .differences(&new)
        .into_iter()
        .map(|d| format!("{}{}", d.line, d.refused.map_or("", |_| " REFUSED")))
        .collect();
    assert_eq!(
        lines,
        [
            "log.partitions: 8 → 16 REFUSED",
            "sinks.counts: removed; its tables stay as they are",
            "sinks.totals: added, counts; it is filled from the log",
            "gates.organisations.17: off → on; its identities are judged by a fill; those excluded before come back by \
             a backfill",
        ]
    );
}

#[test]
fn a_clickhouse_server_has_its_login_in_keys_of_its_own() {
    let sink = |keys: &str| with("url: embedded, database: default", keys);
    let SinkConfig::ClickHouse(config) =
        &parse(&sink("url: 'https://ch.example:8443', user: rollcall, password: ${PASSWORD}")).unwrap().sinks
            ["clickhouse"]
    else {
        panic!("a clickhouse sink")
    };
    assert_eq!(config.password.as_ref().map(Secret::expose), Some("hunter2"));
    for (keys, what) in [
        ("url: 'http://u:${PASSWORD}@ch.example:8123'", "user and password have keys of their own"),
        ("url: 'http://ch.example:8123', password: ${PASSWORD}", "'user' is missing"),
        ("url: 'http://ch.example:8123', listen: 127.0.0.1:8123", "is of the embedded engine"),
        ("url: embedded, listen: 0.0.0.0:8123", "user and password are required"),
        ("url: 'ftp://ch.example'", "expected a URL that starts with 'embedded', http:// or https://"),
    ] {
        let found = faults(&sink(keys));
        assert!(found.len() == 1 && found[0].contains(what), "{keys}: {found:?}");
    }
}

#[test]
fn a_command_that_asks_needs_only_where() {
    let text = with("8080 }", "9090, token: ${TOKEN} }").replace("CORE_URL", "NOT_SET");
    let http = Topology::parse_http(&text, &env).unwrap();
    assert_eq!(http.listen.port(), 9090);
    assert_eq!(http.token.as_ref().map(Secret::expose), Some("t0ps3cret"));
    assert!(Topology::parse_http(&text.replace("TOKEN", "NOT_SET"), &env).is_err());
}

#[test]
fn the_examples_that_people_copy_have_no_faults() {
    parse(include_str!("../../../../topology.yaml")).unwrap();
    let readme = include_str!("../../../../README.md");
    let example = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    parse(example).unwrap();
}
