//! The section `log` of type kafka.
#![allow(clippy::unwrap_used)]

use super::*;

const EXAMPLE: &str = r#"
rollcall: 1
log:
  type: kafka
  brokers: a:9092,b:9092
  prefix: rollcall
  partitions: 64
  replication_factor: 3
  min_insync_replicas: 2
  tls: { ca_file: ca.pem }
  sasl: { mechanism: scram-sha-512, user: rollcall, password: "${PASSWORD}" }
  schema_registry: { url: "http://registry:8081" }
  client: { compression.type: zstd, linger.ms: 5 }
  topic_settings: { max.message.bytes: 4194304 }
sources:
  core: { type: postgres, platform: flagsmith, url: "${CORE_URL}" }
sinks:
  clickhouse: { url: "http://clickhouse:8123" }
  counts: { url: "${CORE_URL}" }
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "CORE_URL" => Some("postgres://reader:hunter2@db.example/flags".to_owned()),
        "PASSWORD" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn faults(old: &str, new: &str) -> String {
    assert!(EXAMPLE.contains(old), "{old}");
    let faults = Topology::parse(&EXAMPLE.replace(old, new), &env).expect_err("has faults");
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

fn kafka(text: &str) -> KafkaLogConfig {
    let LogConfig::Kafka(log) = Topology::parse(text, &env).unwrap().log else { panic!("kafka") };
    *log
}

#[test]
fn it_is_read_whole_and_shows_no_secret() {
    let log = kafka(EXAMPLE);
    assert_eq!((log.keys.partitions, log.keys.prefix.as_str()), (64, "rollcall"));
    assert_eq!(log.client["linger.ms"], "5");
    assert_eq!(log.topic_settings["max.message.bytes"], "4194304");
    assert_eq!(log.sasl.as_ref().unwrap().password.expose(), "hunter2");
    assert!(!format!("{log:?}").contains("hunter2"));
    let least = "rollcall: 1\nlog: { type: kafka, brokers: \"a:9092\" }\nsources: { core: { type: postgres, \
                 platform: flagsmith, url: \"${CORE_URL}\" } }\n";
    let log = kafka(least);
    assert_eq!((log.keys.replication_factor, log.keys.min_insync_replicas), (3, 2));
    assert_eq!((log.tls, log.sasl, log.schema_registry), (None, None, None));
    let rooted = Topology::parse(EXAMPLE, &env).unwrap().rooted_at(Path::new("/etc/rollcall"));
    let LogConfig::Kafka(log) = rooted.log else { panic!("kafka") };
    assert_eq!(log.tls.unwrap().ca_file.as_deref(), Some("/etc/rollcall/ca.pem"));
    assert_eq!(log.keys.path, Path::new("/etc/rollcall/data"));
}

#[test]
fn what_cannot_be_is_named_where_it_stands() {
    for (old, new, says) in [
        ("brokers: a:9092,b:9092", "broker: a:9092", &["log.broker", "brokers"][..]),
        ("prefix: rollcall", "prefix: \"a b\"", &["log.prefix"]),
        ("min_insync_replicas: 2", "min_insync_replicas: 4", &["log.min_insync_replicas"]),
        ("mechanism: scram-sha-512", "mechanism: gssapi", &["log.sasl.mechanism"]),
        ("mechanism: scram-sha-512", "mechanism: oauthbearer", &["log.sasl.token_url"]),
        ("password: \"${PASSWORD}\"", "password: hunter3", &["log.sasl.password", "environment variable"]),
        ("ca_file: ca.pem", "cafile: ca.pem", &["log.tls.cafile", "ca_file"]),
        ("http://registry:8081", "registry:8081", &["log.schema_registry.url"]),
        ("linger.ms: 5", "linger.ms: [5]", &["log.client.linger.ms"]),
        ("url: \"http://clickhouse:8123\"", "url: embedded", &["sinks.clickhouse.url", "ClickHouse server"]),
    ] {
        let found = faults(old, new);
        for word in says {
            assert!(found.contains(word), "'{word}' is not in: {found}");
        }
        assert!(!found.contains("hunter"), "{found}");
    }
}

#[test]
fn a_key_that_stands_twice_is_one_fault() {
    let found = faults("  prefix: rollcall\n", "  prefix: rollcall\n  prefix: other\n");
    assert_eq!(found.matches("a second time").count(), 1, "{found}");
}

#[test]
fn workers_that_share_a_log_mean_the_same_databases() {
    let agreement = |text: &str| Agreement::of(&Topology::parse(text, &env).unwrap());
    let here = agreement(EXAMPLE);
    assert!(!here.canonical_json().unwrap().contains("hunter2"));
    let there = agreement(&EXAMPLE.replace("http://clickhouse:8123", "http://other:8123"));
    let lines: Vec<_> = here.differences(&there).into_iter().map(|d| (d.key, d.refused)).collect();
    assert_eq!(lines, [("sinks.clickhouse".to_owned(), None)]);
    // One that moved here from a log of its own says where it is for the first time.
    let alone = EXAMPLE
        .replace("type: kafka\n  brokers: a:9092,b:9092\n  prefix: rollcall", "type: embedded\n  path: d");
    let cut: String = alone
        .lines()
        .filter(|line| {
            !["replic", "tls:", "sasl:", "schema_reg", "client:", "topic_set"]
                .iter()
                .any(|w| line.contains(w))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(agreement(&cut).differences(&here), Vec::new());
}

#[test]
fn the_schema_takes_it_and_refuses_unknown_keys() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let file = |log: serde_json::Value| {
        serde_json::json!({"rollcall": 1, "log": log, "sources": {"core": {
        "type": "postgres", "platform": "flagsmith", "url": "${CORE_URL}"}}})
    };
    let good =
        serde_json::json!({"type": "kafka", "brokers": "a:9092", "tls": {}, "client": {"linger.ms": 5}});
    let errors: Vec<_> = schema.iter_errors(&file(good.clone())).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    let mut unknown = good;
    unknown["broker"] = "a:9092".into();
    assert!(!schema.is_valid(&file(unknown)));
}
