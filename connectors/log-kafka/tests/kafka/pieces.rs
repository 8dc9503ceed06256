//! Records larger than a topic takes in one message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rollcall_log_kafka::{Clock, KafkaLog, KafkaLogConfig};
use rollcall_model::log::PollLimit;
use rollcall_model::{Commit, Log, Partition, Record, Topic};

use crate::compaction::{SEGMENT_MS, compact};
use crate::support::{
    LONG, at, commit_of, config, kafka, limit, ok, prefix, progress, raw_producer, raw_records, read_from,
    read_to, record, wall_ms,
};

/// Bytes that a mixture of two records would not have.
fn value(of: u64, len: usize) -> Vec<u8> {
    let mut seed = of.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // JSON, not Avro.
        (seed >> 56) as u8 | 1
    };
    (0..len).map(next).collect()
}

fn large(topic: Topic, key: &str, of: u64, len: usize) -> Record {
    let headers = vec![("version".to_owned(), of.to_string())];
    Record { value: Some(value(of, len)), headers, ..record(topic, 0, key, None) }
}

fn small_messages(brokers: &str) -> KafkaLogConfig {
    let settings = [("max.message.bytes", "100000"), ("min.cleanable.dirty.ratio", "0")];
    let segment = ("segment.ms".to_owned(), SEGMENT_MS.to_string());
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topic_settings = settings.into_iter().chain([segment]).collect();
    // Two writers of one process at one moment.
    let now = wall_ms();
    KafkaLogConfig { topic_settings, clock: Clock::new(move || now), ..config(brokers, &prefix(), 1) }
}

/// Two tasks write a megabyte each into one partition at the same time, twice in each commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn records_of_two_tasks_at_once_are_not_mixed() {
    const MB: usize = 1_000_000;
    let kafka = kafka();
    let config = small_messages(&kafka.brokers());
    let log = ok(KafkaLog::open(config.clone()).await);
    let topics = [Topic::MembershipChanges, Topic::Memberships];
    let mut written = BTreeMap::new();
    let mut writing = Vec::new();
    for task in 0..2_u64 {
        let mut writer = ok(log.open(&format!("roster/{task}")).await).producer;
        let mut commits = Vec::new();
        for n in 0..3_u64 {
            let mut records = Vec::new();
            for topic in topics {
                for k in 0..2_u64 {
                    let id = task * 100 + n * 10 + k;
                    let record =
                        large(topic, &format!("{id}"), id, MB + usize::try_from(k).expect("small") * 7);
                    written.insert((topic, id.to_string()), record.clone());
                    records.push(record);
                    records.push(large(topic, &format!("small/{id}"), id, 10));
                }
            }
            commits.push(records);
        }
        writing.push(tokio::spawn(async move {
            for records in commits {
                ok(writer.commit(commit_of(records)).await);
            }
        }));
    }
    for writing in writing {
        writing.await.expect("it is written");
    }
    for topic in topics {
        let all = read_from(&log, topic, 0, 0).await;
        assert_eq!(all.len(), 24, "twelve large, twelve small");
        for one in all {
            let key = String::from_utf8(one.record.key.clone()).expect("text");
            assert!(!one.foreign);
            if let Some(record) = written.get(&(topic, key.clone())) {
                assert!(one.record == *record, "{key} is not what was written");
            }
        }
        let name = format!("{}.{}", config.prefix, topic.name());
        let raw = raw_records(&config.brokers, &name, 0);
        assert!(raw.len() >= 24 + 12 * 10, "{} messages", raw.len());
        assert!(raw.iter().all(|one| one.headers.contains_key("rollcall-task")));
        // Whether they came to stand between each other or not: no two share what joins them.
        let heads = raw.iter().filter_map(|one| one.headers.get("rollcall-pieces")?.split('/').next());
        assert_eq!(heads.collect::<BTreeSet<_>>().len(), 12);
        assert!(raw.iter().all(|one| one.value.as_ref().is_some_and(|value| value.len() < 100_000)));
    }
}

