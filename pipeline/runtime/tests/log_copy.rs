//! A copied log holds what the old one held, and every task goes on where it stood; cut short anywhere, it comes to the
//! same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rollcall_kit::faulty_log::{FaultyLog, Step};
use rollcall_kit::{MemoryLimits, MemoryLog};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::log::PollLimit;
use rollcall_model::{Commit, Fault, FaultKind, Log, LogId, Partition, Place, Progress, Record, Seq, Topic};
use rollcall_runtime::log_copy::{self, Copied};
use rollcall_runtime::roster_store::{PartitionStore, RosterStores};
use rollcall_test_servers::Kafka;
use serde_json::{Value, json};
use tempfile::TempDir;

const ID: &str = "0123456789abcdef0123456789abcdef";
const PARTITIONS: u16 = 2;
/// Of each partition, and one: several commits of the copy in all.
const RECORDS: u64 = 1_000;
const COPIED: [Topic; 6] = [
    Topic::Catalog,
    Topic::CatalogRows,
    Topic::Identities,
    Topic::Memberships,
    Topic::SegmentCounts,
    Topic::Quarantine,
];

type Reads = BTreeMap<(Topic, Partition), Place>;

fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

fn config() -> EmbeddedLogConfig {
    EmbeddedLogConfig {
        partitions: PARTITIONS,
        upkeep_interval_ms: u64::from(u32::MAX),
        ..Default::default()
    }
}

fn embedded(folder: &Path, epoch: u32) -> Result<Arc<dyn Log>, Fault> {
    Ok(Arc::new(EmbeddedLog::create_copy(folder, config(), LogId(ID.to_owned()), epoch)?))
}

fn memory() -> Arc<dyn Log> {
    Arc::new(MemoryLog::with_limits(ID, PARTITIONS, MemoryLimits::default()))
}

fn partitions(topic: Topic) -> impl Iterator<Item = Partition> {
    (0..if topic.is_partitioned() { PARTITIONS } else { 1 }).map(Partition)
}

async fn put(log: &Arc<dyn Log>, task: &str, records: Vec<Record>, progress: Option<(Reads, Value)>) {
    let mut opened = ok(log.open(task).await);
    let progress = progress.map(|(reads, state)| Progress { reads, state });
    ok(opened.producer.commit(Commit { records, progress }).await);
}

fn record(topic: Topic, partition: Partition, key: &str, value: Option<&str>) -> Record {
    Record {
        topic,
        partition,
        key: key.as_bytes().to_vec(),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: vec![("version".to_owned(), key.len().to_string())],
    }
}

/// Where partitions end, so that whoever stands there has read them.
async fn ends(log: &Arc<dyn Log>, topics: &[Topic]) -> Reads {
    let mut ends = Reads::new();
    for topic in topics {
        for partition in partitions(*topic) {
            ends.insert((*topic, partition), ok(log.range(*topic, partition).await).end);
        }
    }
    ends
}

const SINK: &str = r#"{"bootstrap": null, "reset": false, "brought": {"1": 4}, "replays": 2}"#;

