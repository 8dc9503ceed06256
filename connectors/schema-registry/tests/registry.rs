//! What the codec asks of a registry, and what it says when it doesn't get it. Against a double: see its documentation
//! for what that shows.
#![allow(clippy::unwrap_used)]

use rollcall_kit::{Failure, RegistryDouble, samples};
use rollcall_model::{FaultKind, Topic};
use rollcall_schema_registry::{AvroCodec, RegistryConfig, SCHEMAS_LEARNED_MAX};
use serde_json::{Value as Json, json};

const MEMBERSHIPS: &str = include_str!("../../../schemas/avro/memberships.v1.avsc");

async fn connect(registry: &RegistryDouble) -> Result<AvroCodec, rollcall_model::Fault> {
    AvroCodec::connect(RegistryConfig::new(registry.url()), "rollcall").await
}

#[tokio::test]
async fn every_schema_is_registered_once_under_its_subject() {
    let registry = RegistryDouble::start().await.unwrap();
    connect(&registry).await.unwrap();
    let subjects = [
        "rollcall.catalog-value",
        "rollcall.identities-value",
        "rollcall.membership-changes-rollcall.CheckPassed",
        "rollcall.membership-changes-value",
        "rollcall.memberships-value",
        "rollcall.quarantine-value",
        "rollcall.segment-counts-rollcall.CheckPassed",
        "rollcall.segment-counts-rollcall.Watermark",
        "rollcall.segment-counts-value",
    ];
    assert_eq!(registry.subjects(), subjects);
    assert_eq!(registry.authorization(), None);
    drop(registry.requests());
    // The second worker only asks; it needs no right to write.
    registry.fail(Some(Failure::ReadOnly));
    connect(&registry).await.unwrap();
    let requests = registry.requests();
    assert_eq!(requests.len(), subjects.len());
    assert!(requests.iter().all(|request| !request.ends_with("/versions")), "{requests:?}");
}

