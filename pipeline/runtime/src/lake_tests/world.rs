//! A log in memory that rosters write to, an archive in memory, and a lake's task between them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use rollcall_kit::{FaultyLog, MemoryLimits, MemoryLog, samples};
use rollcall_model::archive::Buffered;
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{Consumer, Fut, LogId, Opened, ReadRange, Record, SourceName, WatermarkRecord};
use rollcall_roster::output::CheckPassed;
use serde::Serialize;

use super::*;
use crate::wiring::LakeBounds;

pub(super) const NAME: &str = "lake";
pub(super) const PARTITIONS: u16 = 2;
const TOPICS: &[Topic] =
    &[Topic::Identities, Topic::Memberships, Topic::MembershipChanges, Topic::SegmentCounts];
const ROW_BYTES: u64 = 100;
const LOOK: Duration = Duration::from_millis(2);
/// How long anything that should happen may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A record of the log: its topic and partition, its commit, its offset.
pub(super) type Row = (At, Seq, u64);

#[derive(Debug)]
struct File {
    first: Seq,
    last: Seq,
    until: Place,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Inner {
    listed: BTreeMap<At, Vec<File>>,
    /// What was noted of the source, and how far everything was listed then.
    noted: Vec<(i64, BTreeMap<At, Seq>)>,
    uploaded: BTreeMap<Cut, Vec<Row>>,
    /// Steps until one fails.
    fuse: u64,
    silent: bool,
    taken: u64,
    resets: u64,
}

/// What lies in the store, whoever writes to it.
#[derive(Clone, Default)]
pub(super) struct Store {
    inner: Arc<Mutex<Inner>>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After so many steps one fails.
    pub(super) fn burn_after(&self, steps: u64) {
        self.lock().fuse = steps;
    }

    /// Whether uploads are never answered.
    pub(super) fn fall_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    pub(super) fn resets(&self) -> u64 {
        self.lock().resets
    }

    /// What was noted of the source.
    pub(super) fn noted_us(&self) -> Vec<i64> {
        self.lock().noted.iter().map(|(at_us, _)| *at_us).collect()
    }

    /// Takes the newest file of each list away.
    pub(super) fn lose_newest(&self) {
        for files in self.lock().listed.values_mut() {
            files.pop();
        }
    }

    /// Lists an empty file, as another writer would.
    pub(super) fn list_as_another(&self, cut: &Cut) {
        let file = File { first: cut.first, last: cut.last, until: cut.until, rows: Vec::new() };
        self.lock().listed.entry((cut.topic, cut.partition)).or_default().push(file);
    }

    /// A step: fails where it is its turn, before or after what it stands beside.
    fn step(&self) -> Result<(), Fault> {
        let mut inner = self.lock();
        if inner.fuse == 0 {
            inner.fuse = u64::MAX;
            return Err(Fault::retry("the fuse has burnt"));
        }
        inner.fuse -= 1;
        Ok(())
    }
}

/// An archive on a store.
struct MemoryArchive {
    store: Store,
    buffers: BTreeMap<At, Vec<Row>>,
}

impl Archive for MemoryArchive {
    fn reads(&self) -> &'static [Topic] {
        TOPICS
    }

    fn prepare<'a>(&'a mut self, _: &'a LogId, _: u16) -> Fut<'a, Vec<(At, Covered)>> {
        Box::pin(async move {
            self.store.step()?;
            let inner = self.store.lock();
            let covered = inner.listed.iter().filter_map(|(at, files)| Some((*at, files.last()?)));
            Ok(covered.map(|(at, file)| (at, Covered { seq: file.last, until: file.until })).collect())
        })
    }

    fn take(&mut self, delivery: &Delivery) -> Result<(), Fault> {
        let at = (delivery.topic, delivery.partition);
        let seq = match &delivery.record {
            OutRecord::Identity(record) => record.seq,
            OutRecord::Membership(record) => record.seq,
            OutRecord::MembershipChange(record) => record.seq,
            OutRecord::Count(record) => record.seq,
            OutRecord::Watermark(_) => panic!("a watermark is kept"),
        };
        let rows = self.buffers.entry(at).or_default();
        let row = (at, seq, delivery.place.offset);
        assert!(rows.last().is_none_or(|last| (last.1, last.2) < (row.1, row.2)), "{row:?} after {rows:?}");
        rows.push(row);
        self.store.lock().taken += 1;
        Ok(())
    }