/// A log with something in every topic, and every kind of task at its end.
async fn fill(log: &Arc<dyn Log>) {
    for topic in Topic::ALL.iter().copied().filter(|topic| *topic != Topic::Progress) {
        for partition in partitions(topic) {
            let mut records = Vec::new();
            // Three records of each key, and one that goes.
            for n in 0..RECORDS {
                let value = format!("{}/{partition}/{n}", topic.name());
                records.push(record(topic, partition, &format!("core/{}", n % (RECORDS / 3)), Some(&value)));
            }
            records.push(record(topic, partition, "core/7", None));
            put(log, "writer", records, None).await;
        }
    }
    ok(log.forget("writer").await);
    let check = |topic| record(topic, Partition(0), "control/check", Some(r#"{"id": "check-1"}"#));
    put(log, "roster/0", vec![check(Topic::SegmentCounts), check(Topic::MembershipChanges)], None).await;
    for partition in partitions(Topic::IdentityChanges) {
        let reads = ends(log, &[Topic::IdentityChanges]).await;
        let own = reads.into_iter().filter(|((_, of), _)| *of == partition).collect();
        put(log, &format!("roster/{partition}"), Vec::new(), Some((own, json!({"seq": 40})))).await;
    }
    let sink: Value = serde_json::from_str(SINK).unwrap();
    let reads = ends(log, &[Topic::Identities, Topic::MembershipChanges]).await;
    put(log, "sink/clickhouse", Vec::new(), Some((reads, sink.clone()))).await;
    let reads = ends(log, &[Topic::SegmentCounts]).await;
    put(log, "sink/counts", Vec::new(), Some((reads, sink))).await;
    put(log, "source/core", Vec::new(), Some((Reads::new(), json!({"position": "0/16B3748"})))).await;
    put(log, "worker/one", Vec::new(), Some((Reads::new(), json!({"address": "127.0.0.1:1"})))).await;
    put(log, "admin", Vec::new(), Some((Reads::new(), json!({"asked": 3, "paused": ["source/core"]})))).await;
}

/// Everything of a partition, in order, without the places.
async fn records(log: &Arc<dyn Log>, topic: Topic, partition: Partition) -> Vec<Record> {
    let range = ok(log.range(topic, partition).await);
    let mut consumer = ok(log.consumer(BTreeMap::from([((topic, partition), range.start)])).await);
    let mut all = Vec::new();
    let limit = PollLimit { records_max: 10_000, bytes_max: 1 << 24, wait: Duration::from_secs(10) };
    while consumer.reached()[&(topic, partition)] < range.end {
        all.extend(ok(consumer.poll(limit).await).into_iter().map(|fetched| fetched.record));
    }
    all
}

/// That a copy is whole.
async fn assert_copied(from: &Arc<dyn Log>, to: &Arc<dyn Log>) {
    for topic in Topic::ALL.iter().copied().filter(|topic| *topic != Topic::Progress) {
        for partition in partitions(topic) {
            let mut expected = records(from, topic, partition).await;
            expected.retain(|record| COPIED.contains(&topic) && record.key != b"control/check");
            let found = records(to, topic, partition).await;
            assert!(found == expected, "{topic:?}/{partition}: {} of {}", found.len(), expected.len());
        }
    }
    let (old, mut new) = (ok(from.tasks().await), ok(to.tasks().await));
    assert_eq!(new.remove("log-copy").unwrap().state["done"], true);
    for (name, progress) in old.iter().filter(|(name, _)| *name != "log-copy" && *name != "worker/one") {
        let copied = new.remove(name).unwrap_or_else(|| panic!("{name} is left behind"));
        assert_eq!(copied.state, progress.state, "{name}");
        let topics: Vec<Topic> = progress.reads.keys().map(|(topic, _)| *topic).collect();
        let mut expected = ends(to, &topics).await;
        expected.retain(|at, _| progress.reads.contains_key(at));
        assert_eq!(copied.reads, expected, "{name}");
        assert!(copied.reads.values().all(|place| place.epoch == to.epoch()), "{name}");
    }
    assert!(new.is_empty(), "{new:?}");
    ok(log_copy::refuse_unfinished(&**to).await);
}

async fn copy(from: &Arc<dyn Log>, to: &Arc<dyn Log>) -> Result<Copied, Fault> {
    let mut last = None;
    let copied = log_copy::copy(from, to, |now| {
        assert!(now.copied <= now.total && last.is_none_or(|last| last <= now.copied), "{now:?}");
        last = Some(now.copied);
    })
    .await;
    assert!(copied.is_err() || last.is_some());
    copied
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_holds_what_the_log_held() {
    let (folder, next) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let from = memory();
    fill(&from).await;
    let plan = ok(log_copy::plan(&from).await);
    assert_eq!((plan.epoch, plan.partitions, plan.tasks.len()), (0, PARTITIONS, 6));
    assert_eq!(plan.topics.iter().map(|(_, records)| records).sum::<u64>(), 10 * (RECORDS + 1) + 1);
    let to = ok(embedded(folder.path(), 1));
    let copied = ok(copy(&from, &to).await);
    assert_eq!((copied.records, copied.tasks.len()), (10 * (RECORDS + 1), 6));
    assert_copied(&from, &to).await;

    // And on, as the copy of a copy, opened as a worker opens it.
    drop(to);
    let from: Arc<dyn Log> = Arc::new(ok(EmbeddedLog::open(folder.path(), config())));
    assert_eq!((from.id().0.as_str(), from.epoch()), (ID, 1));
    let to = ok(embedded(next.path(), 2));
    ok(copy(&from, &to).await);
    assert_copied(&from, &to).await;
    let fault = copy(&from, &to).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.what.contains("finished"), "{fault}");
}

/// Onto a Kafka, whose offsets leave room for its own marks, and back from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_moves_to_kafka_and_back() {
    let kafka = Kafka::start();
    let config = |prefix: &str| KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        ..KafkaLogConfig::new(kafka.brokers(), prefix, PARTITIONS)
    };
    let from = memory();
    fill(&from).await;
    let id = LogId(ID.to_owned());
    let to: Arc<dyn Log> = Arc::new(ok(KafkaLog::create_copy(config("moved"), id.clone(), 1).await));
    let faulty: Arc<dyn Log> =
        Arc::new(FaultyLog::new(Arc::clone(&to), [Step::Pass, Step::Pass, Step::LoseAnswer]));
    assert_eq!(copy(&from, &faulty).await.unwrap_err().kind, FaultKind::Retry);
    assert!(log_copy::refuse_unfinished(&*to).await.is_err());
    drop((faulty, to));
    let other = KafkaLog::create_copy(config("moved"), id.clone(), 2).await.map(|_| ()).unwrap_err();
    assert_eq!(other.kind, FaultKind::Refused);
    let to: Arc<dyn Log> = Arc::new(ok(KafkaLog::create_copy(config("moved"), id, 1).await));
    ok(copy(&from, &to).await);
    assert_copied(&from, &to).await;
    drop(to);

    let from: Arc<dyn Log> = Arc::new(ok(KafkaLog::open_existing(config("moved")).await));
    assert_eq!((from.id().0.as_str(), from.epoch()), (ID, 1));
    let folder = TempDir::new().unwrap();
    let to = ok(embedded(folder.path(), 2));
    ok(copy(&from, &to).await);
    assert_copied(&from, &to).await;
    let nowhere = KafkaLog::open_existing(config("nowhere")).await.map(|_| ()).unwrap_err();
    assert!(nowhere.what.contains("there is no log 'nowhere'"), "{nowhere}");
}

