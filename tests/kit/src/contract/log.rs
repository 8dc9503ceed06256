//! The contract of a log. Every implementation of [`rollcall_model::Log`] runs all of it:
//!
//! ```text
//! rollcall_kit::log_contract!(|settings| my_log_under_test(settings));
//! ```
//!
//! A log whose compaction and retention are its own runs `log_contract!(own_upkeep: …)`, which holds more: where brokers
//! compact, they know no tasks.
//!
//! Each function here is one test on writing; [`crate::contract::log_reading`] has those on reading,
//! [`crate::contract::log_upkeep`] those on what old records become. They take a function that makes an empty log, and
//! panic where the contract is broken.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{
    Commit, Consumer, Fault, FaultKind, Log, Partition, Place, Producer, Progress, Record, Topic,
};

use crate::faulty_log::{FaultyLog, Step};

/// How the suite wants a log made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Its partitions.
    pub partitions: u16,
    /// Age after which records of time-retained topics may go.
    pub retention_ms: u64,
    /// Bytes above which the oldest of a partition may go.
    pub retention_bytes_max: u64,
    /// Age after which tombstones may go.
    pub tombstone_retention_ms: u64,
}

/// Four partitions, everything kept for long.
pub const SETTINGS: LogSettings = LogSettings {
    partitions: 4,
    retention_ms: 1_000_000,
    retention_bytes_max: 1 << 30,
    tombstone_retention_ms: 1_000_000,
};

/// What upkeep does, in its own time.
pub type Work = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// A log with handles on what only a test decides.
pub struct UnderTest {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Sets the time that the next records get.
    pub set_now_ms: Box<dyn Fn(u64) + Send + Sync>,
    /// Compacts what can be compacted.
    pub compact: Box<dyn Fn() -> Work + Send + Sync>,
    /// Drops what retention lets go, as of a time.
    pub retain: Box<dyn Fn(u64) -> Work + Send + Sync>,
    /// The log's own time at one that was set, for what is asked of it by time.
    pub log_ms: Box<dyn Fn(u64) -> u64 + Send + Sync>,
    /// Opens the same log again, after everything else here was dropped.
    pub reopen: Box<dyn FnOnce() -> UnderTest + Send>,
}

impl std::fmt::Debug for UnderTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderTest").field("log", self.log.id()).finish_non_exhaustive()
    }
}

impl UnderTest {
    /// Closes the log and opens it again.
    #[must_use]
    pub fn reopened(self) -> Self {
        let Self { log, set_now_ms, compact, retain, log_ms, reopen } = self;
        drop((log, set_now_ms, compact, retain, log_ms));
        reopen()
    }
}

/// Runs the whole contract: one test per function. Takes a function of [`LogSettings`] that makes an [`UnderTest`].
#[macro_export]
macro_rules! log_contract {
    ($make:expr) => {
        $crate::log_contract!(@in log, $make;
            commits_are_seen_whole_in_all_partitions, a_failed_commit_leaves_nothing,
            order_is_kept_and_answers_are_true, an_empty_commit_is_fine, open_returns_the_last_progress,
            the_newest_opener_fences_older_ones, fencing_survives_reopening, tasks_can_be_listed_and_forgotten,
            ranges_follow_commits, producers_work_side_by_side, a_lost_answer_is_found_out_by_opening_again,
            everything_survives_reopening);
        $crate::log_contract!(@in log_reading, $make;
            a_commit_wakes_a_waiting_consumer, polls_are_bounded, polls_are_fair, a_dropped_poll_loses_nothing,
            foreign_places_are_refused, a_time_is_found_where_its_first_record_is);
        $crate::log_contract!(@in log_upkeep, $make;
            compaction_keeps_the_newest_of_each_key, compaction_again_after_more_commits,
            a_removed_key_goes_after_its_retention, a_key_set_again_outlives_its_tombstone, retention_drops_by_age,
            retention_leaves_what_a_task_has_not_read, reading_below_the_start_is_refused,
            offsets_never_restart);
    };
    // What only a log can promise whose upkeep is all its own.
    (own_upkeep: $make:expr) => {
        $crate::log_contract!($make);
        $crate::log_contract!(@in log_upkeep, $make;
            compaction_leaves_what_a_task_has_not_read, an_unread_tombstone_stays, retention_drops_by_size);
    };
    (@in $suite:ident, $make:expr; $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::contract::$suite::$test(&$make).await;
            }
        )*
    };
}

/// The contract says how it ends; a poll that should find something may wait this long for it.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

pub(crate) fn kind<T>(result: Result<T, Fault>) -> FaultKind {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(fault) => fault.kind,
    }
}

