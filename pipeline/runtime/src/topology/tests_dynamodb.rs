//! Sources of type dynamodb.
#![allow(clippy::unwrap_used)]

use super::*;

const EXAMPLE: &str = r#"
rollcall: 1
log: { type: embedded, path: ./data }
sources:
  core: { type: postgres, platform: flagsmith, url: "${CORE_URL}" }
  edge: { type: dynamodb, platform: flagsmith, table: flagsmith_identities, region: eu-west-2 }
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "CORE_URL" => Some("postgres://reader:hunter2@db.example/flags".to_owned()),
        "KEY" => Some("AKIDEXAMPLE".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn edge(text: &str) -> DynamoDbSourceConfig {
    let topology = Topology::parse(text, &env).unwrap();
    let SourceConfig::DynamoDb(edge) = &topology.sources[&"edge".into()] else { panic!("dynamodb") };
    (**edge).clone()
}

fn with(more: &str) -> String {
    EXAMPLE.replace("region: eu-west-2", &format!("region: eu-west-2, {more}"))
}

fn faults(text: &str) -> String {
    let faults = Topology::parse(text, &env).expect_err("has faults");
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn it_is_read_with_its_defaults_and_shows_no_secret() {
    let least = edge(EXAMPLE);
    assert_eq!(
        (least.table.as_str(), least.region.as_str(), least.readers),
        ("flagsmith_identities", "eu-west-2", 4)
    );
    assert_eq!((least.start.as_str(), least.first_load.as_str()), ("latest", "scan"));
    assert_eq!((least.endpoint, least.read_units_per_s, least.access_key_id), (None, None, None));
    let full = edge(&with(
        "endpoint: \"http://127.0.0.1:8000\", access_key_id: \"${KEY}\", secret_access_key: \"${SECRET}\", readers: 2, \
         start: trim_horizon, first_load: by_hand, read_units_per_s: 500",
    ));
    assert_eq!(full.secret_access_key.as_ref().unwrap().expose(), "hunter2");
    assert_eq!((full.readers, full.read_units_per_s), (2, Some(500)));
    assert!(!format!("{full:?}").contains("hunter2"));
}

#[test]
fn what_does_not_go_together_is_said_at_its_line() {
    for (more, says) in [
        ("access_key_id: \"${KEY}\"", "sources.edge.secret_access_key"),
        ("secret_access_key: \"${SECRET}\"", "sources.edge.access_key_id"),
        (
            "access_key_id: \"${KEY}\", secret_access_key: \"${SECRET}\", profile: prod",
            "sources.edge.profile",
        ),
        ("session_token: \"${SECRET}\"", "sources.edge.session_token"),
        ("idle_poll_ms: 2000", "sources.edge.idle_poll_max_ms"),
        ("idle_poll_ms: 100", "sources.edge.idle_poll_ms"),
        ("start: yesterday", "sources.edge.start"),
        ("secret_access_key: hunter2, access_key_id: \"${KEY}\"", "sources.edge.secret_access_key"),
        ("readers: 0", "sources.edge.readers"),
    ] {
        let said = faults(&with(more));
        assert!(said.contains(says), "{more}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn sources_must_go_together() {
    let alone = EXAMPLE.lines().filter(|line| !line.contains("core:")).collect::<Vec<_>>().join("\n");
    assert!(faults(&alone).contains("has no catalog"));
    let two = EXAMPLE.replace(
        "  edge:",
        "  other: { type: postgres, platform: flagsmith, url: \"${CORE_URL}\" }\n  edge:",
    );
    assert!(faults(&two).contains("writes the catalog already"));
    let edges = EXAMPLE.replace(
        "  edge:",
        "  east: { type: dynamodb, platform: flagsmith, table: t, region: eu-west-1 }\n  edge:",
    );
    assert!(faults(&edges).contains("an environment has one owner"));
}
