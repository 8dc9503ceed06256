//! The contract of a log, continued: what consumers see.

use std::collections::BTreeMap;
use std::time::Duration;

use rollcall_model::log::PollLimit;
use rollcall_model::{FaultKind, Partition, Place, Topic};

use super::log::{
    LONG, LogSettings, SETTINGS, UnderTest, commit_of, kind, limit, ok, producer, record, shown, start,
};

/// A consumer that waits gets what is committed meanwhile, long before its time is up.
pub async fn a_commit_wakes_a_waiting_consumer(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let mut consumer = ok(log.consumer(start(Topic::IdentityChanges, 1)).await);
    for n in 0..20_u64 {
        // The poll is polled first: it looks, finds nothing and sleeps before the commits begin.
        let (fetched, ()) = tokio::join!(consumer.poll(limit(10, LONG)), async {
            ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 0, "other", None)])).await);
            ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 1, "mine", None)])).await);
        });
        assert_eq!(shown(&ok(fetched)), [("mine".to_owned(), None)], "commit {n}");
    }
}

/// A poll brings at most so many records, and bytes, but at least one record; all of them in the end.
pub async fn polls_are_bounded(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let value = "x".repeat(1_000);
    for partition in 0..2 {
        let records = (0..50).map(|_| record(Topic::IdentityChanges, partition, "k", Some(&value))).collect();
        ok(writer.commit(commit_of(records)).await);
    }
    let from: BTreeMap<_, _> =
        start(Topic::IdentityChanges, 0).into_iter().chain(start(Topic::IdentityChanges, 1)).collect();
    for (records_max, bytes_max, most) in [(7, usize::MAX, 7), (usize::MAX, 5_500, 5), (3, 1, 1), (1, 1, 1)] {
        let mut consumer = ok(log.consumer(from.clone()).await);
        let mut count = 0;
        while count < 100 {
            let fetched = ok(consumer.poll(PollLimit { records_max, bytes_max, wait: LONG }).await);
            assert!(
                !fetched.is_empty() && fetched.len() <= most,
                "{} records, {most} were asked for",
                fetched.len()
            );
            count += fetched.len();
        }
        let rest = ok(consumer.poll(PollLimit { records_max, bytes_max, wait: Duration::ZERO }).await);
        assert_eq!(rest, Vec::new());
        assert_eq!(count, 100);
    }
}

/// A partition with little in it does not wait behind one with much.
pub async fn polls_are_fair(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let mut records: Vec<_> = (0..500).map(|_| record(Topic::IdentityChanges, 0, "much", None)).collect();
    records.extend((1..4).map(|partition| record(Topic::IdentityChanges, partition, "little", None)));
    ok(writer.commit(commit_of(records)).await);
    let from: BTreeMap<_, _> =
        (0..4).flat_map(|partition| start(Topic::IdentityChanges, partition)).collect();
    for records_max in [4, 1] {
        let mut consumer = ok(log.consumer(from.clone()).await);
        let mut little = 0;
        // What is fetched first is the log's affair; that it is taken in turn, once it is there, is not.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..16 / records_max {
            let fetched = ok(consumer.poll(limit(records_max, LONG)).await);
            little += fetched.iter().filter(|one| one.record.key == b"little").count();
        }
        assert_eq!(little, 3, "the first 16 of 503 records must hold one of each partition");
    }
}

/// Dropping a poll that has not answered yet loses nothing and repeats nothing.
pub async fn a_dropped_poll_loses_nothing(make: &impl Fn(LogSettings) -> UnderTest) {
    const RECORDS: u64 = 120;
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    for _ in 0..RECORDS {
        ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 0, "k", None)])).await);
    }
    let mut consumer = ok(log.consumer(start(Topic::IdentityChanges, 0)).await);
    let mut places = Vec::new();
    for round in 0.. {
        let yields = round % 4;
        let dropping = async {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            // The last round of each four lets the poll come to its end.
            if yields == 3 {
                std::future::pending::<()>().await;
            }
        };
        let fetched = tokio::select! {
            fetched = consumer.poll(limit(3, LONG)) => Some(ok(fetched)),
            () = dropping => None,
        };
        places.extend(fetched.into_iter().flatten().map(|one| one.place));
        if places.len() as u64 >= RECORDS {
            break;
        }
    }
    let all: Vec<_> =
        super::log::read_all(log, Topic::IdentityChanges, 0).await.iter().map(|one| one.place).collect();
    assert_eq!(places, all);
}

