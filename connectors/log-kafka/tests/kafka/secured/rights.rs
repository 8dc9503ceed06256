//! Who we are, and what we may: each thing missing is named with what grants it.

use std::time::{Duration, Instant};

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig, SaslConfig, TlsConfig};
use rollcall_model::{FaultKind, Log, Topic, Workers as _};
use rollcall_test_servers::{AclOperation as Op, AclResource as On, Kafka};

use super::secured;
use crate::support::{LONG, at, commit_of, config, fails, limit, ok, prefix, progress, read_from, record};

fn plain(user: &str, password: &str) -> Option<SaslConfig> {
    Some(SaslConfig::Plain { user: user.to_owned(), password: password.to_owned() })
}

fn as_ann(kafka: &Kafka, prefix: &str) -> KafkaLogConfig {
    KafkaLogConfig {
        sasl: plain("ann", "of-ann"),
        request_timeout_ms: 10_000,
        ..config(&kafka.brokers_sasl(), prefix, 2)
    }
}

/// What the repairs tell to grant on topics.
const ON_TOPICS: &[Op] =
    &[Op::Create, Op::Read, Op::Write, Op::Describe, Op::DescribeConfigs, Op::Alter, Op::Delete];

/// All that the repairs tell to grant.
fn grant_all(kafka: &Kafka, prefix: &str, tasks: &[&str]) {
    for operation in ON_TOPICS {
        kafka.allow("ann", On::TopicPrefix(&format!("{prefix}.")), *operation);
    }
    for operation in [Op::Read, Op::Describe] {
        kafka.allow("ann", On::Group(&format!("{prefix}.workers")), operation);
    }
    for task in tasks {
        grant_task(kafka, prefix, task);
    }
}

fn grant_task(kafka: &Kafka, prefix: &str, task: &str) {
    for operation in [Op::Write, Op::Describe] {
        kafka.allow("ann", On::TransactionalId(&format!("{prefix}.{task}")), operation);
    }
}

fn take(kafka: &Kafka, prefix: &str, operation: Op) {
    kafka.disallow("ann", On::TopicPrefix(&format!("{prefix}.")), operation);
}