    fn buffered(&self, at: At) -> Buffered {
        let rows = self.buffers.get(&at).map_or(0, Vec::len) as u64;
        Buffered { rows, bytes: rows * ROW_BYTES }
    }

    fn upload<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, u64> {
        Box::pin(async move {
            if self.store.lock().silent {
                std::future::pending::<()>().await;
            }
            let mut uploaded = 0;
            for cut in cuts {
                self.store.step()?;
                let rows = self.buffers.entry((cut.topic, cut.partition)).or_default();
                let above = rows.split_off(rows.partition_point(|row| row.1 <= cut.last));
                let below = std::mem::replace(rows, above);
                assert!(below.iter().all(|row| row.1 >= cut.first), "{below:?} of {cut:?}");
                uploaded += below.len() as u64;
                self.store.lock().uploaded.insert(*cut, below);
            }
            self.store.step()?;
            Ok(uploaded)
        })
    }

    fn list<'a>(&'a mut self, cuts: &'a [Cut]) -> Fut<'a, ()> {
        Box::pin(async move {
            for cut in cuts {
                self.store.step()?;
                let mut inner = self.store.lock();
                let rows =
                    inner.uploaded.get(cut).cloned().unwrap_or_else(|| panic!("{cut:?} isn't uploaded"));
                let files = inner.listed.entry((cut.topic, cut.partition)).or_default();
                let covered = files.last().map_or(Seq(0), |file| file.last);
                if covered < cut.last {
                    assert_eq!(Seq(covered.0 + 1), cut.first, "{cut:?} goes on where {files:?} ends");
                    files.push(File { first: cut.first, last: cut.last, until: cut.until, rows });
                }
            }
            self.store.step()
        })
    }

    fn note<'a>(&'a mut self, as_of: &'a AsOf) -> Fut<'a, ()> {
        Box::pin(async move {
            self.store.step()?;
            let mut inner = self.store.lock();
            let last = |(at, files): (&At, &Vec<File>)| Some((*at, files.last()?.last));
            let listed = inner.listed.iter().filter_map(last).collect();
            inner.noted.push((as_of[&SourceName::from("core")], listed));
            drop(inner);
            self.store.step()
        })
    }

    fn reset<'a>(&'a mut self, _: &'a LogId) -> Fut<'a, ()> {
        Box::pin(async move {
            let mut inner = self.store.lock();
            inner.listed.clear();
            inner.noted.clear();
            inner.resets += 1;
            Ok(())
        })
    }
}

/// A log whose readers get little at a time, so that commits come in pieces.
struct NarrowLog {
    inner: FaultyLog,
    records_max: usize,
}

impl Log for NarrowLog {
    fn id(&self) -> &LogId {
        self.inner.id()
    }
    fn epoch(&self) -> u32 {
        self.inner.epoch()
    }
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }
    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        self.inner.open(task)
    }
    fn consumer(&self, from: BTreeMap<At, Place>) -> Fut<'_, Box<dyn Consumer>> {
        Box::pin(async move {
            let inner = self.inner.consumer(from).await?;
            Ok(Box::new(NarrowConsumer { inner, records_max: self.records_max }) as Box<dyn Consumer>)
        })
    }
    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        self.inner.range(topic, partition)
    }
    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        self.inner.offset_at(topic, partition, time_ms)
    }
    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        self.inner.tasks()
    }
    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        self.inner.forget(task)
    }
}

struct NarrowConsumer {
    inner: Box<dyn Consumer>,
    records_max: usize,
}

impl Consumer for NarrowConsumer {
    fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>> {
        self.inner.poll(PollLimit { records_max: self.records_max, ..limit })
    }
    fn reached(&self) -> BTreeMap<At, Place> {
        self.inner.reached()
    }
}

pub(super) struct World {
    pub(super) log: MemoryLog,
    pub(super) faults: FaultyLog,
    pub(super) store: Store,
    records_max: usize,
    pub(super) bounds: LakeBounds,
    writer: Option<Box<dyn Producer>>,
    seqs: BTreeMap<Partition, u64>,
    /// With the time at which the source did it: each commit a second after the last.
    written: BTreeMap<Row, i64>,
    now_us: i64,
    bad: usize,
}

