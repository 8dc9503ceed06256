//! Topics and settings that are other than they must be, and what others write: each is refused with what repairs it.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, FaultKind, Log, LogId, Topic};

use crate::support::{
    LONG, add_partitions, alter, at, commit_of, config, delete_topic, fails, kafka, limit, make_topic, ok,
    prefix, progress, raw_producer, read_from, record, shown,
};

fn with(base: &KafkaLogConfig, name: &str, value: &str) -> KafkaLogConfig {
    let client = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    KafkaLogConfig { client, ..base.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_log_that_cannot_be() {
    let kafka = kafka();
    let base = config(&kafka.brokers(), &prefix(), 1);
    let config_fault = |config, says: &'static [&'static str], repair: &'static [&'static str]| async move {
        fails(KafkaLog::open(config).await, FaultKind::Config, says, repair);
    };
    for (name, why) in [
        ("isolation.level", "committed"),
        ("acks", "in-sync"),
        ("request.required.acks", "in-sync"),
        ("transactional.id", "task"),
        ("metadata.broker.list", "log.brokers"),
        ("allow.auto.create.topics", "never made anew"),
    ] {
        let named = format!("log.client.{name}");
        fails(
            KafkaLog::open(with(&base, name, "1")).await,
            FaultKind::Config,
            &[&named, why],
            &["remove", &named],
        );
    }
    config_fault(with(&base, "sasl.password", "x"), &["log.client.sasl.password"], &["log.sasl"]).await;
    config_fault(with(&base, "ssl.ca.location", "x"), &["log.client.ssl.ca.location"], &["log.tls"]).await;
    config_fault(with(&base, "no.such", "1"), &["log.client.no.such"], &["CONFIGURATION.md"]).await;
    config_fault(
        with(&base, "socket.timeout.ms", "soon"),
        &["socket.timeout.ms", "soon"],
        &["CONFIGURATION.md"],
    )
    .await;

    let topics = |name: &str, value: &str| {
        let topic_settings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        KafkaLogConfig { topic_settings, prefix: prefix(), ..base.clone() }
    };
    for name in ["cleanup.policy", "retention.ms", "retention.bytes", "min.insync.replicas"] {
        let named = format!("log.topic_settings.{name}");
        fails(KafkaLog::open(topics(name, "1")).await, FaultKind::Config, &[&named], &["remove", &named]);
    }
    config_fault(topics("no.such", "1"), &["no.such=1"], &["log.topic_settings"]).await;
    config_fault(topics("segment.ms", "soon"), &["segment.ms=soon"], &["log.topic_settings"]).await;
    config_fault(
        topics("max.message.bytes", "1000"),
        &["max.message.bytes=1000"],
        &["kafka-configs.sh", "max.message.bytes=1048588"],
    )
    .await;

    let other = KafkaLogConfig { prefix: prefix(), ..base.clone() };
    let three = KafkaLogConfig { replication_factor: 3, ..other.clone() };
    config_fault(three, &["fewer brokers", "log.replication_factor 3"], &["log.replication_factor"]).await;
    let never = KafkaLogConfig { min_insync_replicas: 2, ..other.clone() };
    config_fault(never, &["log.min_insync_replicas is 2"], &["log.min_insync_replicas", "1 to 1"]).await;
    for bad in ["", "a b", "é", &"x".repeat(240)] {
        let named = KafkaLogConfig { prefix: bad.to_owned(), ..base.clone() };
        fails(KafkaLog::open(named).await, FaultKind::Config, &["log.prefix"], &["log.prefix"]);
    }
    config_fault(KafkaLogConfig { partitions: 0, ..other.clone() }, &["log.partitions"], &["log.partitions"])
        .await;
    // More than the brokers' transaction.max.timeout.ms.
    let long = KafkaLogConfig { transaction_timeout_ms: 900_001, ..other };
    config_fault(long, &["log.transaction_timeout_ms 900001"], &["transaction.max.timeout.ms"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_topics_that_endanger_records() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    drop(ok(KafkaLog::open(config.clone()).await));
    for (topic, key, value, right) in [
        (Topic::IdentityChanges, "retention.ms", "1000", "-1"),
        (Topic::IdentityChanges, "retention.bytes", "1000", "-1"),
        (Topic::MembershipChanges, "cleanup.policy", "compact", "delete"),
        (Topic::Identities, "cleanup.policy", "delete", "compact"),
        (Topic::Progress, "cleanup.policy", "compact,delete", "compact"),
        (Topic::Memberships, "delete.retention.ms", "1000", "3110400000"),
        (Topic::Catalog, "unclean.leader.election.enable", "true", "false"),
        (Topic::Checks, "max.message.bytes", "16383", "1048588"),
    ] {
        alter(&config, topic, &[(key, value)]).await;
        let name = format!("{}.{}", config.prefix, topic.name());
        let says = &[&*name, &*format!("{key}={value}")];
        let repair = &["kafka-configs.sh", &*config.brokers, &name, &*format!("--add-config {key}={right}")];
        fails(KafkaLog::open(config.clone()).await, FaultKind::Config, says, repair);
        alter(&config, topic, &[]).await;
    }
    // Longer than the log's own is fine, and so is what the repairs say.
    alter(&config, Topic::Checks, &[("retention.ms", "604800000")]).await;
    drop(ok(KafkaLog::open(config.clone()).await));
    let two = KafkaLogConfig { replication_factor: 2, ..config };
    fails(
        KafkaLog::open(two).await,
        FaultKind::Config,
        &["has 1 copies", "log.replication_factor is 2"],
        &["kafka-reassign-partitions.sh"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_fixed_with_the_log() {
    let kafka = kafka();
    let two = config(&kafka.brokers(), &prefix(), 2);
    drop(ok(KafkaLog::open(two.clone()).await));
    for partitions in [1, 3] {
        let other = KafkaLogConfig { partitions, ..two.clone() };
        let says = &["identity-changes has 2 partitions", &*format!("the log has {partitions}")];
        fails(
            KafkaLog::open(other).await,
            FaultKind::Refused,
            says,
            &["log.partitions", "rollcall log copy"],
        );
    }
    let quarantine = format!("{}.quarantine", two.prefix);
    add_partitions(&two.brokers, &quarantine, 3).await;
    fails(
        KafkaLog::open(two.clone()).await,
        FaultKind::Refused,
        &[&quarantine, "3 partitions"],
        &["rollcall log copy --from kafka:"],
    );
    let partitioned = Topic::ALL.iter().filter(|t| t.is_partitioned() && **t != Topic::Quarantine);
    for topic in partitioned {
        add_partitions(&two.brokers, &format!("{}.{}", two.prefix, topic.name()), 3).await;
    }
    let three = KafkaLogConfig { partitions: 3, ..two };
    fails(
        KafkaLog::open(three).await,
        FaultKind::Config,
        &["log.partitions is 3", "made with 2"],
        &["log.partitions: 2"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_topic_is_never_made_anew() {
    let kafka = kafka();
    // A topic that isn't there is taken for one that is on its way, by librdkafka's default for 30 s.
    let config = with(&config(&kafka.brokers(), &prefix(), 1), "topic.metadata.propagation.max.ms", "500");
    let name = |topic: Topic| format!("{}.{}", config.prefix, topic.name());
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    let records = vec![record(Topic::Catalog, 0, "a", Some("1")), record(Topic::Checks, 0, "a", Some("1"))];
    ok(writer.commit(commit_of(records)).await);
    let mut consumer = ok(log.consumer(at(Topic::Checks, 0, 0)).await);
    assert_eq!(ok(consumer.poll(limit(LONG)).await).len(), 1);

    delete_topic(&config.brokers, &name(Topic::Checks)).await;
    let repair = &["restore", "log.prefix", "rollcall rebuild"];
    fails(consumer.poll(limit(LONG)).await, FaultKind::Refused, &["no longer there"], repair);
    fails(log.consumer(at(Topic::Checks, 0, 0)).await, FaultKind::Refused, &["checks"], repair);
    drop((writer, log));
    let lost = KafkaLog::open(config.clone()).await;
    fails(lost, FaultKind::Refused, &["has lost", &name(Topic::Checks)], repair);

    // Without its progress a log looks like one that is being made, but for its records.
    make_topic(&config.brokers, &name(Topic::Checks), 1).await;
    delete_topic(&config.brokers, &name(Topic::Progress)).await;
    let lost = KafkaLog::open(config.clone()).await;
    fails(lost, FaultKind::Refused, &["has lost", &name(Topic::Progress)], repair);
}

/// Who stopped half-way through making a log left topics without records: the next one makes the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_half_made_is_made_whole() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    drop(ok(KafkaLog::open(config.clone()).await));
    for topic in [Topic::Checks, Topic::Progress] {
        delete_topic(&config.brokers, &format!("{}.{}", config.prefix, topic.name())).await;
    }
    ok(KafkaLog::open(config).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_goes_where_no_log_is() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let id = LogId("0123".to_owned());
    let copy = ok(KafkaLog::create_copy(config.clone(), id.clone(), 7).await);
    assert_eq!((copy.id(), copy.epoch()), (&id, 7));
    // A copy that broke off goes on; what is another log is left alone.
    let again = ok(KafkaLog::create_copy(config.clone(), id.clone(), 7).await);
    assert_eq!((again.id(), again.epoch()), (&id, 7));
    for (id, epoch) in [(LogId("4567".to_owned()), 7), (id.clone(), 8)] {
        let other = KafkaLog::create_copy(config.clone(), id, epoch).await;
        let says = &["another log (0123 of epoch 7) is there", &*config.prefix, &config.brokers];
        fails(other, FaultKind::Refused, says, &["another prefix", "delete the topics"]);
    }
    drop(copy);
    let opened = ok(KafkaLog::open(config).await);
    assert_eq!((opened.id(), opened.epoch()), (&id, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_its_label_is_not_another_log() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    ok(writer.commit(Commit { progress: progress(1), ..Commit::default() }).await);
    drop((writer, log));
    let producer = raw_producer(&config.brokers);
    let topic = format!("{}.progress", config.prefix);
    let ours = OwnedHeaders::new().insert(Header { key: "rollcall-task", value: Some("log") });
    let gone = BaseRecord::<str, str>::to(&topic).partition(0).key("log").headers(ours);
    producer.send(gone).map_err(|(e, _)| e).expect("sent");
    producer.flush(LONG).expect("delivered");
    let says = &[&*topic, "'source'", "no label"];
    fails(KafkaLog::open(config).await, FaultKind::Refused, says, &["restore", "rollcall rebuild"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_is_told_apart() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let log = ok(KafkaLog::open(config.clone()).await);
    let id = log.id().clone();
    let mut writer = ok(log.open("roster/0").await).producer;
    let topics = [Topic::IdentityChanges, Topic::Catalog];
    let records = topics.map(|topic| record(topic, 0, "ours", Some("1"))).to_vec();
    ok(writer.commit(Commit { records, progress: progress(1) }).await);
    let producer = raw_producer(&config.brokers);
    for topic in ["identity-changes", "catalog", "progress"] {
        let name = format!("{}.{topic}", config.prefix);
        // It says that it is in pieces, and is not: only of ours that is believed.
        let headers = OwnedHeaders::new()
            .insert(Header { key: "rollcall-pieces", value: Some("00/7") })
            .insert(Header { key: "theirs", value: Some(&b"\xff"[..]) });
        for (key, value) in [("roster/0", "{"), ("log", "{}"), ("theirs", "\0\0\0\0\u{1}")] {
            let record = BaseRecord::to(&name).partition(0).key(key).payload(value).headers(headers.clone());
            producer.send(record).map_err(|(e, _)| e).expect("sent");
        }
    }
    producer.flush(LONG).expect("delivered");
    for topic in topics {
        let all = read_from(&log, topic, 0, 0).await;
        assert_eq!(all.iter().map(|one| one.foreign).collect::<Vec<_>>(), [false, true, true, true]);
        assert_eq!(shown(&all)[1], ("roster/0".to_owned(), Some("{".to_owned())));
        let names: Vec<_> = all[1].record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["rollcall-pieces", "theirs"], "as it stands there");
    }
    assert_eq!(ok(log.tasks().await).into_keys().collect::<Vec<_>>(), ["roster/0"]);
    drop((writer, log));
    let log = ok(KafkaLog::open(config).await);
    assert_eq!(*log.id(), id);
    assert_eq!(ok(log.open("roster/0").await).progress, progress(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_not_there() {
    let kafka = kafka();
    let config = KafkaLogConfig { retention_ms: 1, ..config(&kafka.brokers(), &prefix(), 1) };
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    for n in 0..3 {
        ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 0, &n.to_string(), None)])).await);
    }
    assert_eq!(read_from(&log, Topic::IdentityChanges, 0, 0).await.len(), 3);
    ok(log.retain_now(u64::MAX / 2).await);
    let name = format!("{}.identity-changes/0", config.prefix);
    let rebuild = &["rollcall rebuild"];
    let before = log.consumer(at(Topic::IdentityChanges, 0, 1)).await;
    fails(before, FaultKind::Refused, &[&name, "starts at 6", "offset 1", "retention"], rebuild);
    let beyond = log.consumer(at(Topic::IdentityChanges, 0, 7)).await;
    fails(beyond, FaultKind::Refused, &[&name, "offset 7", "ends at 6"], rebuild);
    let mut other = at(Topic::IdentityChanges, 0, 6);
    other.values_mut().for_each(|place| place.epoch = 1);
    fails(log.consumer(other).await, FaultKind::Refused, &[&name, "epoch 1", "epoch 0"], rebuild);
    assert!(log.consumer(at(Topic::IdentityChanges, 0, 6)).await.is_ok());
}
