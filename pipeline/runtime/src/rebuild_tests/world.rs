//! Rosters that write random histories, and what must be in every table and store at their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_kit::{MemoryLimits, MemoryLog};
use rollcall_model::archive::{ArchiveReader, Archived, Covered};
use rollcall_model::{
    Cause, Commit, CountRecord, CountState, Delivery, Fault, Fingerprint, IdentityKey, IdentityRecord,
    IdentityState, Image, Log, LogId, Member, MembershipChange, MembershipRecord, NativeId, OutRecord,
    Partition, Place, Progress, Record, Seen, Seq, Topic, Traits, Version,
};
use rollcall_roster::RosterState;
use serde::Serialize;

use super::doubles::{Kept, MemoryArchive, MemorySink, StepLog, Steps, Tables, lock};
use crate::archives::Archives;
use crate::received::decode;
use crate::sink_task::{self, SinkTask};
use crate::tasks::{TaskBody, Tasks};
use crate::wiring::{FlushBounds, OpenArchive, SinkWiring};

pub(super) const PARTITIONS: u16 = 2;
pub(super) const LAKE: &str = "lake";
const SEGMENTS: [&str; 3] = ["1", "2", "3"];
const MIRROR: &[Topic] = &[Topic::Identities, Topic::MembershipChanges];
const COUNTS: &[Topic] = &[Topic::SegmentCounts];
const TOPICS: [Topic; 3] = [Topic::Identities, Topic::Memberships, Topic::SegmentCounts];
/// A commit is a second.
const TOMBSTONE_MS: u64 = 40_000;
pub(super) const FOR_EVER: Duration = Duration::from_secs(3_600 * 24 * 365 * 1_000);

pub(super) fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

/// An identity as it is.
#[derive(Clone, Default)]
struct Identity {
    version: i64,
    lives: bool,
    set: BTreeSet<&'static str>,
    /// When it was deleted, in commits.
    deleted_at: u64,
}