fn bytes(value: &impl Serialize) -> Option<Vec<u8>> {
    Some(serde_json::to_vec(value).unwrap_or_else(|e| panic!("{e}")))
}

impl World {
    pub(super) fn new(random: &mut StdRng) -> Self {
        let limits = MemoryLimits { retention_ms: 1, ..MemoryLimits::default() };
        let log = MemoryLog::with_limits("memory", PARTITIONS, limits);
        let store = Store::default();
        store.burn_after(u64::MAX);
        let bounds = LakeBounds {
            age: Duration::from_millis(random.random_range(1..30)),
            file_bytes: random.random_range(1..20) * ROW_BYTES,
            buffer_bytes: random.random_range(20..60) * ROW_BYTES,
        };
        Self {
            faults: FaultyLog::new(Arc::new(log.clone()), []),
            log,
            store,
            records_max: random.random_range(1..12),
            bounds,
            writer: None,
            seqs: BTreeMap::new(),
            written: BTreeMap::new(),
            now_us: 0,
            bad: 0,
        }
    }

    /// One commit of a roster, with what else may stand in the topics.
    pub(super) async fn write(&mut self, random: &mut StdRng) {
        let partition = Partition(random.random_range(0..PARTITIONS));
        let seq = self.seqs.entry(partition).or_default();
        // Not every commit has records of every topic, or any at all.
        *seq += random.random_range(1..3);
        let seq = Seq(*seq);
        self.now_us += 1_000_000;
        let (mut records, mut is_row) = (Vec::new(), Vec::new());
        for topic in TOPICS.iter().copied() {
            for _ in 0..random.random_range(0..5) {
                let (key, value, row) = some((topic, partition), seq, self.now_us, random);
                let bad = value.as_deref() == Some(b"bad".as_slice());
                self.bad += usize::from(bad);
                records.push(Record { topic, partition, key: key.into_bytes(), value, headers: Vec::new() });
                is_row.push(row);
            }
        }
        if self.writer.is_none() {
            self.writer = Some(self.log.open("roster/0").await.unwrap_or_else(|e| panic!("{e}")).producer);
        }
        let Some(writer) = &mut self.writer else { return };
        let topics: Vec<Topic> = records.iter().map(|record| record.topic).collect();
        let committed = writer.commit(Commit { records, progress: None }).await;
        let mut next = committed.unwrap_or_else(|e| panic!("{e}")).first;
        for (topic, is_row) in topics.into_iter().zip(is_row) {
            let at = (topic, partition);
            let Some(place) = next.get_mut(&at) else { continue };
            if is_row {
                self.written.insert((at, seq, place.offset), self.now_us);
            }
            place.offset += 1;
        }
    }

