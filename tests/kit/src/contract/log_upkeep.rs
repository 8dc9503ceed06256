//! The contract of a log, continued: what becomes of old records.

use std::collections::BTreeMap;

use rollcall_model::{Commit, FaultKind, Log, Partition, Place, Producer, Record, Topic};

use super::log::{
    LogSettings, SETTINGS, UnderTest, assert_places_grow, commit_of, ok, producer, progress_at, read_all,
    read_from, record, shown,
};

/// A time to begin with: nothing depends on it.
const NOW_MS: u64 = 1_700_000_000_000;

async fn put(writer: &mut dyn Producer, topic: Topic, records: &[(&str, Option<&str>)]) {
    let records: Vec<Record> = records.iter().map(|(key, value)| record(topic, 0, key, *value)).collect();
    ok(writer.commit(commit_of(records)).await);
}

fn rows(rows: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
}

async fn all(log: &dyn Log, topic: Topic) -> Vec<(String, Option<String>)> {
    shown(&read_all(log, topic, 0).await)
}

/// The places of all records of a partition, and its end.
async fn places(log: &dyn Log, topic: Topic) -> Vec<Place> {
    let there = read_all(log, topic, 0).await;
    let end = ok(log.range(topic, Partition(0)).await).end;
    there.iter().map(|one| one.place).chain([end]).collect()
}

/// Says that a task has read a partition up to a place.
async fn has_read(log: &dyn Log, task: &str, topic: Topic, place: Place) -> Box<dyn Producer> {
    let mut writer = producer(log, task).await;
    let progress = progress_at(topic, 0, place);
    ok(writer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await);
    writer
}

/// One record per key is left, the newest, where it stood; keys of other partitions are other keys.
pub async fn compaction_keeps_the_newest_of_each_key(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    (under.set_now_ms)(NOW_MS);
    let mut writer = producer(log, "roster/0").await;
    put(&mut *writer, Topic::Identities, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]).await;
    let newer = [("a", Some("3")), ("c", Some("1")), ("b", None)];
    let newer = newer.map(|(key, value)| record(Topic::Identities, 0, key, value)).to_vec();
    let first = ok(writer.commit(commit_of(newer)).await).first[&(Topic::Identities, Partition(0))];
    ok(writer.commit(commit_of(vec![record(Topic::Identities, 1, "a", Some("other"))])).await);
    put(&mut *writer, Topic::IdentityChanges, &[("a", Some("1")), ("a", Some("2"))]).await;
    ok((under.compact)().await);
    let expected = rows(&[("a", Some("3")), ("c", Some("1")), ("b", None)]);
    assert_eq!(all(log, Topic::Identities).await, expected);
    let left = read_all(log, Topic::Identities, 0).await;
    assert_places_grow(log, &left);
    assert_eq!(left[0].place, first, "they stay where they stood");
    assert_eq!(shown(&read_all(log, Topic::Identities, 1).await), rows(&[("a", Some("other"))]));
    assert_eq!(all(log, Topic::IdentityChanges).await.len(), 2, "a time-retained topic is not compacted");
    assert!(ok(log.range(Topic::Identities, Partition(0)).await).end > left[2].place);
    ok((under.compact)().await);
    let under = under.reopened();
    assert_eq!(all(&*under.log, Topic::Identities).await, expected, "again, and after reopening");
}

/// A task that has its place in a compacted topic misses nothing between it and the end.
pub async fn compaction_leaves_what_a_task_has_not_read(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "roster/0").await;
    put(&mut *writer, Topic::SegmentCounts, &[("s", Some("0")), ("s", Some("1"))]).await;
    put(&mut *writer, Topic::SegmentCounts, &[("s", Some("2")), ("s", Some("3"))]).await;
    let places = places(log, Topic::SegmentCounts).await;
    let slow = has_read(log, "counts", Topic::SegmentCounts, places[2]).await;
    drop(has_read(log, "fast", Topic::SegmentCounts, places[4]).await);
    ok((under.compact)().await);
    let expected = rows(&[("s", Some("1")), ("s", Some("2")), ("s", Some("3"))]);
    assert_eq!(all(log, Topic::SegmentCounts).await, expected, "2 and 3 are unread, so 1 is the newest read");
    drop(slow);
    drop(has_read(log, "counts", Topic::SegmentCounts, places[3]).await);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::SegmentCounts).await, expected[1..]);
    ok(log.forget("counts").await);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::SegmentCounts).await, expected[2..], "a forgotten task holds nothing up");
}

