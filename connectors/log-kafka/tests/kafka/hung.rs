//! Writers that died or hang with a transaction open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, Producer as _};
use rollcall_log_kafka::KafkaLog;
use rollcall_model::{Commit, FaultKind, Log, Partition, Topic};

use crate::support::{
    LONG, at, commit_of, config, deliver, fails, kafka, limit, ok, open, prefix, progress, raw_transaction,
    read_from, record, shown,
};

/// Writes into the transaction that is open.
fn put(producer: &rdkafka::producer::BaseProducer, prefix: &str, topics: &[&str]) {
    for topic in topics {
        let name = format!("{prefix}.{topic}");
        let record = BaseRecord::to(&name).partition(0).key("hangs").payload("never");
        producer.send(record).map_err(|(e, _)| e).expect("sent");
    }
    deliver(producer);
}

/// What a dead writer left open is ended by its task's next opener, at once, however long it might have lasted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_left_open_ends_with_the_next_opening() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let log = ok(KafkaLog::open(config.clone()).await);
    let dead = raw_transaction(&config.brokers, &format!("{}.source", config.prefix), LONG * 10);
    put(&dead, &config.prefix, &["identity-changes", "progress"]);
    let started = Instant::now();
    let opened = ok(log.open("source").await);
    assert_eq!(opened.progress, None);
    let mut writer = opened.producer;
    ok(writer
        .commit(Commit {
            records: vec![record(Topic::IdentityChanges, 0, "a", Some("1"))],
            progress: progress(1),
        })
        .await);
    let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let fetched = ok(consumer.poll(limit(LONG)).await);
    assert_eq!(shown(&fetched), [("a".to_owned(), Some("1".to_owned()))]);
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    assert!(dead.commit_transaction(LONG).is_err(), "it was fenced");
}

/// Another task's open transaction holds readers up: as long as its own timeout says, and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_writer_holds_readers_up_for_its_timeout() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    const TIMEOUT: Duration = Duration::from_secs(8);
    let hung = raw_transaction(&config.brokers, &format!("{}.other", config.prefix), TIMEOUT);
    put(&hung, &config.prefix, &["identity-changes", "progress"]);
    let started = Instant::now();
    ok(writer
        .commit(Commit {
            records: vec![record(Topic::IdentityChanges, 0, "a", Some("1"))],
            progress: progress(1),
        })
        .await);
    assert!(started.elapsed() < TIMEOUT, "writers wait for nobody: {:?}", started.elapsed());
    let range = ok(log.range(Topic::IdentityChanges, Partition(0)).await);
    assert!(range.stable < range.end, "{range:?}");
    let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let early = ok(consumer.poll(limit(TIMEOUT / 4)).await);
    assert_eq!(shown(&early), [], "what stands behind an open transaction is not decided");
    assert_eq!(ok(log.tasks().await), BTreeMap::new(), "who looks for workers must not wait for the dead");
    assert_eq!(shown(&ok(consumer.poll(limit(LONG)).await)), [("a".to_owned(), Some("1".to_owned()))]);
    assert_eq!(ok(log.tasks().await).into_keys().collect::<Vec<_>>(), ["source"]);
    let waited = started.elapsed();
    assert!(waited > TIMEOUT / 2 && waited < LONG, "{waited:?}");
    assert_eq!(ok(log.open("source").await).progress, progress(1));
}

/// Two workers that open the log for the first time at once make one log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_opens_at_once_makes_one_log() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let opening = (0..3).map(|_| tokio::spawn(KafkaLog::open(config.clone()))).collect::<Vec<_>>();
    let mut ids = Vec::new();
    for opened in opening {
        ids.push(ok(opened.await.expect("it opens")).id().clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(*ok(open(config)).id(), ids[0]);
}

/// A commit that is too large for its log says so, and is not tried for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_is_too_large_is_refused() {
    let kafka = kafka();
    let topic_settings = [("max.message.bytes".to_owned(), "20000".to_owned())].into();
    let config =
        rollcall_log_kafka::KafkaLogConfig { topic_settings, ..config(&kafka.brokers(), &prefix(), 1) };
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    let mut large = progress(1);
    if let Some(progress) = &mut large {
        progress.state = "x".repeat(30_000).into();
    }
    let records = vec![record(Topic::Catalog, 0, "a", Some("1"))];
    let says = &["task 'source'", "max.message.bytes"];
    let commit = Commit { records: records.clone(), progress: large };
    let started = Instant::now();
    fails(writer.commit(commit).await, FaultKind::Refused, says, &["kafka-configs.sh", "max.message.bytes="]);
    // What was sent of it is taken back at once: readers don't wait for its timeout.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    // Nothing of it is there, and the writer is good for the next.
    ok(writer.commit(commit_of(records)).await);
    assert_eq!(read_from(&log, Topic::Catalog, 0, 0).await.len(), 1);
}

/// What was aborted at the end of a partition brings no record, and a reader reaches the end all the same: from the start,
/// from in between and from where the aborted records begin. Whoever takes a dead writer's task over reads so far before it
/// writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_end_is_reached() {
    let kafka = kafka();
    let config = config(&kafka.brokers(), &prefix(), 1);
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    for aborted in [1, 4, 40] {
        for n in 0..3 {
            let key = format!("{aborted}-{n}");
            let records = vec![record(Topic::IdentityChanges, 0, &key, Some("1"))];
            ok(writer.commit(Commit { records, progress: progress(n) }).await);
        }
        let begins = ok(log.range(Topic::IdentityChanges, Partition(0)).await).end.offset;
        let dead = raw_transaction(&config.brokers, &format!("{}.other", config.prefix), LONG);
        for _ in 0..aborted {
            put(&dead, &config.prefix, &["identity-changes"]);
        }
        dead.abort_transaction(LONG).expect("aborted");
        let range = ok(log.range(Topic::IdentityChanges, Partition(0)).await);
        assert!(range.end.offset > begins, "{range:?}");
        for from in [0, begins - 2, begins] {
            let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, from)).await);
            let started = Instant::now();
            while consumer.reached().values().any(|place| *place < range.end) {
                assert!(started.elapsed() < LONG, "from {from}: {:?} of {:?}", consumer.reached(), range.end);
                ok(consumer.poll(limit(Duration::from_millis(100))).await);
            }
        }
    }
}