    /// Runs the task until it has begun: the log keeps what it has not read from then on.
    pub(super) async fn begin(&mut self) {
        let (task, log) = (self.task(), self.log.clone());
        let begun = async {
            while log.tasks().await.is_ok_and(|tasks| tasks.is_empty()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! { ended = task => panic!("{ended:?}"), () = begun => {} }
    }

    /// Runs the task for so long; answers the fault that ended it before.
    pub(super) async fn run(&mut self, time: Duration) -> Option<Fault> {
        let task = self.task();
        tokio::select! { ended = task => ended.err(), () = tokio::time::sleep(time) => None }
    }

    /// Runs the task until everything is listed; answers the fault that ended it before.
    pub(super) async fn rest(&mut self) -> Option<Fault> {
        let (task, log) = (self.task(), self.log.clone());
        let rested = async {
            while !is_at_rest(&log).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        let rested = tokio::time::timeout(PATIENCE, rested);
        tokio::select! {
            ended = task => ended.err(),
            rested = rested => { assert!(rested.is_ok(), "it never comes to rest"); None }
        }
    }

    fn task(&self) -> impl Future<Output = Result<(), Fault>> + use<> {
        let store = self.store.clone();
        let wiring = LakeWiring {
            name: NAME.to_owned(),
            start: Box::new(move || {
                let archive = MemoryArchive { store: store.clone(), buffers: BTreeMap::new() };
                Box::pin(async move { Ok(Box::new(archive) as Box<dyn Archive>) })
            }),
            bounds: self.bounds,
        };
        let log = NarrowLog { inner: self.faults.clone(), records_max: self.records_max };
        let task = LakeTask { log: Arc::new(log), wiring: Arc::new(wiring) };
        task.run(Reporter::of_a_test(NAME))
    }

    pub(super) fn written(&self) -> &BTreeMap<Row, i64> {
        &self.written
    }

    /// The files tile from the first commit on, hold every record once and in its range, and progress has read it all.
    pub(super) async fn assert_exact(&mut self) {
        let log = self.log.clone();
        self.assert_files();
        assert!(is_at_rest(&log).await, "the log need not keep what is listed");
    }

    fn assert_files(&self) {
        let mut found = BTreeSet::new();
        let inner = self.store.lock();
        for (at, files) in &inner.listed {
            let mut next = Seq(1);
            for file in files {
                assert!(file.first == next && file.last >= file.first, "{at:?}: {files:#?}");
                next = Seq(file.last.0 + 1);
                for row in &file.rows {
                    assert!((file.first..=file.last).contains(&row.1), "{row:?} in {file:?}");
                    assert!(found.insert(*row), "{row:?} stands twice");
                }
            }
        }
        for (as_of_us, listed) in &inner.noted {
            let is_older = |(_, at_us): &(&Row, &i64)| *at_us <= as_of_us;
            for (row, at_us) in self.written.iter().filter(is_older) {
                let is_listed = listed.get(&row.0).is_some_and(|last| row.1 <= *last);
                assert!(is_listed, "as of {as_of_us} {row:?} of {at_us} was not listed: {listed:?}");
            }
        }
        drop(inner);
        assert_eq!(found, self.written.keys().copied().collect());
        let quarantine = self.log.records(Topic::Quarantine, Partition(0));
        let keys: BTreeSet<_> = quarantine.iter().map(|fetched| fetched.record.key.clone()).collect();
        assert_eq!(keys.len(), self.bad, "each bad record is in quarantine");
    }
}

/// Whether the lake has listed everything, and progress says so.
async fn is_at_rest(log: &MemoryLog) -> bool {
    let tasks = log.tasks().await.unwrap_or_else(|e| panic!("{e}"));
    let Some(progress) = tasks.get(&sink_task::name(NAME)) else { return false };
    if progress.reads.is_empty() {
        return false;
    }
    for ((topic, partition), place) in &progress.reads {
        let range = log.range(*topic, *partition).await.unwrap_or_else(|e| panic!("{e}"));
        if *place != range.end {
            return false;
        }
    }
    true
}

/// Key and value of a record, and whether it is one to keep.
fn some(
    (topic, partition): At,
    seq: Seq,
    at_us: i64,
    random: &mut StdRng,
) -> (String, Option<Vec<u8>>, bool) {
    let key = format!("core/{}", random.random_range(0..6));
    match random.random_range(0..20) {
        0 => return (key, None, false),
        1 => return (key, Some(b"bad".to_vec()), false),
        2 => {
            let record =
                WatermarkRecord { source: "core".into(), partition, position: String::new(), at_us, seq };
            return (format!("{CONTROL_KEY}watermark/core"), bytes(&record), false);
        }
        3 => {
            let passed = CheckPassed { seq, ..samples::checks_passed().remove(0) };
            return (format!("{CONTROL_KEY}check"), bytes(&passed), false);
        }
        _ => {}
    }
    let value = match topic {
        Topic::Identities => {
            let mut record = samples::identities().remove(0);
            record.seq = seq;
            bytes(&record)
        }
        Topic::Memberships => {
            let mut record = samples::memberships().remove(0);
            record.seq = seq;
            bytes(&record)
        }
        Topic::MembershipChanges => {
            let mut record = samples::membership_changes().remove(0);
            record.seq = seq;
            bytes(&record)
        }
        Topic::IdentityChanges
        | Topic::Catalog
        | Topic::CatalogRows
        | Topic::SegmentCounts
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => {
            let mut record = samples::counts().remove(0);
            record.seq = seq;
            bytes(&record)
        }
    };
    (key, value, true)
}