#[tokio::test]
async fn user_and_password_are_sent_and_never_shown() {
    let registry = RegistryDouble::start().await.unwrap();
    let config = RegistryConfig {
        user: Some("key".to_owned()),
        password: Some("hunter2".to_owned()),
        ..RegistryConfig::new(registry.url())
    };
    let codec = AvroCodec::connect(config.clone(), "rollcall").await.unwrap();
    assert_eq!(registry.authorization().as_deref(), Some("Basic a2V5Omh1bnRlcjI="));
    registry.fail(Some(Failure::Unauthorized));
    let fault = AvroCodec::connect(config, "rollcall").await.unwrap_err();
    for text in [format!("{codec:?}"), format!("{fault}"), format!("{fault:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("a2V5"), "{text}");
    }
}

#[tokio::test]
async fn each_failure_says_what_to_do() {
    let registry = RegistryDouble::start().await.unwrap();
    let subject = "rollcall.identities-value";
    for (failure, kind, words) in [
        (Failure::Unauthorized, FaultKind::Config, "check user and password"),
        (Failure::ReadOnly, FaultKind::Config, "grant the user"),
        (Failure::Conflict, FaultKind::Refused, subject),
        (Failure::Conflict, FaultKind::Refused, "another log prefix"),
        (Failure::Broken, FaultKind::Retry, "Error in the backend data store"),
        (Failure::AnotherServer, FaultKind::Config, "does not answer as a schema registry"),
        (Failure::Hangs, FaultKind::Retry, "did not answer in 50 ms"),
    ] {
        registry.fail(Some(failure));
        let config = RegistryConfig { timeout_ms: 50, ..RegistryConfig::new(registry.url()) };
        // Only the hanging one is meant to run into its bound.
        let config = if failure == Failure::Hangs { config } else { RegistryConfig::new(registry.url()) };
        let fault = AvroCodec::connect(config, "rollcall").await.unwrap_err();
        assert_eq!(fault.kind, kind, "{failure:?}: {fault}");
        assert!(fault.repair.is_some(), "{failure:?}");
        assert!(fault.to_string().contains(words), "{failure:?}: {fault}");
        assert!(fault.to_string().contains(registry.url()), "{failure:?}: {fault}");
    }
    registry.fail(None);
    connect(&registry).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_down_is_tried_again() {
    let registry = RegistryDouble::start().await.unwrap();
    let url = registry.url().to_owned();
    drop(registry);
    // The port is free once the server's task is gone.
    while std::net::TcpStream::connect(url.trim_start_matches("http://")).is_ok() {
        tokio::task::yield_now().await;
    }
    let fault = AvroCodec::connect(RegistryConfig::new(&url), "rollcall").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert!(fault.to_string().contains(&url), "{fault}");
}

#[tokio::test]
async fn https_is_spoken_to_https() {
    // The double speaks none: what can be seen here is that the handshake is tried and its end is no panic.
    let registry = RegistryDouble::start().await.unwrap();
    let config = RegistryConfig::new(registry.url().replace("http:", "https:"));
    let fault = AvroCodec::connect(config, "rollcall").await.unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Retry | FaultKind::Config), "{fault}");
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_subject_of_another_program_is_refused() {
    let registry = RegistryDouble::start().await.unwrap();
    registry.put("rollcall.memberships-value", r#""bytes""#);
    let fault = connect(&registry).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("rollcall.memberships-value"), "{fault}");
}

/// The schema of a version to come: a field more, in the middle, and wider where Avro lets one be.
fn later() -> String {
    let mut schema: Json = serde_json::from_str(MEMBERSHIPS).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.insert(2, json!({"name": "expires_us", "type": ["null", "long"], "default": null}));
    fields.push(json!({"name": "colour", "type": "string", "default": "blue"}));
    schema.to_string()
}

#[tokio::test]
async fn what_another_version_wrote_is_read_once_its_schema_is_learned() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = connect(&registry).await.unwrap();
    let id = registry.put("rollcall.memberships-value", &later());
    // Written as a later version would.
    let schema = apache_avro::Schema::parse_str(&later()).unwrap();
    let (_, key, text) =
        samples::public_records().into_iter().find(|(topic, ..)| *topic == Topic::Memberships).unwrap();
    let record: Json = serde_json::from_slice(&text).unwrap();
    let mut value = apache_avro::types::Value::try_from(record.clone()).unwrap();
    if let apache_avro::types::Value::Map(fields) = &mut value {
        fields.insert("expires_us".to_owned(), apache_avro::types::Value::Long(9));
        fields.insert("colour".to_owned(), apache_avro::types::Value::String("red".to_owned()));
    }
    let body = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value_to_vec(value.resolve(&schema).unwrap())
        .unwrap();
    let bytes = [&[0][..], &id.to_be_bytes(), &body].concat();

    assert_eq!(codec.unknown_schema(&bytes), Some(id));
    let fault = codec.decode(Topic::Memberships, key.as_bytes(), bytes.clone()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Bug, "decoding asks nobody");
    codec.learn(id).await.unwrap();
    assert_eq!(codec.unknown_schema(&bytes), None);
    drop(registry.requests());
    for _ in 0..3 {
        let read = codec.decode(Topic::Memberships, key.as_bytes(), bytes.clone()).unwrap();
        assert_eq!(serde_json::from_slice::<Json>(&read).unwrap(), record);
    }
    assert!(registry.requests().is_empty());
    // On another topic it is of no use.
    let fault = codec.decode(Topic::SegmentCounts, b"3/7/1", bytes).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
}

#[tokio::test]
async fn schemas_that_are_none_of_ours_are_not_learned() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = connect(&registry).await.unwrap();
    let list = json!({"type": "record", "name": "L", "fields": [
        {"name": "next", "type": ["null", "L"], "default": null}]});
    for foreign in [list.to_string(), r#""bytes""#.to_owned(), "no schema".to_owned()] {
        let id = registry.put("another", &foreign);
        let fault = codec.learn(id).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    }
    let fault = codec.learn(9_999).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("9999"), "{fault}");
}

#[tokio::test]
async fn tasks_share_one_codec() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let registry = RegistryDouble::start().await.unwrap();
    let connecting = AvroCodec::connect(RegistryConfig::new(registry.url()), "rollcall");
    sent(&connecting);
    let codec = connecting.await.unwrap();
    shared(&codec);
    sent(&codec.learn(1));
}

#[tokio::test]
async fn what_is_learned_is_bounded() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = connect(&registry).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..=SCHEMAS_LEARNED_MAX {
        let schema =
            json!({"type": "record", "name": "R", "fields": [{"name": format!("f{n}"), "type": "long"}]});
        ids.push(registry.put("many", &schema.to_string()));
        codec.learn(ids[n]).await.unwrap();
    }
    let known =
        ids.iter().filter(|id| codec.unknown_schema(&[&[0][..], &id.to_be_bytes()].concat()).is_none());
    assert_eq!(known.count(), 1);
}