/// Cut short at each of its commits, before or behind it, and run again: the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_cut_short_anywhere_goes_on() {
    let from = memory();
    fill(&from).await;
    let mut steps = 0;
    for cut in 0.. {
        let folder = TempDir::new().unwrap();
        let to = ok(embedded(folder.path(), 1));
        let failing = if cut % 2 == 0 { Step::FailBefore } else { Step::LoseAnswer };
        let script = std::iter::repeat_n(Step::Pass, cut).chain([failing]);
        let faulty = FaultyLog::new(Arc::clone(&to), script);
        let log: Arc<dyn Log> = Arc::new(faulty.clone());
        match copy(&from, &log).await {
            Ok(_) => {
                assert_eq!(faulty.steps_left(), 1, "the script ends behind the last commit");
                break;
            }
            Err(fault) => assert_eq!(fault.kind, FaultKind::Retry, "{fault}"),
        }
        steps += 1;
        let done = ok(to.tasks().await).get("log-copy").is_some_and(|task| task.state["done"] == true);
        if !done {
            let fault = log_copy::refuse_unfinished(&*to).await.unwrap_err();
            assert!(fault.repair.unwrap().contains("rollcall log copy"), "no worker runs on half a log");
            drop((log, faulty, to));
            // As the command does it: opened again as what it was to become.
            let to = ok(embedded(folder.path(), 1));
            ok(copy(&from, &to).await);
            assert_copied(&from, &to).await;
        } else {
            assert_copied(&from, &to).await;
        }
    }
    assert!(steps > 12, "{steps} commits are too few for what was to be copied");
}