/// Whoever begins after some of the pieces still gets the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_begins_between_the_pieces_gets_the_whole() {
    let kafka = kafka();
    let config = small_messages(&kafka.brokers());
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("roster/0").await).producer;
    for topic in [Topic::MembershipChanges, Topic::Memberships] {
        let whole = large(topic, "a", 1, 350_000);
        ok(writer.commit(commit_of(vec![record(topic, 0, "before", None), whole.clone()])).await);
        assert_eq!(read_from(&log, topic, 0, 0).await.len(), 2);
        let raw = raw_records(&config.brokers, &format!("{}.{}", config.prefix, topic.name()), 0);
        assert_eq!(raw.len(), 5, "{raw:?}");
        for from in &raw[1..] {
            let offset = u64::try_from(from.offset).expect("an offset");
            let all = read_from(&log, topic, 0, offset).await;
            assert_eq!(all.len(), 1, "from {offset}");
            assert!(all[0].record == whole);
        }
    }
}

/// Pieces as docs/topics.md describes them, another task's record among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_are_on_the_wire_as_the_docs_say() {
    let kafka = kafka();
    let config = KafkaLogConfig { retention_ms: 1, ..small_messages(&kafka.brokers()) };
    let log = ok(KafkaLog::open(config.clone()).await);
    let name = format!("{}.membership-changes", config.prefix);
    let producer = raw_producer(&config.brokers);
    for (key, value, task, header) in [
        ("a\0piece\x000", "one ", "roster/0", Some(("rollcall-piece", "00c0ffee/0"))),
        ("b", "between", "roster/1", None),
        ("a\0piece\x001", "two ", "roster/0", Some(("rollcall-piece", "00c0ffee/1"))),
        ("a", "three", "roster/0", Some(("rollcall-pieces", "00c0ffee/2"))),
        ("c", "after", "roster/1", None),
    ] {
        let mut headers = OwnedHeaders::new().insert(Header { key: "rollcall-task", value: Some(task) });
        if let Some((key, value)) = header {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = BaseRecord::to(&name).partition(0).key(key).payload(value).headers(headers);
        producer.send(record).map_err(|(e, _)| e).expect("sent");
    }
    producer.flush(LONG).expect("delivered");
    // One record at a time, and each time as one who was started again just there.
    let end = ok(log.range(Topic::MembershipChanges, Partition(0)).await).end;
    let mut place = end;
    place.offset = 0;
    let mut all = Vec::new();
    while place < end {
        let mut consumer = ok(log.consumer(at(Topic::MembershipChanges, 0, place.offset)).await);
        let one = PollLimit { records_max: 1, ..limit(LONG) };
        all.extend(ok(consumer.poll(one).await));
        place = consumer.reached()[&(Topic::MembershipChanges, Partition(0))];
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown: Vec<_> = all
        .iter()
        .map(|one| (text(&one.record.key), text(one.record.value.as_deref().unwrap_or_default())))
        .collect();
    let expected = [("b", "between"), ("a", "one two three"), ("c", "after")];
    assert_eq!(shown, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert!(all.iter().all(|one| one.record.headers.is_empty()), "{all:?}");

    // A head whose pieces retention dropped began before what is there: a new reader passes over it.
    let progress = rollcall_model::Progress {
        reads: at(Topic::MembershipChanges, 0, 2),
        state: serde_json::Value::Null,
    };
    let mut task = ok(log.open("reader").await).producer;
    ok(task.commit(Commit { progress: Some(progress), ..Commit::default() }).await);
    ok(log.retain_now(wall_ms() + 60_000).await);
    let start = ok(log.range(Topic::MembershipChanges, Partition(0)).await).start.offset;
    assert_eq!(start, 2);
    let left = read_from(&log, Topic::MembershipChanges, 0, start).await;
    assert_eq!(left.iter().map(|one| text(&one.record.key)).collect::<Vec<_>>(), ["c"]);
}

/// A key that becomes smaller or goes leaves no piece behind, whoever the writer is by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_go_with_their_key() {
    let kafka = kafka();
    let mut config = small_messages(&kafka.brokers());
    config.clock = Clock::system();
    config.tombstone_retention_ms = 1;
    let log = ok(KafkaLog::open(config.clone()).await);
    let opened = ok(log.open("roster/0").await);
    let mut writer = opened.producer;
    let keys = ["shrinks", "goes", "stays", "grows"];
    let first: Vec<_> = (0..).zip(keys).map(|(n, key)| large(Topic::Identities, key, n, 350_000)).collect();
    ok(writer.commit(commit_of(first.clone())).await);
    drop(writer);
    // A task that only wrote has no progress, cut up or not.
    let opened = ok(log.open("roster/0").await);
    assert_eq!(opened.progress, None);
    assert_eq!(ok(log.tasks().await), BTreeMap::new());
    let mut writer = opened.producer;
    ok(writer.commit(Commit { progress: progress(1), ..Commit::default() }).await);
    drop((writer, log));

    let log = ok(KafkaLog::open(config.clone()).await);
    let opened = ok(log.open("roster/0").await);
    assert_eq!(opened.progress, progress(1));
    let mut writer = opened.producer;
    let smaller = large(Topic::Identities, "shrinks", 10, 150_000);
    let larger = large(Topic::Identities, "grows", 11, 450_000);
    let records = vec![smaller.clone(), record(Topic::Identities, 0, "goes", None), larger.clone()];
    ok(writer.commit(commit_of(records)).await);
    // Once is the smaller one smaller still: a message of its own.
    let smallest = large(Topic::Identities, "shrinks", 12, 10);
    ok(writer.commit(commit_of(vec![smallest.clone()])).await);

    let compacting = config.clone();
    let now = i64::try_from(wall_ms()).expect("a time") + 5_000;
    ok(tokio::task::spawn_blocking(move || compact(&compacting, now)).await.expect("it compacts"));
    let raw = raw_records(&config.brokers, &format!("{}.identities", config.prefix), 0);
    let mut keys: Vec<_> = raw.iter().filter(|one| one.value.is_some()).map(|one| one.key.clone()).collect();
    keys.sort();
    let of = |key: &str, pieces: u32| {
        let pieces = (0..pieces).map(|n| format!("{key}\0piece\0{n}")).collect::<Vec<_>>();
        [vec![key.to_owned()], pieces].concat()
    };
    assert_eq!(keys, [of("grows", 4), of("shrinks", 0), of("stays", 3)].concat());
    let mut all: Vec<_> =
        read_from(&log, Topic::Identities, 0, 0).await.into_iter().map(|one| one.record).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    assert!(
        all == [larger, smallest, first[2].clone()],
        "{:?}",
        all.iter().map(|r| &r.key).collect::<Vec<_>>()
    );
}

/// More than the client holds at once: the commit waits for room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_larger_than_the_queue_waits_for_room() {
    let kafka = kafka();
    let client = [("queue.buffering.max.messages".to_owned(), "100".to_owned())].into();
    let config = KafkaLogConfig { client, ..config(&kafka.brokers(), &prefix(), 2) };
    let log = ok(KafkaLog::open(config).await);
    let mut writer = ok(log.open("source").await).producer;
    let value = "x".repeat(1_000);
    let records = (0..10_000_u32)
        .map(|n| record(Topic::IdentityChanges, u16::from(n % 2 == 1), &n.to_string(), Some(&value)))
        .collect();
    let started = Instant::now();
    ok(writer.commit(commit_of(records)).await);
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    for partition in 0..2 {
        let end = ok(log.range(Topic::IdentityChanges, Partition(partition)).await).end;
        let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, partition, 0)).await);
        let all = read_to(&mut *consumer, (Topic::IdentityChanges, Partition(partition)), end).await;
        let keys: Vec<_> =
            all.iter().map(|one| String::from_utf8_lossy(&one.record.key).into_owned()).collect();
        let expected: Vec<_> = (0..5_000).map(|n| (2 * n + u32::from(partition)).to_string()).collect();
        assert!(keys == expected, "{} records", keys.len());
    }
}