/// A place that this log can't have given is an error, never a reset.
pub async fn foreign_places_are_refused(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 0, "k", None)])).await);
    let end = ok(log.range(Topic::IdentityChanges, Partition(0)).await).end.offset;
    let at =
        |epoch, offset| BTreeMap::from([((Topic::IdentityChanges, Partition(0)), Place { epoch, offset })]);
    assert!(ok(log.consumer(at(log.epoch(), end)).await.map(|_| true)), "the end is a good place");
    assert_eq!(kind(log.consumer(at(log.epoch(), end + 100)).await.map(|_| ())), FaultKind::Refused);
    assert_eq!(kind(log.consumer(at(log.epoch() + 1, 0)).await.map(|_| ())), FaultKind::Refused);
    let nowhere = start(Topic::IdentityChanges, SETTINGS.partitions);
    assert_eq!(kind(log.consumer(nowhere).await.map(|_| ())), FaultKind::Bug);
}

/// The first record of a time or later, whatever times stand behind it; the end when all are older. What was removed
/// before it is no place to begin at.
pub async fn a_time_is_found_where_its_first_record_is(make: &impl Fn(LogSettings) -> UnderTest) {
    const NOW_MS: u64 = 1_700_000_000_000;
    let under = make(LogSettings { retention_ms: 10_000, ..SETTINGS });
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let asked = |topic, partition: u16, since_ms| {
        let asking = log.offset_at(topic, Partition(partition), (under.log_ms)(NOW_MS + since_ms));
        async move { ok(asking.await) }
    };
    (under.set_now_ms)(NOW_MS);
    let mut firsts = Vec::new();
    // The clock is set back once: where it can be, the times of the records don't grow with their places.
    for (n, since_ms) in [1_000, 3_000, 2_000, 4_000].into_iter().enumerate() {
        (under.set_now_ms)(NOW_MS + since_ms);
        let records = [Topic::IdentityChanges, Topic::Identities]
            .map(|topic| record(topic, 1, &n.to_string(), Some("there")));
        firsts.push(ok(writer.commit(commit_of(records.to_vec())).await).first);
    }
    for topic in [Topic::IdentityChanges, Topic::Identities] {
        let at = |nth: usize| firsts[nth][&(topic, Partition(1))];
        for (since_ms, nth) in [(0, 0), (500, 0), (1_500, 1), (2_500, 1), (3_500, 3)] {
            assert_eq!(asked(topic, 1, since_ms).await, at(nth), "+ {since_ms} ms in {topic:?}");
        }
        let end = ok(log.range(topic, Partition(1)).await).stable;
        assert_eq!(asked(topic, 1, 60_000).await, end, "all are older");
        let nothing = ok(log.range(topic, Partition(0)).await).stable;
        assert_eq!(asked(topic, 0, 0).await, nothing, "of an empty partition, its end");
    }
    ok((under.retain)(NOW_MS + 12_500).await);
    let start = ok(log.range(Topic::IdentityChanges, Partition(1)).await).start;
    assert!(start > firsts[0][&(Topic::IdentityChanges, Partition(1))], "the first has gone");
    assert_eq!(asked(Topic::IdentityChanges, 1, 0).await, start);
    let nowhere = log.offset_at(Topic::IdentityChanges, Partition(SETTINGS.partitions), 0);
    assert_eq!(kind(nowhere.await), FaultKind::Bug);
}