/// Whoever has not read everything is named with what is before them; nothing is written anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_drained_is_refused() {
    let sink = |change: Value| {
        let mut state: Value = serde_json::from_str(SINK).unwrap();
        state.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        state
    };
    let replay = json!({"number": 1, "wanted": {"from": "beginning"}, "stretches": []});
    // A task, what it has not read of partition 1, its state, and what is said of it.
    type Case = (&'static str, Option<(Topic, u64)>, Value, &'static str);
    let cases: [Case; 6] = [
        (
            "roster/1",
            Some((Topic::IdentityChanges, 5)),
            json!({}),
            "roster/1 is 5 behind on identity-changes/1",
        ),
        (
            "sink/counts",
            Some((Topic::SegmentCounts, 2)),
            sink(json!({})),
            "sink/counts is 2 behind on segment-counts/1",
        ),
        (
            "sink/clickhouse",
            Some((Topic::MembershipChanges, 1)),
            sink(json!({})),
            "behind on membership-changes/1",
        ),
        (
            "sink/counts",
            None,
            sink(json!({"bootstrap": {"ends": [], "live": []}})),
            "sink/counts is still being filled",
        ),
        ("sink/counts", None, sink(json!({"replay": replay})), "sink/counts is replaying"),
        ("lake/1", Some((Topic::Identities, 0)), json!({}), "task lake/1 of the log is of a kind not known"),
    ];
    for (task, behind, state, expected) in cases {
        let from = memory();
        fill(&from).await;
        let mut reads = Reads::new();
        if let Some((topic, records)) = behind {
            let end = ok(from.range(topic, Partition(1)).await).end;
            reads.insert((topic, Partition(1)), Place { offset: end.offset - records, ..end });
        }
        put(&from, task, Vec::new(), Some((reads, state))).await;
        let folder = TempDir::new().unwrap();
        let to = ok(embedded(folder.path(), 1));
        for fault in [log_copy::plan(&from).await.unwrap_err(), copy(&from, &to).await.unwrap_err()] {
            assert_eq!(fault.kind, FaultKind::Refused);
            assert!(fault.what.contains(expected), "{fault}");
        }
        assert!(ok(to.tasks().await).is_empty(), "nothing is begun");
    }
    // A partition whose roster never ran has read nothing.
    let from = memory();
    fill(&from).await;
    ok(from.forget("roster/0").await);
    let fault = log_copy::plan(&from).await.unwrap_err();
    assert!(fault.what.contains("roster/0 is 1001 behind on identity-changes/0"), "{fault}");
    assert!(fault.repair.unwrap().contains("`rollcall pause source/core`"));
    // One that waits for its rebuild goes along.
    fill(&from).await;
    put(&from, "sink/counts", Vec::new(), Some((Reads::new(), sink(json!({"reset": true}))))).await;
    ok(log_copy::plan(&from).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let from = memory();
    fill(&from).await;
    let folder = TempDir::new().unwrap();
    let to = ok(embedded(folder.path(), 0));
    assert_eq!(copy(&from, &to).await.unwrap_err().kind, FaultKind::Bug, "the same epoch");
    drop(to);
    // What is there is another log, or of another epoch.
    let again = embedded(folder.path(), 1).map(|_| ()).unwrap_err();
    assert_eq!(again.kind, FaultKind::Refused);
    let folder = TempDir::new().unwrap();
    let to = ok(embedded(folder.path(), 1));
    put(&to, "admin", vec![record(Topic::Checks, Partition(0), "k", Some("1"))], None).await;
    let fault = copy(&from, &to).await.unwrap_err();
    assert!(fault.what.contains("checks/0 of the new log holds records"), "{fault}");
    let nowhere =
        EmbeddedLog::open_existing(folder.path().join("nowhere"), config()).map(|_| ()).unwrap_err();
    assert!(nowhere.what.contains("there is no log in"), "{nowhere}");
    assert!(!folder.path().join("nowhere").exists());
}

/// The old log's writers are fenced, and what is written all the same is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_to_the_old_log_meanwhile() {
    let from = memory();
    fill(&from).await;
    let mut old = ok(from.open("admin").await).producer;
    let folder = TempDir::new().unwrap();
    let to = ok(embedded(folder.path(), 1));
    let writing = Arc::clone(&from);
    let mut wrote = false;
    let fault = log_copy::copy(&from, &to, |_| {
        if !std::mem::replace(&mut wrote, true) {
            let work = put(&writing, "roster/0", vec![record(Topic::Catalog, Partition(0), "k", None)], None);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
        }
    })
    .await
    .unwrap_err();
    assert!(fault.what.contains("somebody wrote to the log while it was copied"), "{fault}");
    let late = Commit { records: vec![record(Topic::Catalog, Partition(0), "k", None)], progress: None };
    assert_eq!(old.commit(late).await.unwrap_err().kind, FaultKind::Fenced);
    ok(copy(&from, &to).await);
    assert_copied(&from, &to).await;
}

/// A roster's store filled from the old log is not believed about the new one, though log and seq are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_epoch_is_filled_anew() {
    let (stores, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let stores = ok(RosterStores::open(stores.path()));
    let from = memory();
    let opened = async |log| {
        ok(PartitionStore::open(stores.clone(), log, Partition(0), Seq(3), Duration::MAX, |_| {}).await)
    };
    let first = opened(&from).await;
    assert_eq!(first.1, 0, "an empty log has nothing");
    let key = json!({
        "log_id": ID, "partition": 0, "seq": 3, "version": 1, "deleted": true, "source": "core", "id": 1,
        "state": "deleted", "place": {"epoch": 0, "offset": 9},
    });
    let to = ok(embedded(folder.path(), 1));
    let image = record(Topic::Identities, Partition(0), "core/1", Some(&key.to_string()));
    put(&to, "roster/0", vec![image], None).await;
    for (log, taken) in [(&from, 0), (&to, 1), (&to, 0), (&from, 0)] {
        assert_eq!(opened(log).await.1, taken, "epoch {}", log.epoch());
    }
}
