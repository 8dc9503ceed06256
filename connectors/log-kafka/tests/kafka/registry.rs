//! Public topics in Avro, with a schema registry beside the brokers.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rollcall_kit::{Failure, RegistryDouble, samples};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, FaultKind, Log, Record, Topic};
use rollcall_schema_registry::RegistryConfig;
use rollcall_test_servers::free_port;
use serde_json::Value;

use crate::support::{
    LONG, at, commit_of, config, fails, kafka, limit, ok, prefix, progress, raw_producer, raw_records,
    read_from, record,
};

fn in_avro(config: &KafkaLogConfig, url: &str) -> KafkaLogConfig {
    KafkaLogConfig { schema_registry: Some(RegistryConfig::new(url)), ..config.clone() }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn public_records() -> Vec<Record> {
    let records = samples::public_records().into_iter();
    records.map(|(topic, key, value)| Record { value: Some(value), ..record(topic, 0, &key, None) }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_topics_are_avro_on_the_wire_and_json_here() {
    let kafka = kafka();
    let registry = RegistryDouble::start().await.expect("a registry");
    let topic_settings = [("max.message.bytes".to_owned(), "100000".to_owned())].into();
    let base = KafkaLogConfig { topic_settings, ..config(&kafka.brokers(), &prefix(), 1) };
    let log = ok(KafkaLog::open(in_avro(&base, registry.url())).await);
    let mut writer = ok(log.open("roster/0").await).producer;
    let mut large = samples::memberships().swap_remove(0);
    large.identifier = "é".repeat(200_000);
    let mut records = public_records();
    records.push(Record {
        value: Some(serde_json::to_vec(&large).expect("JSON")),
        ..record(Topic::Memberships, 0, "core/large", None)
    });
    records.push(record(Topic::Memberships, 0, "core/gone", None));
    records.push(record(Topic::IdentityChanges, 0, "control/check", Some("{\"internal\": 1}")));
    ok(writer.commit(Commit { records: records.clone(), progress: progress(1) }).await);
    let topics: std::collections::BTreeSet<Topic> = records.iter().map(|record| record.topic).collect();
    assert_eq!(topics.len(), 7);
    for topic in topics {
        let written: Vec<_> = records.iter().filter(|record| record.topic == topic).collect();
        let read = read_from(&log, topic, 0, 0).await;
        assert_eq!(read.len(), written.len());
        for (one, record) in read.iter().zip(written) {
            assert_eq!(one.record.key, record.key);
            assert_eq!(one.record.value.as_deref().map(json), record.value.as_deref().map(json));
        }
        let name = format!("{}.{}", base.prefix, topic.name());
        let raw = raw_records(&base.brokers, &name, 0);
        // What stands last of a record in pieces is the end of its Avro.
        let whole = raw.iter().filter(|one| !one.headers.contains_key("rollcall-pieces"));
        let whole = whole.filter(|one| one.headers.get("rollcall-piece").is_none_or(|p| p.ends_with("/0")));
        let first = if topic == Topic::IdentityChanges { b'{' } else { 0 };
        for one in whole {
            assert!(one.value.as_ref().is_none_or(|value| value[0] == first), "{} {}", name, one.key);
        }
        if topic == Topic::Memberships {
            assert!(raw.iter().filter(|one| one.headers.contains_key("rollcall-piece")).count() >= 4);
        }
    }
    assert!(registry.subjects().contains(&format!("{}.memberships-value", base.prefix)));

    // Turned off again: what is there can't be read, however often it is tried.
    let off = ok(KafkaLog::open(base.clone()).await);
    let mut consumer = ok(off.consumer(at(Topic::Memberships, 0, 0)).await);
    for _ in 0..2 {
        let refused = consumer.poll(limit(LONG)).await;
        fails(refused, FaultKind::Config, &["memberships/0", "Avro"], &["log.schema_registry"]);
    }
    assert_eq!(ok(off.open("roster/0").await).progress, progress(1), "internal topics are JSON");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_json_turned_to_avro_reads_both() {
    let kafka = kafka();
    let registry = RegistryDouble::start().await.expect("a registry");
    let base = config(&kafka.brokers(), &prefix(), 1);
    let records: Vec<_> =
        public_records().into_iter().filter(|record| record.topic == Topic::MembershipChanges).collect();
    let mut expected = Vec::new();
    for config in [base.clone(), in_avro(&base, registry.url())] {
        let log = ok(KafkaLog::open(config).await);
        let mut writer = ok(log.open("roster/0").await).producer;
        ok(writer.commit(commit_of(records.clone())).await);
        expected.extend(records.iter().map(|record| record.value.as_deref().map(json)));
    }
    let name = format!("{}.membership-changes", base.prefix);
    let log = ok(KafkaLog::open(in_avro(&base, registry.url())).await);
    let read = read_from(&log, Topic::MembershipChanges, 0, 0).await;
    let read: Vec<_> = read.iter().map(|one| one.record.value.as_deref().map(json)).collect();
    assert_eq!(read, expected);
    let firsts: Vec<_> = raw_records(&base.brokers, &name, 0)
        .iter()
        .filter_map(|one| one.value.as_ref().map(|value| value[0]))
        .collect();
    let half = records.len();
    assert!(
        firsts[..half].iter().all(|b| *b == b'{') && firsts[half..].iter().all(|b| *b == 0),
        "{firsts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_does_not_answer() {
    let kafka = kafka();
    let base = config(&kafka.brokers(), &prefix(), 1);
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let refused = KafkaLog::open(in_avro(&base, &nowhere)).await;
    fails(refused, FaultKind::Retry, &[&nowhere], &["start the schema registry", &nowhere]);
    let registry = RegistryDouble::start().await.expect("a registry");
    registry.fail(Some(Failure::Unauthorized));
    let refused = KafkaLog::open(in_avro(&base, registry.url())).await;
    fails(refused, FaultKind::Config, &[registry.url()], &["password"]);
    registry.fail(None);

    // A schema that isn't known yet is asked for while reading: the reader waits for the registry, and misses nothing.
    let log = ok(KafkaLog::open(in_avro(&base, registry.url())).await);
    let mut writer = ok(log.open("roster/0").await).producer;
    ok(writer.commit(commit_of(public_records())).await);
    let name = format!("{}.membership-changes", base.prefix);
    let producer = raw_producer(&base.brokers);
    let headers = OwnedHeaders::new().insert(Header { key: "rollcall-task", value: Some("roster/0") });
    let unknown = BaseRecord::to(&name).partition(0).key("core/1").payload(&[0, 0, 0, 9, 9, 1][..]);
    producer.send(unknown.headers(headers)).map_err(|(e, _)| e).expect("sent");
    producer.flush(LONG).expect("delivered");
    let mut consumer = ok(log.consumer(at(Topic::MembershipChanges, 0, 0)).await);
    registry.fail(Some(Failure::Broken));
    let mut before: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let fault = loop {
        match consumer.poll(rollcall_model::log::PollLimit { records_max: 1, ..limit(LONG) }).await {
            Ok(fetched) => {
                fetched.into_iter().for_each(|one| *before.entry(one.record.key).or_default() += 1)
            }
            Err(fault) => break fault,
        }
    };
    let of_topic = public_records().iter().filter(|r| r.topic == Topic::MembershipChanges).count();
    assert_eq!(before.values().sum::<usize>(), of_topic);
    fails::<()>(Err(fault), FaultKind::Retry, &[registry.url()], &["wait"]);
    registry.fail(None);
    let says = &["no schema 2313"];
    fails(consumer.poll(limit(LONG)).await, FaultKind::Refused, says, &["log.schema_registry"]);
}