pub(super) async fn who_we_are_is_refused() {
    let kafka = secured();
    let prefix = prefix();
    let good = KafkaLogConfig { request_timeout_ms: 1_500, ..as_ann(&kafka, &prefix) };
    let started = Instant::now();
    let wrong = KafkaLogConfig { sasl: plain("ann", "wrong"), ..good.clone() };
    let says = &["refused who we say we are", &*kafka.brokers_sasl()];
    fails(KafkaLog::open(wrong).await, FaultKind::Config, says, &["log.sasl", "password"]);
    let scram = |sha_512, password: &str| {
        let (user, password) = ("ann".to_owned(), password.to_owned());
        KafkaLogConfig { sasl: Some(SaslConfig::Scram { sha_512, user, password }), ..good.clone() }
    };
    let wrong = scram(false, "wrong");
    fails(KafkaLog::open(wrong).await, FaultKind::Config, says, &["log.sasl", "password"]);
    let unknown = scram(true, "of-ann");
    fails(KafkaLog::open(unknown).await, FaultKind::Config, &["SCRAM-SHA-512"], &["log.sasl", "mechanism"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    // Nothing is said of who we are: brokers just hang up, while we wait or while we speak.
    let nobody = KafkaLogConfig { sasl: None, ..good.clone() };
    let fault = KafkaLog::open(nobody).await.expect_err("they hang up");
    let hung_up =
        ["connection closed by peer", "Broken pipe"].iter().any(|word| fault.message().contains(word));
    assert!(hung_up, "{fault}");
    fails::<()>(Err(fault), FaultKind::Retry, &["can't reach the brokers"], &["log.sasl"]);
    // The right password, by the other mechanism, and nothing is granted.
    let nothing = scram(false, "of-ann");
    fails(KafkaLog::open(nothing).await, FaultKind::Config, &[&prefix], &["kafka-acls.sh", "--topic"]);
}

pub(super) async fn an_authority_that_did_not_sign_is_named() {
    let kafka = secured();
    let tls = |ca: Option<String>| KafkaLogConfig {
        tls: Some(TlsConfig { ca_file: ca, ..TlsConfig::default() }),
        request_timeout_ms: 1_500,
        ..config(&kafka.brokers_tls(), &prefix(), 1)
    };
    let wrong = KafkaLog::open(tls(None)).await;
    fails(wrong, FaultKind::Config, &["TLS", &kafka.brokers_tls(), "certificate"], &["log.tls.ca_file"]);
    let nowhere = KafkaLog::open(tls(Some("/nowhere/ca.pem".to_owned()))).await;
    fails(nowhere, FaultKind::Config, &["/nowhere/ca.pem"], &["log.tls"]);
    let to_plain = KafkaLogConfig { brokers: kafka.brokers(), ..tls(None) };
    fails(KafkaLog::open(to_plain).await, FaultKind::Retry, &["SSL connection closed by peer"], &["log.tls"]);
    let from_plain = KafkaLogConfig { tls: None, ..tls(None) };
    fails(KafkaLog::open(from_plain).await, FaultKind::Retry, &["connection closed by peer"], &["log.tls"]);
    let trusted =
        KafkaLogConfig { request_timeout_ms: 10_000, ..tls(Some(kafka.ca_path().display().to_string())) };
    let log = ok(KafkaLog::open(trusted).await);
    let mut writer = ok(log.open("source").await).producer;
    ok(writer.commit(commit_of(vec![record(Topic::Catalog, 0, "a", Some("1"))])).await);
}

pub(super) async fn each_right_that_is_missing_is_named() {
    let kafka = secured();
    let prefix = prefix();
    let good = as_ann(&kafka, &prefix);
    grant_all(&kafka, &prefix, &["source"]);
    let one = || commit_of(vec![record(Topic::Catalog, 0, "a", Some("1"))]);
    let topics = &["kafka-acls.sh", &*format!("--topic {prefix}. --resource-pattern-type prefixed")];

    take(&kafka, &prefix, Op::Create);
    fails(KafkaLog::open(good.clone()).await, FaultKind::Config, &[&prefix], topics);
    kafka.allow("ann", On::TopicPrefix(&format!("{prefix}.")), Op::Create);
    // The label is written in a transaction of its own.
    let id = format!("--transactional-id {prefix}. --resource-pattern-type prefixed");
    fails(KafkaLog::open(good.clone()).await, FaultKind::Config, &["task 'log'"], &["kafka-acls.sh", &id]);
    grant_task(&kafka, &prefix, "log");

    let log = ok(KafkaLog::open(good.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    ok(writer.commit(one()).await);
    fails(log.open("roster/0").await, FaultKind::Config, &["task 'roster/0'"], &["kafka-acls.sh", &id]);
    let mut consumer = ok(log.consumer(at(Topic::Catalog, 0, 0)).await);
    assert_eq!(ok(consumer.poll(limit(Duration::from_secs(30))).await).len(), 1);
    // A worker proves in a transaction that it is the newest with its id.
    fails(
        log.join("worker-1", 2).await,
        FaultKind::Config,
        &["task 'member/worker-1'"],
        &["kafka-acls.sh", &id],
    );
    grant_task(&kafka, &prefix, "member/worker-1");
    grant_task(&kafka, &prefix, "member/worker-2");
    let mut group = ok(log.join("worker-1", 2).await);
    assert_eq!(ok(group.next().await).len(), 2);
    drop(group);
    ok(log.retain_now(0).await);
    ok(log.join("worker-1", 4).await);

    take(&kafka, &prefix, Op::Alter);
    fails(log.join("worker-1", 5).await, FaultKind::Config, &["tasks", "5 partitions"], topics);

    take(&kafka, &prefix, Op::Delete);
    let mut writer = ok(log.open("source").await).producer;
    ok(writer.commit(commit_of(vec![record(Topic::Checks, 0, "a", None)])).await);
    assert_eq!(read_from(&log, Topic::Checks, 0, 0).await.len(), 1);
    fails(log.retain_now(u64::MAX / 2).await, FaultKind::Config, &["retention"], topics);

    take(&kafka, &prefix, Op::DescribeConfigs);
    fails(KafkaLog::open(good.clone()).await, FaultKind::Config, &["settings"], topics);
    kafka.allow("ann", On::TopicPrefix(&format!("{prefix}.")), Op::DescribeConfigs);

    take(&kafka, &prefix, Op::Write);
    fails(writer.commit(one()).await, FaultKind::Config, &["commit of task 'source'"], topics);
    kafka.allow("ann", On::TopicPrefix(&format!("{prefix}.")), Op::Write);

    take(&kafka, &prefix, Op::Read);
    fails(consumer.poll(limit(Duration::from_secs(30))).await, FaultKind::Config, &["can't read"], topics);
    kafka.allow("ann", On::TopicPrefix(&format!("{prefix}.")), Op::Read);

    let group = format!("{prefix}.workers");
    for operation in [Op::Read, Op::Describe] {
        kafka.disallow("ann", On::Group(&group), operation);
    }
    let named = &["kafka-acls.sh", &*format!("--group {group} --operation Read")];
    let mut joined = ok(log.join("worker-2", 4).await);
    fails(joined.next().await, FaultKind::Config, &["group", &group], named);
    // What follows the tasks' progress has met what was missing, and goes on once it is granted.
    grant_all(&kafka, &prefix, &[]);
    let until = Instant::now() + LONG;
    while let Err(fault) = log.tasks().await {
        assert!(fault.kind == FaultKind::Config && fault.repair.is_some(), "{fault}");
        assert!(Instant::now() < until, "{fault}");
    }
}

/// A topic that we may not see is not one that the log has lost.
pub(super) async fn a_topic_that_we_may_not_see_is_not_called_lost() {
    let kafka = secured();
    let prefix = prefix();
    drop(ok(KafkaLog::open(config(&kafka.brokers(), &prefix, 1)).await));
    for topic in Topic::ALL.iter().filter(|topic| **topic != Topic::Quarantine) {
        for operation in [Op::Read, Op::Write, Op::DescribeConfigs] {
            kafka.allow("ann", On::Topic(&format!("{prefix}.{}", topic.name())), operation);
        }
    }
    kafka.allow("ann", On::Group(&format!("{prefix}.workers")), Op::Read);
    let mine = KafkaLogConfig { partitions: 1, ..as_ann(&kafka, &prefix) };
    let quarantine = format!("{prefix}.quarantine");
    let refused = KafkaLog::open(mine.clone()).await;
    fails(refused, FaultKind::Config, &[&quarantine], &["kafka-acls.sh", "--operation Describe"]);
    for operation in [Op::Read, Op::Write, Op::DescribeConfigs] {
        kafka.allow("ann", On::Topic(&quarantine), operation);
    }
    grant_task(&kafka, &prefix, "source");
    let log = ok(KafkaLog::open(mine).await);
    let mut writer = ok(log.open("source").await).producer;
    let commit = rollcall_model::Commit { progress: progress(1), ..Default::default() };
    ok(writer.commit(commit).await);
}