pub(crate) fn limit(records_max: usize, wait: Duration) -> PollLimit {
    PollLimit { records_max, bytes_max: usize::MAX, wait }
}

/// A record without headers, of text.
#[must_use]
pub fn record(topic: Topic, partition: u16, key: &str, value: Option<&str>) -> Record {
    Record {
        topic,
        partition: Partition(partition),
        key: key.as_bytes().to_vec(),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// A commit that moves no progress.
#[must_use]
pub fn commit_of(records: Vec<Record>) -> Commit {
    Commit { records, progress: None }
}

pub(crate) fn start(topic: Topic, partition: u16) -> BTreeMap<(Topic, Partition), Place> {
    BTreeMap::from([((topic, Partition(partition)), Place::default())])
}

pub(crate) fn progress_at(topic: Topic, partition: u16, place: Place) -> Progress {
    Progress {
        reads: BTreeMap::from([((topic, Partition(partition)), place)]),
        state: serde_json::json!({ "at": place.offset }),
    }
}

pub(crate) async fn producer(log: &dyn Log, task: &str) -> Box<dyn Producer> {
    ok(log.open(task).await).producer
}

/// Everything that is there of some partitions, from given places on.
pub(crate) async fn read_from(log: &dyn Log, from: BTreeMap<(Topic, Partition), Place>) -> Vec<Fetched> {
    let mut ends = BTreeMap::new();
    for at in from.keys() {
        ends.insert(*at, ok(log.range(at.0, at.1).await).end);
    }
    let mut consumer = ok(log.consumer(from).await);
    let mut all = Vec::new();
    let until = tokio::time::Instant::now() + LONG;
    while !ends.iter().all(|(at, end)| consumer.reached()[at] >= *end) {
        assert!(tokio::time::Instant::now() < until, "{:?} of {ends:?} reached", consumer.reached());
        all.extend(ok(consumer.poll(limit(100, Duration::from_millis(20))).await));
    }
    all
}

/// Everything that is there of a partition.
pub(crate) async fn read_all(log: &dyn Log, topic: Topic, partition: u16) -> Vec<Fetched> {
    let from = ok(log.range(topic, Partition(partition)).await).start;
    read_from(log, BTreeMap::from([((topic, Partition(partition)), from)])).await
}

/// Key and value as text.
pub(crate) fn shown(fetched: &[Fetched]) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fetched.iter().map(|one| (text(&one.record.key), one.record.value.as_deref().map(text))).collect()
}

/// That places only grow, and are of the log's epoch.
pub(crate) fn assert_places_grow(log: &dyn Log, fetched: &[Fetched]) {
    assert!(fetched.iter().all(|one| one.place.epoch == log.epoch()));
    assert!(fetched.windows(2).all(|two| two[0].place < two[1].place), "places must grow: {fetched:?}");
}

async fn poll_until(consumer: &mut dyn Consumer, count: usize) -> Vec<Fetched> {
    let mut all = Vec::new();
    while all.len() < count {
        let fetched = ok(consumer.poll(limit(count - all.len(), LONG)).await);
        assert!(!fetched.is_empty(), "nothing came, {} of {count} records are there", all.len());
        all.extend(fetched);
    }
    all
}

/// Whoever has seen one record of a commit can read all of it, in whatever partition and topic.
pub async fn commits_are_seen_whole_in_all_partitions(make: &impl Fn(LogSettings) -> UnderTest) {
    const COMMITS: u64 = 100;
    let under = make(SETTINGS);
    let log = Arc::clone(&under.log);
    let mut writer = producer(&*log, "source").await;
    let writing = tokio::spawn(async move {
        for n in 0..COMMITS {
            let value = n.to_string();
            let records = vec![
                record(Topic::IdentityChanges, 0, "a", Some(&value)),
                record(Topic::IdentityChanges, 3, "b", Some(&value)),
                // A key of its own: a broker may compact at any time.
                record(Topic::Catalog, 0, &value, Some(&value)),
            ];
            ok(writer.commit(commit_of(records)).await);
        }
    });
    let others = [(Topic::IdentityChanges, 0), (Topic::Catalog, 0)];
    let mut first = ok(log.consumer(start(Topic::IdentityChanges, 3)).await);
    let mut seen = 0;
    while seen < COMMITS {
        seen += poll_until(&mut *first, 1).await.len() as u64;
        // Not at the same moment, perhaps, but below the end as it is now.
        for (topic, partition) in others {
            let all = read_all(&*log, topic, partition).await;
            let there = all.len() as u64;
            assert!(there >= seen, "{}/{partition} has {there} of {seen} commits", topic.name());
            let value = all[usize::try_from(seen - 1).expect("a small number")].record.value.clone();
            assert_eq!(value, Some((seen - 1).to_string().into_bytes()));
        }
    }
    writing.await.expect("the writer ended");
}

/// A commit that can't be written leaves neither records nor progress, in no partition.
pub async fn a_failed_commit_leaves_nothing(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let bad = Commit {
        records: vec![
            record(Topic::IdentityChanges, 0, "a", Some("1")),
            record(Topic::IdentityChanges, SETTINGS.partitions, "b", Some("1")),
        ],
        progress: Some(Progress::default()),
    };
    assert_eq!(kind(writer.commit(bad).await), FaultKind::Bug);
    assert_eq!(read_all(log, Topic::IdentityChanges, 0).await, Vec::new());
    assert_eq!(ok(log.tasks().await), BTreeMap::new());
    let one_too_many = commit_of(vec![record(Topic::Catalog, 1, "a", None)]);
    assert_eq!(kind(writer.commit(one_too_many).await), FaultKind::Bug);
}

/// Per partition: the order of commits, and inside them the order of records; offsets grow, and a commit's answer says
/// where its first record stands.
pub async fn order_is_kept_and_answers_are_true(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let mut expected: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let mut answers: BTreeMap<u16, Vec<(Place, String)>> = BTreeMap::new();
    for n in 0..30_u16 {
        let mut records = Vec::new();
        let mut first = BTreeMap::new();
        for k in 0..n % 5 {
            let (partition, value) = ((n + k) % 3, format!("{n}.{k}"));
            first.entry(partition).or_insert_with(|| value.clone());
            expected.entry(partition).or_default().push(value.clone());
            records.push(record(Topic::MembershipChanges, partition, "k", Some(&value)));
        }
        let committed = ok(writer.commit(commit_of(records)).await).first;
        assert_eq!(committed.len(), first.len());
        for (partition, value) in first {
            let place = committed[&(Topic::MembershipChanges, Partition(partition))];
            answers.entry(partition).or_default().push((place, value));
        }
    }
    for (partition, values) in expected {
        let fetched = read_all(log, Topic::MembershipChanges, partition).await;
        assert_places_grow(log, &fetched);
        let expected: Vec<_> = values.into_iter().map(|value| ("k".to_owned(), Some(value))).collect();
        assert_eq!(shown(&fetched), expected);
        for (place, value) in &answers[&partition] {
            let there =
                fetched.iter().find(|one| one.place == *place).expect("a record where the answer says");
            assert_eq!(there.record.value.as_deref(), Some(value.as_bytes()));
        }
    }
}

/// Progress moves without records, and nothing at all may be committed too.
pub async fn an_empty_commit_is_fine(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let mut writer = producer(&*under.log, "source").await;
    assert_eq!(ok(writer.commit(Commit::default()).await).first, BTreeMap::new());
    let moved = Commit { records: Vec::new(), progress: Some(Progress::default()) };
    assert_eq!(ok(writer.commit(moved).await).first, BTreeMap::new());
    assert_eq!(ok(under.log.tasks().await).into_keys().collect::<Vec<_>>(), ["source"]);
}

/// A task that opens learns what it last committed, and nothing of other tasks.
pub async fn open_returns_the_last_progress(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let opened = ok(log.open("roster/0").await);
    assert_eq!(opened.progress, None);
    let mut writer = opened.producer;
    let place = Place { epoch: log.epoch(), offset: 0 };
    let progress = progress_at(Topic::IdentityChanges, 0, place);
    ok(writer.commit(Commit { records: Vec::new(), progress: Some(progress.clone()) }).await);
    ok(writer.commit(commit_of(vec![record(Topic::Identities, 0, "a", None)])).await);
    assert_eq!(ok(log.open("roster/0").await).progress, Some(progress));
    assert_eq!(ok(log.open("roster/1").await).progress, None);
}

/// Older producers of a task fail with `Fenced`, and nothing of what they wanted is there.
pub async fn the_newest_opener_fences_older_ones(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut old = producer(log, "roster/0").await;
    let mut other = producer(log, "roster/1").await;
    let mut new = producer(log, "roster/0").await;
    let late = Commit {
        records: vec![record(Topic::Identities, 0, "a", Some("late"))],
        progress: Some(Progress::default()),
    };
    assert_eq!(kind(old.commit(late.clone()).await), FaultKind::Fenced);
    ok(new.commit(commit_of(vec![record(Topic::Identities, 0, "a", Some("new"))])).await);
    ok(other.commit(commit_of(vec![record(Topic::Identities, 0, "b", Some("other"))])).await);
    assert_eq!(kind(old.commit(late).await), FaultKind::Fenced);
    let expected = [("a".to_owned(), Some("new".to_owned())), ("b".to_owned(), Some("other".to_owned()))];
    assert_eq!(shown(&read_all(log, Topic::Identities, 0).await), expected);
    assert_eq!(ok(log.tasks().await), BTreeMap::new());
}

/// A producer of before never writes into a log that was opened again.
pub async fn fencing_survives_reopening(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let mut old = producer(&*under.log, "roster/0").await;
    ok(old.commit(commit_of(vec![record(Topic::Identities, 0, "a", Some("1"))])).await);
    let under = under.reopened();
    let mut new = producer(&*under.log, "roster/0").await;
    assert!(old.commit(commit_of(vec![record(Topic::Identities, 0, "a", Some("2"))])).await.is_err());
    ok(new.commit(commit_of(vec![record(Topic::Identities, 0, "a", Some("3"))])).await);
    let mut newest = producer(&*under.log, "roster/0").await;
    assert_eq!(kind(new.commit(Commit::default()).await), FaultKind::Fenced);
    ok(newest.commit(Commit::default()).await);
    let values: Vec<_> =
        shown(&read_all(&*under.log, Topic::Identities, 0).await).into_iter().map(|r| r.1).collect();
    assert_eq!(values, [Some("1".to_owned()), Some("3".to_owned())]);
}

/// `tasks` has those with progress; a forgotten one is gone, and its writer with it.
pub async fn tasks_can_be_listed_and_forgotten(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let progress = progress_at(Topic::IdentityChanges, 2, Place { epoch: log.epoch(), offset: 0 });
    let mut gone = producer(log, "gone").await;
    let mut stays = producer(log, "stays").await;
    drop(producer(log, "silent").await);
    for writer in [&mut gone, &mut stays] {
        ok(writer.commit(Commit { records: Vec::new(), progress: Some(progress.clone()) }).await);
    }
    assert_eq!(ok(log.tasks().await).into_keys().collect::<Vec<_>>(), ["gone", "stays"]);
    ok(log.forget("gone").await);
    ok(log.forget("never there").await);
    assert_eq!(ok(log.tasks().await), BTreeMap::from([("stays".to_owned(), progress)]));
    assert_eq!(kind(gone.commit(Commit::default()).await), FaultKind::Fenced);
    assert_eq!(ok(log.open("gone").await).progress, None);
    let under = under.reopened();
    assert_eq!(ok(under.log.tasks().await).into_keys().collect::<Vec<_>>(), ["stays"]);
}

/// `range` is what a consumer finds.
pub async fn ranges_follow_commits(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let log = &*under.log;
    let mut writer = producer(log, "source").await;
    let mut end = Place { epoch: log.epoch(), offset: 0 };
    for n in 0..5_usize {
        let range = ok(log.range(Topic::IdentityChanges, Partition(2)).await);
        assert_eq!((range.start.offset, range.start.epoch), (0, log.epoch()));
        assert!(range.stable <= range.end && (n == 0 || range.end > end), "{range:?} after {end:?}");
        end = range.end;
        assert_eq!(read_all(log, Topic::IdentityChanges, 2).await.len(), n);
        ok(writer.commit(commit_of(vec![record(Topic::IdentityChanges, 2, "k", None)])).await);
        let from_here = BTreeMap::from([((Topic::IdentityChanges, Partition(2)), range.stable)]);
        assert_eq!(
            read_from(log, from_here).await.len(),
            1,
            "what was committed after the range was asked for"
        );
    }
    assert_eq!(ok(log.range(Topic::IdentityChanges, Partition(1)).await).end.offset, 0);
    assert_eq!(kind(log.range(Topic::Catalog, Partition(1)).await), FaultKind::Bug);
}

/// Many tasks commit at once: no offset twice, no gap, each task's own order, every answer true.
pub async fn producers_work_side_by_side(make: &impl Fn(LogSettings) -> UnderTest) {
    const TASKS: usize = 8;
    const COMMITS: usize = 40;
    let under = make(SETTINGS);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let mut writer = producer(&*under.log, &format!("roster/{task}")).await;
        tasks.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..COMMITS {
                let (key, value) = (task.to_string(), n.to_string());
                let records = vec![record(Topic::MembershipChanges, 1, &key, Some(&value)); 2];
                let committed = ok(writer.commit(commit_of(records)).await);
                let place = committed.first.get(&(Topic::MembershipChanges, Partition(1))).copied();
                answers.push((place.expect("an answer for the partition").offset, key, Some(value)));
            }
            answers
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        answers.extend(done.expect("a writer ended"));
    }
    answers.sort();
    let fetched = read_all(&*under.log, Topic::MembershipChanges, 1).await;
    assert_places_grow(&*under.log, &fetched);
    assert_eq!(fetched.len(), 2 * TASKS * COMMITS);
    for (offset, key, value) in answers {
        let at = fetched
            .iter()
            .position(|one| one.place.offset == offset)
            .expect("a record where the answer says");
        let [first, second] = &shown(&fetched[at..at + 2])[..] else { panic!("two records") };
        assert_eq!((first, second), (&(key.clone(), value.clone()), &(key, value)));
    }
    let first_of_each: Vec<_> = shown(&fetched).into_iter().step_by(2).collect();
    for task in 0..TASKS {
        let own =
            first_of_each.iter().filter(|one| one.0 == task.to_string()).filter_map(|one| one.1.clone());
        assert_eq!(own.collect::<Vec<_>>(), (0..COMMITS).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

/// "Try again" may mean written or not: opening again tells which, and everything is there exactly once.
pub async fn a_lost_answer_is_found_out_by_opening_again(make: &impl Fn(LogSettings) -> UnderTest) {
    const COMMITS: u64 = 6;
    let under = make(SETTINGS);
    let script =
        [Step::Pass, Step::FailBefore, Step::LoseAnswer, Step::LoseAnswer, Step::Pass, Step::FailBefore];
    let log = FaultyLog::new(Arc::clone(&under.log), script);
    let mut tries = 0;
    'open: loop {
        let opened = ok(log.open("source").await);
        let mut writer = opened.producer;
        let done = opened.progress.map_or(0, |progress| progress.state["done"].as_u64().expect("a number"));
        for n in done..COMMITS {
            tries += 1;
            let commit = Commit {
                records: vec![record(Topic::IdentityChanges, 0, &n.to_string(), None)],
                progress: Some(Progress {
                    reads: BTreeMap::new(),
                    state: serde_json::json!({ "done": n + 1 }),
                }),
            };
            match writer.commit(commit).await {
                Ok(_) => {}
                Err(fault) if fault.kind == FaultKind::Retry => continue 'open,
                Err(fault) => panic!("{fault}"),
            }
        }
        break;
    }
    assert_eq!((tries, log.steps_left()), (COMMITS + 2, 0), "two of the tries were not written");
    let keys: Vec<_> =
        shown(&read_all(&log, Topic::IdentityChanges, 0).await).into_iter().map(|r| r.0).collect();
    assert_eq!(keys, (0..COMMITS).map(|n| n.to_string()).collect::<Vec<_>>());
    let fenced = FaultyLog::new(Arc::clone(&under.log), [Step::Fence]);
    assert_eq!(kind(producer(&fenced, "source").await.commit(Commit::default()).await), FaultKind::Fenced);
}

/// What was acknowledged is there after closing and opening, as it was; offsets go on.
pub async fn everything_survives_reopening(make: &impl Fn(LogSettings) -> UnderTest) {
    let under = make(SETTINGS);
    let id = under.log.id().clone();
    let mut writer = producer(&*under.log, "source").await;
    let whole = Record {
        headers: vec![("lane".to_owned(), "core/slot@1".to_owned()), (String::new(), "é\0".to_owned())],
        ..record(Topic::Identities, 3, "core/1\0", Some("{\"a\": \"\\u0000\"}"))
    };
    let records = vec![
        whole.clone(),
        record(Topic::Identities, 3, "", None),
        record(Topic::Identities, 3, "b", Some("")),
    ];
    let progress = progress_at(Topic::IdentityChanges, 0, Place { epoch: under.log.epoch(), offset: 0 });
    ok(writer.commit(Commit { records: records.clone(), progress: Some(progress.clone()) }).await);
    drop(writer);
    let under = under.reopened();
    assert_eq!(*under.log.id(), id);
    let fetched = read_all(&*under.log, Topic::Identities, 3).await;
    assert_eq!(fetched.iter().map(|one| one.record.clone()).collect::<Vec<_>>(), records);
    let opened = ok(under.log.open("source").await);
    assert_eq!(opened.progress, Some(progress));
    let mut writer = opened.producer;
    let committed = ok(writer.commit(commit_of(vec![whole])).await);
    let last = fetched.last().expect("three records").place;
    assert!(committed.first.values().all(|place| *place > last), "{committed:?} after {last:?}");
}
