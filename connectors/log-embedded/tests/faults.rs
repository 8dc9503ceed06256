//! What an operator can do wrong or run into: each is a fault that says what it is and what repairs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_model::log::PollLimit;
use rollcall_model::{Commit, Fault, FaultKind, Log, Partition, Place, Progress, Record, Topic};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

fn open(path: &Path) -> Result<EmbeddedLog, Fault> {
    EmbeddedLog::open(path, EmbeddedLogConfig::default())
}

/// That it fails, with these words for the operator.
fn fails<T>(result: Result<T, Fault>, kind: FaultKind, words: &[&str]) {
    let Err(fault) = result else { panic!("this should fail with {words:?}") };
    let text = fault.to_string();
    assert_eq!(fault.kind, kind, "{text}");
    assert!(fault.repair.is_some(), "no repair: {text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

fn records(topic: Topic, count: usize) -> Commit {
    let record = Record {
        topic,
        partition: Partition(0),
        key: b"k".to_vec(),
        value: Some(vec![b'x'; 1_000]),
        headers: Vec::new(),
    };
    Commit { records: vec![record; count], progress: None }
}

#[tokio::test]
async fn another_partition_count_is_refused_with_the_right_one() {
    let folder = folder();
    drop(ok(open(folder.path())));
    let config = EmbeddedLogConfig { partitions: 16, ..EmbeddedLogConfig::default() };
    fails(
        EmbeddedLog::open(folder.path(), config),
        FaultKind::Config,
        &["log.partitions", "is 16", "set log.partitions: 8"],
    );
    let none = EmbeddedLogConfig { partitions: 0, ..EmbeddedLogConfig::default() };
    fails(EmbeddedLog::open(folder.path(), none), FaultKind::Config, &["log.partitions"]);
    assert_eq!(ok(open(folder.path())).partitions(), 8, "the refused attempts let the folder go");
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_folder() {
    let folder = folder();
    let log = ok(open(folder.path()));
    let pid = format!("process {}", std::process::id());
    fails(open(folder.path()), FaultKind::Config, &["in use", &pid, &folder.path().display().to_string()]);
    let mut producer = ok(log.open("task").await).producer;
    let id = log.id().clone();
    drop(log);
    let again = ok(open(folder.path()));
    assert_eq!(*again.id(), id);
    assert_eq!(
        producer.commit(Commit::default()).await.expect_err("its log is closed").kind,
        FaultKind::Retry
    );
}

#[tokio::test]
async fn log_ids_are_128_random_bits() {
    let (one, two) = (folder(), folder());
    let ids = [ok(open(one.path())).id().0.clone(), ok(open(two.path())).id().0.clone()];
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert!(id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{id}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_what_it_says_is_refused() {
    let folder = folder();
    let id = ok(open(folder.path())).id().0.clone();
    let label = folder.path().join("log.json");
    let text = std::fs::read_to_string(&label).expect("a label");
    std::fs::write(&label, text.replace("\"format\": 1", "\"format\": 2, \"new\": true")).expect("written");
    fails(open(folder.path()), FaultKind::Refused, &["format 2", "newer"]);
    std::fs::write(&label, "{").expect("written");
    fails(open(folder.path()), FaultKind::Refused, &["log.json", "backup"]);
    std::fs::write(&label, text.replace(&id, &"0".repeat(32))).expect("written");
    fails(open(folder.path()), FaultKind::Refused, &[&id, &"0".repeat(32)]);
    std::fs::remove_file(&label).expect("removed");
    assert_eq!(ok(open(folder.path())).id().0, id, "a crash before the label was written costs nothing");
    std::fs::remove_dir_all(folder.path().join("store")).expect("removed");
    fails(open(folder.path()), FaultKind::Refused, &["store was removed", "rollcall rebuild"]);
    assert!(!folder.path().join("store").exists(), "a refusal makes nothing");
}

#[tokio::test]
async fn a_full_log_stops_sources_alone_and_names_the_slowest_task() {
    let folder = folder();
    let config =
        EmbeddedLogConfig { bytes_max: 10_000, retention_bytes_max: 1, ..EmbeddedLogConfig::default() };
    let log = ok(EmbeddedLog::open(folder.path(), config));
    let mut source = ok(log.open("core").await).producer;
    let mut sink = ok(log.open("clickhouse").await).producer;
    let at = |offset| Progress {
        reads: BTreeMap::from([((Topic::IdentityChanges, Partition(0)), Place { epoch: 0, offset })]),
        state: serde_json::Value::Null,
    };
    ok(sink.commit(Commit { records: Vec::new(), progress: Some(at(3)) }).await);
    ok(source.commit(records(Topic::IdentityChanges, 10)).await);
    let words = ["is full", "'clickhouse'", "7 records", "rollcall status", "bytes_max"];
    fails(source.commit(records(Topic::IdentityChanges, 1)).await, FaultKind::Retry, &words);
    ok(sink.commit(records(Topic::Memberships, 1)).await);
    let mut suspend = Commit { progress: Some(at(3)), ..records(Topic::IdentityChanges, 1) };
    suspend.records[0].partition = Partition(1);
    ok(sink.commit(suspend).await);
    let mut source = ok(log.open("core").await).producer;
    ok(source.commit(Commit { records: Vec::new(), progress: Some(Progress::default()) }).await);
    fails(source.commit(records(Topic::Catalog, 1)).await, FaultKind::Retry, &words);
    ok(log.retain_now(0).await);
    assert_eq!(
        ok(log.range(Topic::IdentityChanges, Partition(0)).await).start.offset,
        3,
        "unread records stay"
    );
    ok(sink.commit(Commit { records: Vec::new(), progress: Some(at(10)) }).await);
    ok(log.retain_now(0).await);
    let mut source = ok(log.open("core").await).producer;
    ok(source.commit(records(Topic::IdentityChanges, 1)).await);
}

#[tokio::test]
async fn a_disk_almost_full_stops_writing_before_the_store_breaks() {
    let folder = folder();
    drop(ok(open(folder.path())));
    let config = EmbeddedLogConfig { disk_free_bytes_min: u64::MAX, ..EmbeddedLogConfig::default() };
    let log = ok(EmbeddedLog::open(folder.path(), config));
    let mut producer = ok(log.open("core").await).producer;
    fails(
        producer.commit(records(Topic::Checks, 1)).await,
        FaultKind::Retry,
        &["disk", "is full", "make room"],
    );
    assert_eq!(ok(log.range(Topic::Checks, Partition(0)).await).end.offset, 0);
}

#[tokio::test]
async fn a_reader_past_retention_is_named_with_its_topic() {
    let folder = folder();
    let config = EmbeddedLogConfig { retention_bytes_max: 1, ..EmbeddedLogConfig::default() };
    let log = ok(EmbeddedLog::open(folder.path(), config));
    let mut source = ok(log.open("core").await).producer;
    ok(source.commit(records(Topic::MembershipChanges, 5)).await);
    ok(log.retain_now(0).await);
    // A task that comes back with a place from before it was forgotten.
    let reads = BTreeMap::from([((Topic::MembershipChanges, Partition(0)), Place { epoch: 0, offset: 2 })]);
    let progress = Progress { reads: reads.clone(), state: serde_json::Value::Null };
    let mut sink = ok(log.open("clickhouse").await).producer;
    ok(sink.commit(Commit { records: Vec::new(), progress: Some(progress) }).await);
    let words = ["task 'clickhouse'", "offset 2", "membership-changes/0", "rollcall rebuild"];
    fails(log.consumer(reads).await.map(|_| ()), FaultKind::Refused, &words);
}

#[tokio::test]
async fn a_commit_larger_than_a_group_and_a_value_of_megabytes_pass() {
    let folder = folder();
    let log = ok(open(folder.path()));
    let mut source = ok(log.open("core").await).producer;
    let mut large = records(Topic::IdentityChanges, 3);
    for record in &mut large.records {
        record.value = Some(vec![7; 9 << 20]);
    }
    ok(source.commit(large.clone()).await);
    let from = BTreeMap::from([((Topic::IdentityChanges, Partition(0)), Place::default())]);
    let mut consumer = ok(log.consumer(from).await);
    for record in &large.records {
        let limit = PollLimit { records_max: 10, bytes_max: 1 << 20, wait: Duration::ZERO };
        let fetched = ok(consumer.poll(limit).await);
        assert_eq!(fetched.len(), 1, "at least one, whatever its size");
        assert!(fetched[0].record == *record);
    }
}

#[tokio::test]
async fn upkeep_runs_by_itself_and_stats_show_it() {
    let folder = folder();
    let config = EmbeddedLogConfig { upkeep_interval_ms: 1, ..EmbeddedLogConfig::default() };
    let log = ok(EmbeddedLog::open(folder.path(), config));
    let mut roster = ok(log.open("roster/0").await).producer;
    ok(roster.commit(records(Topic::Identities, 100)).await);
    loop {
        let stats = ok(log.stats().await);
        assert!(stats.disk_bytes > 0 && stats.disk_free_bytes > 0);
        let topic = stats.topics[&Topic::Identities];
        assert_eq!(topic.bytes, stats.bytes);
        if topic.records == 1 {
            assert!(topic.bytes > 1_000 && topic.bytes < 2_000, "{topic:?}");
            break;
        }
        // Without upkeep this never ends: the harness says which test hangs.
        tokio::task::yield_now().await;
    }
}