/// Passes of compaction in between change nothing about the outcome, many records or few.
pub async fn compaction_again_after_more_commits(make: &impl Fn(LogSettings) -> UnderTest) {
    const KEYS: u64 = 700;
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "roster/0").await;
    let mut newest = BTreeMap::new();
    let mut order = 0;
    for round in 0..5_u64 {
        let mut records = Vec::new();
        for n in 0..KEYS {
            // Another stride in each round, so that keys come in another order and some don't come at all.
            let key = (n * (round + 1)) % KEYS;
            let value = format!("{round}.{n}");
            records.push(record(Topic::Memberships, 0, &key.to_string(), Some(&value)));
            newest.insert(key, (order, key.to_string(), Some(value)));
            order += 1;
        }
        ok(writer.commit(commit_of(records)).await);
        if round % 2 == 0 {
            ok((under.compact)().await);
        }
    }
    ok((under.compact)().await);
    let mut expected: Vec<_> = newest.into_values().collect();
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, key, value)| (key, value)).collect();
    assert_eq!(all(log, Topic::Memberships).await, expected);
    let gone = Place { epoch: log.epoch(), offset: 1 };
    let from = BTreeMap::from([((Topic::Memberships, Partition(0)), gone)]);
    assert_eq!(
        shown(&read_from(log, from).await),
        expected,
        "a place that compaction emptied is still a place"
    );
}

/// A null value removes the key at once, and goes itself when readers had time enough to see it.
pub async fn a_removed_key_goes_after_its_retention(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { tombstone_retention_ms: 1_000, ..SETTINGS });
    let log = &*under.log;
    let mut writer = producer(log, "roster/0").await;
    (under.set_now_ms)(NOW_MS);
    put(&mut *writer, Topic::Identities, &[("a", Some("1")), ("b", Some("1")), ("a", None)]).await;
    (under.set_now_ms)(NOW_MS + 1_000);
    ok((under.compact)().await);
    let expected = rows(&[("b", Some("1")), ("a", None)]);
    assert_eq!(all(log, Topic::Identities).await, expected, "not older than its retention");
    (under.set_now_ms)(NOW_MS + 2_500);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::Identities).await, expected[..1]);
    put(&mut *writer, Topic::Identities, &[("a", Some("2"))]).await;
    ok((under.compact)().await);
    let expected = rows(&[("b", Some("1")), ("a", Some("2"))]);
    assert_eq!(all(log, Topic::Identities).await, expected);
}

/// A key removed and set again is there, whatever becomes of the tombstone in between.
pub async fn a_key_set_again_outlives_its_tombstone(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { tombstone_retention_ms: 1_000, ..SETTINGS });
    let log = &*under.log;
    let mut writer = producer(log, "roster/0").await;
    (under.set_now_ms)(NOW_MS);
    put(&mut *writer, Topic::Catalog, &[("a", Some("1")), ("a", None), ("b", None)]).await;
    ok((under.compact)().await);
    put(&mut *writer, Topic::Catalog, &[("a", Some("2"))]).await;
    (under.set_now_ms)(NOW_MS + 3_000);
    ok((under.compact)().await);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::Catalog).await, rows(&[("a", Some("2"))]));
}

/// However old: a tombstone that a task has not read stays until it has.
pub async fn an_unread_tombstone_stays(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { tombstone_retention_ms: 1_000, ..SETTINGS });
    let log = &*under.log;
    let mut writer = producer(log, "roster/0").await;
    (under.set_now_ms)(NOW_MS);
    put(&mut *writer, Topic::Catalog, &[("a", Some("2")), ("c", None)]).await;
    let places = places(log, Topic::Catalog).await;
    drop(has_read(log, "roster/1", Topic::Catalog, places[1]).await);
    (under.set_now_ms)(NOW_MS + 3_000);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::Catalog).await, rows(&[("a", Some("2")), ("c", None)]), "c is unread");
    drop(has_read(log, "roster/1", Topic::Catalog, places[2]).await);
    ok((under.compact)().await);
    assert_eq!(all(log, Topic::Catalog).await, rows(&[("a", Some("2"))]));
}

/// What is older than its retention goes, from the front.
pub async fn retention_drops_by_age(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { retention_ms: 10_000, ..SETTINGS });
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    for n in 0..4_u64 {
        (under.set_now_ms)(NOW_MS + 1_000 * n);
        put(&mut *writer, Topic::IdentityChanges, &[(&n.to_string(), None)]).await;
        put(&mut *writer, Topic::Catalog, &[(&n.to_string(), Some("kept whatever its age"))]).await;
    }
    ok((under.retain)(NOW_MS + 10_000).await);
    assert_eq!(all(log, Topic::IdentityChanges).await.len(), 4, "none is older yet");
    ok((under.retain)(NOW_MS + 11_500).await);
    assert_eq!(all(log, Topic::IdentityChanges).await, rows(&[("2", None), ("3", None)]));
    let range = ok(log.range(Topic::IdentityChanges, Partition(0)).await);
    let first = read_all(log, Topic::IdentityChanges, 0).await[0].place;
    assert!(
        range.start > Place { epoch: log.epoch(), offset: 0 } && range.start <= first,
        "{range:?} {first:?}"
    );
    assert_eq!(all(log, Topic::Catalog).await.len(), 4);
}