pub(super) struct World {
    pub(super) memory: MemoryLog,
    pub(super) log: Arc<dyn Log>,
    pub(super) steps: Steps,
    pub(super) kept: Arc<Mutex<Kept>>,
    /// What the lake is when it is opened next.
    pub(super) archive: Arc<Mutex<Option<MemoryArchive>>>,
    pub(super) random: StdRng,
    identities: BTreeMap<i64, Identity>,
    seqs: BTreeMap<u16, u64>,
    tasks: Tasks,
    now_ms: u64,
    pub(super) tombstone_retention: Duration,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let limits = MemoryLimits { retention_ms: 20_000, ..MemoryLimits::default() };
        let memory = MemoryLog::with_limits("log", PARTITIONS, limits);
        let steps = Steps::default();
        Self {
            log: Arc::new(StepLog { inner: memory.clone(), steps: steps.clone() }),
            memory,
            steps,
            kept: Arc::default(),
            archive: Arc::default(),
            random: StdRng::seed_from_u64(seed),
            identities: BTreeMap::new(),
            seqs: BTreeMap::new(),
            tasks: Tasks::default(),
            now_ms: 1_000,
            tombstone_retention: FOR_EVER,
        }
    }

    /// So many commits of rosters.
    pub(super) async fn commit(&mut self, commits: usize) {
        for _ in 0..commits {
            self.commit_one().await;
        }
    }

    async fn commit_one(&mut self) {
        let id = self.random.random_range(0..8_i64);
        let partition = (id % i64::from(PARTITIONS)) as u16;
        let before = self.identities.get(&id).cloned().unwrap_or_default();
        let seq = self.seqs.entry(partition).or_default();
        *seq += 1;
        let seq = Seq(*seq);
        self.now_ms += 1_000;
        self.memory.set_now_ms(self.now_ms);
        let key = IdentityKey { source: "core".into(), id: NativeId::Int(id) }.to_string();
        let mut records = Vec::new();
        let mut put = |topic, key: &str, value: Option<Vec<u8>>| {
            let (key, headers) = (key.as_bytes().to_vec(), Vec::new());
            records.push(Record { topic, partition: Partition(partition), key, value, headers });
        };
        let mut now = Identity { version: before.version + 1, ..Identity::default() };
        // As tombstones are kept longer than a lake is behind.
        let is_old = self.now_ms > before.deleted_at + TOMBSTONE_MS;
        if before.version > 0 && !before.lives && is_old && self.random.random_bool(0.5) {
            put(Topic::Identities, &key, None);
            put(Topic::Memberships, &key, None);
            now = before.clone();
        } else {
            now.lives = self.random.random_bool(0.6);
            now.deleted_at = self.now_ms;
            if now.lives {
                now.set = SEGMENTS.into_iter().filter(|_| self.random.random_bool(0.5)).collect();
            }
            put(Topic::Identities, &key, json(&identity(id, partition, seq, &now)));
            // A commit need not touch every topic.
            if now.set != before.set {
                put(Topic::Memberships, &key, json(&set_of(id, seq, &now)));
                put(Topic::MembershipChanges, &key, json(&change(id, seq, &before.set, &now)));
            }
        }
        self.identities.insert(id, now);
        for segment in SEGMENTS {
            let count = count(&self.identities, segment, partition);
            let record = CountRecord {
                log_id: LogId("log".to_owned()),
                segment_id: segment.into(),
                environment_id: "7".into(),
                partition: Partition(partition),
                count,
                fingerprint: Fingerprint(count),
                seq,
                state: CountState::Live,
            };
            put(Topic::SegmentCounts, &format!("{segment}/7/{partition}"), json(&record));
        }
        let state = RosterState { seq, ..RosterState::default() };
        let state = serde_json::to_value(state).unwrap_or_default();
        let progress = Some(Progress { reads: BTreeMap::new(), state });
        let mut opened = ok(self.memory.open(&format!("roster/{partition}")).await);
        ok(opened.producer.commit(Commit { records, progress }).await);
    }

    /// The last commit of a roster.
    pub(super) fn seq(&self, partition: Partition) -> Seq {
        Seq(self.seqs.get(&partition.0).copied().unwrap_or_default())
    }

    /// The lake takes everything that is in the log by now.
    pub(super) fn archive_now(&mut self) {
        let mut archive = MemoryArchive {
            log_id: LogId("log".to_owned()),
            files: BTreeMap::new(),
            holds: Vec::new(),
            steps: self.steps.clone(),
        };
        for (topic, partition) in parts() {
            let mut files: Vec<Vec<Delivery>> = Vec::new();
            let mut until = Place::default();
            for fetched in self.memory.records(topic, partition) {
                until = Place { offset: fetched.place.offset + 1, ..fetched.place };
                let Some(value) = &fetched.record.value else { continue };
                let record = decode(&fetched.record, value).unwrap_or_else(|e| panic!("{e}"));
                let delivery = Delivery { topic, partition, place: fetched.place, record };
                match files.last_mut() {
                    Some(file) if self.random.random_bool(0.8) => file.push(delivery),
                    Some(_) | None => files.push(vec![delivery]),
                }
            }
            if topic == Topic::Identities {
                // Who moved stands in the order of environments.
                files.iter_mut().for_each(|file| file.reverse());
            }
            let rows = files.iter().map(Vec::len).sum::<usize>() as u64;
            let covered = Covered { seq: self.seq(partition), until };
            let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
            archive.holds.push(Archived { topic, partition, covered, files: count, rows, bytes: rows });
            archive.files.insert((topic, partition), files);
        }
        *lock(&self.archive) = Some(archive);
    }

    /// The log forgets what it may.
    pub(super) fn tidy(&self) {
        self.memory.compact_now();
        self.memory.retain_now(self.now_ms);
    }

    pub(super) fn archives(&self) -> Archives {
        let archive = Arc::clone(&self.archive);
        let open: OpenArchive = Box::new(move |_pin| {
            let opened = lock(&archive).clone().ok_or_else(|| Fault::retry("no lake"));
            Box::pin(async move { Ok(Box::new(opened?) as Box<dyn ArchiveReader>) })
        });
        Archives::new(BTreeMap::from([(LAKE.to_owned(), open)]))
    }

    /// Starts a sink's task.
    pub(super) fn start(&self, sink: &str) {
        let reads = if sink == "counts" { COUNTS } else { MIRROR };
        let (kept, steps) = (Arc::clone(&self.kept), self.steps.clone());
        let wiring = SinkWiring {
            name: sink.to_owned(),
            start: Box::new(move || {
                let sink = MemorySink { reads, kept: Arc::clone(&kept), steps: steps.clone() };
                Box::pin(async move { Ok(Box::new(sink) as _) })
            }),
            lists_members: true,
            flush: FlushBounds { rows: 5, bytes: 1 << 20, age: Duration::from_millis(1) },
            reconcile_every: None,
        };
        let task = SinkTask {
            log: Arc::clone(&self.log),
            wiring: Arc::new(wiring),
            archives: self.archives(),
            tombstone_retention: self.tombstone_retention,
        };
        let body: TaskBody = Box::new(move |reporter| Box::pin(task.clone().run(reporter)));
        self.tasks.start(&sink_task::name(sink), false, Arc::new(body));
    }

    pub(super) fn kill(&self, sink: &str) {
        self.tasks.kill(&sink_task::name(sink));
    }

    /// What a task shows.
    pub(super) fn fact(&self, sink: &str, name: &str) -> Option<serde_json::Value> {
        self.tasks.board().snapshot().get(&sink_task::name(sink))?.facts.get(name).cloned()
    }

    /// What a task failed with.
    pub(super) fn error(&self, sink: &str) -> Option<String> {
        self.tasks.board().snapshot().get(&sink_task::name(sink))?.error.clone()
    }

    /// Until the sink is live and has taken everything.
    pub(super) async fn at_rest(&self, sink: &str) {
        loop {
            let progress = ok(self.log.tasks().await).remove(&sink_task::name(sink));
            if let Some(progress) = progress.filter(|progress| !progress.reads.is_empty()) {
                let state = ok(sink_task::read_state(progress.state));
                let mut is_at_end = state.bootstrap.is_none() && !state.reset;
                for ((topic, partition), place) in &progress.reads {
                    is_at_end &= *place >= ok(self.log.range(*topic, *partition).await).end;
                }
                if is_at_end {
                    return;
                }
            }
            assert_eq!(self.error(sink), None, "{sink}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Compares what readers see with what is.
    pub(super) fn assert_shown(&self, sink: &str, what: &str) {
        let kept = lock(&self.kept);
        let (identities, members, counts) = kept.shown.seen();
        if sink == "counts" {
            let mut expected = BTreeMap::new();
            for (segment, partition) in SEGMENTS.iter().flat_map(|s| (0..PARTITIONS).map(|p| (*s, p))) {
                let count = count(&self.identities, segment, partition);
                if count > 0 {
                    expected.insert((segment, partition), count);
                }
            }
            assert_eq!(counts, expected, "{what}");
            return;
        }
        let mut living: Vec<_> =
            self.identities.iter().filter(|(_, i)| i.lives).map(|(id, _)| id.to_string()).collect();
        living.sort();
        assert_eq!(identities, living, "{what}");
        let mut sets: Vec<(&str, String)> = Vec::new();
        for (id, identity) in &self.identities {
            sets.extend(identity.set.iter().map(|segment| (*segment, id.to_string())));
        }
        sets.sort();
        assert_eq!(members, sets.iter().map(|(s, id)| (*s, id.as_str())).collect::<Vec<_>>(), "{what}");
    }

    /// Puts something into the tables that a rebuild has to take away.
    pub(super) fn spoil(&self) {
        lock(&self.kept).shown = Tables::default();
    }
}

pub(super) fn parts() -> impl Iterator<Item = (Topic, Partition)> {
    TOPICS.into_iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, Partition(partition))))
}

fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    Some(serde_json::to_vec(value).unwrap_or_else(|e| panic!("{e}")))
}

fn count(identities: &BTreeMap<i64, Identity>, segment: &str, partition: u16) -> u64 {
    let own = identities.iter().filter(|(id, _)| *id % i64::from(PARTITIONS) == i64::from(partition));
    own.filter(|(_, identity)| identity.set.contains(segment)).count() as u64
}

pub(super) fn bogus() -> OutRecord {
    let lives = Identity { version: 1, lives: true, ..Identity::default() };
    OutRecord::Identity(identity(4_711, 0, Seq(1), &lives))
}

fn identity(id: i64, partition: u16, seq: Seq, now: &Identity) -> IdentityRecord {
    let image = Image {
        environment_id: "7".into(),
        identifier: format!("i{id}"),
        traits: Traits::new(),
        system_traits: Traits::new(),
    };
    IdentityRecord {
        log_id: LogId("log".to_owned()),
        partition: Partition(partition),
        seq,
        version: Version(now.version),
        deleted: !now.lives,
        source: "core".into(),
        id: NativeId::Int(id),
        environment_key: Some("key".to_owned()),
        identity_key: Some(format!("key_{id}")),
        state: if now.lives { IdentityState::Live(image) } else { IdentityState::Deleted },
        left_environment_keys: BTreeSet::new(),
        place: Place { epoch: 0, offset: seq.0 },
        parked: Vec::new(),
        seen: Seen::default(),
    }
}

fn set_of(id: i64, seq: Seq, now: &Identity) -> MembershipRecord {
    let member = |segment: &&str| Member {
        segment_id: (*segment).into(),
        since_us: now.version,
        sources: vec!["rule".to_owned()],
    };
    MembershipRecord {
        log_id: LogId("log".to_owned()),
        seq,
        version: Version(now.version),
        source: "core".into(),
        id: NativeId::Int(id),
        environment_id: "7".into(),
        environment_key: "key".to_owned(),
        identifier: format!("i{id}"),
        segments: now.set.iter().map(member).collect(),
    }
}

fn change(id: i64, seq: Seq, before: &BTreeSet<&'static str>, now: &Identity) -> MembershipChange {
    MembershipChange {
        event_id: format!("log-{seq:?}"),
        log_id: LogId("log".to_owned()),
        environment_id: "7".into(),
        environment_key: "key".to_owned(),
        source: "core".into(),
        id: NativeId::Int(id),
        identifier: format!("i{id}"),
        identity_key: format!("key_{id}"),
        version: Version(now.version),
        seq,
        changed: BTreeSet::new(),
        entered: now.set.difference(before).map(|s| (*s).into()).collect(),
        left: before.difference(&now.set).map(|s| (*s).into()).collect(),
        cause: Cause::Change,
        at_us: now.version,
        position: String::new(),
    }
}