/// When a partition is too large its oldest records go, as many as it takes.
pub async fn retention_drops_by_size(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { retention_bytes_max: 25_000, ..SETTINGS });
    let log = &*under.log;
    (under.set_now_ms)(NOW_MS);
    let mut writer = producer(log, "source").await;
    let value = "x".repeat(10_000);
    for partition in [0, 1] {
        let records = (0..2 + 3 * partition).map(|_| record(Topic::Checks, 0, "k", Some(&value)));
        let changes =
            (0..2 + 3 * partition).map(|_| record(Topic::MembershipChanges, partition, "k", Some(&value)));
        let records = if partition == 0 {
            changes.chain(Vec::new()).collect()
        } else {
            changes.chain(records).collect()
        };
        ok(writer.commit(commit_of(records)).await);
    }
    ok((under.retain)(NOW_MS).await);
    let left = |fetched: Vec<_>| fetched.len();
    assert_eq!(left(read_all(log, Topic::MembershipChanges, 0).await), 2, "20 kB fit");
    assert_eq!(left(read_all(log, Topic::MembershipChanges, 1).await), 2, "of 50 kB, 20 are left");
    assert_eq!(left(read_all(log, Topic::Checks, 0).await), 2);
}

/// However old and large: what a task has not read stays, until it has, or is forgotten.
pub async fn retention_leaves_what_a_task_has_not_read(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { retention_ms: 1, retention_bytes_max: 1, ..SETTINGS });
    let log = &*under.log;
    (under.set_now_ms)(NOW_MS);
    let mut writer = producer(log, "source").await;
    put(&mut *writer, Topic::IdentityChanges, &[("0", None), ("1", None), ("2", None), ("3", None)]).await;
    let places = places(log, Topic::IdentityChanges).await;
    drop(has_read(log, "roster/0", Topic::IdentityChanges, places[1]).await);
    drop(has_read(log, "roster/1", Topic::IdentityChanges, places[3]).await);
    ok((under.retain)(NOW_MS + 9_000).await);
    assert_eq!(ok(log.range(Topic::IdentityChanges, Partition(0)).await).start, places[1]);
    let under = under.reopened();
    let log = &*under.log;
    ok((under.retain)(NOW_MS + 9_000).await);
    let left = rows(&[("1", None), ("2", None), ("3", None)]);
    assert_eq!(all(log, Topic::IdentityChanges).await, left, "the same after reopening");
    ok(log.forget("roster/0").await);
    ok((under.retain)(NOW_MS + 9_000).await);
    assert_eq!(all(log, Topic::IdentityChanges).await, left[2..]);
}

/// A place whose records are gone is an error that says who stands there and what to do; also for an open consumer.
pub async fn reading_below_the_start_is_refused(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { retention_ms: 1, ..SETTINGS });
    let log = &*under.log;
    (under.set_now_ms)(NOW_MS);
    let mut writer = producer(log, "source").await;
    put(&mut *writer, Topic::MembershipChanges, &[("0", None), ("1", None)]).await;
    let from_start = BTreeMap::from([((Topic::MembershipChanges, Partition(0)), Place::default())]);
    let mut consumer = ok(log.consumer(from_start.clone()).await);
    ok((under.retain)(NOW_MS + 9_000).await);
    put(&mut *writer, Topic::MembershipChanges, &[("2", None)]).await;
    let poll = super::log::limit(10, super::log::LONG);
    match consumer.poll(poll).await {
        Err(fault) => assert_eq!(fault.kind, FaultKind::Refused, "{fault}"),
        // Fetched before they went: nothing is left out.
        Ok(fetched) => assert_eq!(fetched[0].record.key, b"0"),
    }
    let Err(fault) = log.consumer(from_start).await else { panic!("offset 0 is gone") };
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.what.contains("membership-changes"), "the topic is named: {fault}");
    assert!(fault.repair.is_some_and(|repair| repair.contains("rollcall rebuild")), "the repair is named");
}

/// A partition of which nothing is left goes on where it was, also after reopening.
pub async fn offsets_never_restart(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(LogSettings { retention_ms: 1, tombstone_retention_ms: 1, ..SETTINGS });
    (under.set_now_ms)(NOW_MS);
    let mut writer = producer(&*under.log, "source").await;
    put(&mut *writer, Topic::IdentityChanges, &[("0", None), ("1", None)]).await;
    put(&mut *writer, Topic::Catalog, &[("0", None), ("0", None)]).await;
    drop(writer);
    (under.set_now_ms)(NOW_MS + 3_000);
    ok((under.retain)(NOW_MS + 9_000).await);
    ok((under.compact)().await);
    assert_eq!(all(&*under.log, Topic::IdentityChanges).await, rows(&[]));
    assert_eq!(all(&*under.log, Topic::Catalog).await, rows(&[]));
    let mut ends = Vec::new();
    for topic in [Topic::IdentityChanges, Topic::Catalog] {
        ends.push(ok(under.log.range(topic, Partition(0)).await).end);
    }
    let under = under.reopened();
    let mut writer = producer(&*under.log, "source").await;
    put(&mut *writer, Topic::IdentityChanges, &[("2", None)]).await;
    put(&mut *writer, Topic::Catalog, &[("2", None)]).await;
    for (topic, end) in [Topic::IdentityChanges, Topic::Catalog].into_iter().zip(ends) {
        let there = read_all(&*under.log, topic, 0).await;
        assert_eq!(shown(&there), rows(&[("2", None)]));
        assert!(end.offset >= 2 && there[0].place >= end, "{} goes on at {end:?}", topic.name());
    }
}
