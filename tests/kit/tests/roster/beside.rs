//! Backfills beside a stream that brings whole images, told apart by time alone (DynamoDB): whatever is read, late, lost
//! or read again, what is stored in the end is what the table holds.
//!
//! Shows C08 (replay), the repair of a gap that wins over what was streamed before it, deletes that no backfill brings
//! back, and identities that went while nobody looked (PROTOCOL.md §4, Scan and Export).

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use rollcall_kit::MemoryStore;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{
    BackfillId, CatalogDoc, Change, ChangeRecord, Condition, EnvironmentDoc, IdentityKey, IdentityRecord,
    Image, Input, LogId, MembershipRecord, NativeId, Partition, Place, Precedence, Progress, Rule, RuleType,
    SegmentDoc, Topic, Traits, Value,
};
use rollcall_roster::counts::Counts;
use rollcall_roster::{CatalogBuilder, Roster, RosterState, Stored, StoredState, Turn};

const SECOND_US: i64 = 1_000_000;
/// What a backfill's time is put back by: more than the second that the stream's times hide.
const SLACK_US: i64 = 2 * SECOND_US;
const IDS: i64 = 6;
/// Before everything that happens, so that no time is negative.
const BEGINNING_US: i64 = 1_000 * SECOND_US;

#[derive(Clone, Debug)]
enum Op {
    Write {
        id: i64,
        value: Option<i64>,
    },
    Wait {
        ms: i64,
    },
    /// The stream's oldest records reach the log.
    Deliver {
        records: usize,
    },
    /// The stream's oldest records are lost: nothing but a backfill can bring what they said.
    Lose {
        records: usize,
    },
    /// A scan begins, if none is under way.
    Scan,
    /// It reads its next page; what it read may come much later.
    Read,
    /// Its oldest page that was read enters.
    Enter,
    /// An export as of now is made, to be read later.
    Export,
    /// It is read: all of it at once.
    ReadExport,
    /// The roster reads what the log has.
    Process {
        inputs: usize,
    },
    /// Some inputs come again, to a roster that is past them.
    Rewind {
        inputs: usize,
    },
    /// The store is lost, and filled from what was emitted.
    LoseStore,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..IDS, prop::option::weighted(0.7, 0..3_i64)).prop_map(|(id, value)| Op::Write { id, value }),
        3 => (0..3_000_i64).prop_map(|ms| Op::Wait { ms }),
        4 => (1..5_usize).prop_map(|records| Op::Deliver { records }),
        1 => (1..4_usize).prop_map(|records| Op::Lose { records }),
        2 => Just(Op::Scan),
        4 => Just(Op::Read),
        4 => Just(Op::Enter),
        1 => Just(Op::Export),
        1 => Just(Op::ReadExport),
        3 => (1..8_usize).prop_map(|inputs| Op::Process { inputs }),
        1 => (1..8_usize).prop_map(|inputs| Op::Rewind { inputs }),
        1 => Just(Op::LoseStore),
    ]
}

struct Page {
    found: Vec<(i64, i64)>,
    cut_us: i64,
    last: bool,
}

struct Scan {
    id: BackfillId,
    since_us: i64,
    next: i64,
    held: VecDeque<Page>,
}

struct World {
    clock_us: i64,
    truth: BTreeMap<i64, i64>,
    stream: VecDeque<(i64, Option<i64>, i64)>,
    inputs: Vec<Input>,
    scan: Option<Scan>,
    scans: u32,
    export: Option<(BTreeMap<i64, i64>, i64)>,
    /// The end of what was lost; only a backfill of a later time brings it.
    gap_us: Option<i64>,
    roster: Roster,
    store: MemoryStore,
    done: usize,
    emitted: Vec<(Topic, Vec<u8>)>,
}

fn source() -> rollcall_model::SourceName {
    "edge".into()
}

fn catalog() -> CatalogBuilder {
    let environment = |id: i64, owner: &str, name: &str| {
        CatalogDoc::Environment(EnvironmentDoc {
            id: id.into(),
            key: name.to_owned(),
            name: name.to_owned(),
            project_id: 1.into(),
            organisation_id: 1.into(),
            owner: owner.into(),
            called: [(source(), name.into())].into(),
            composite_identity_key: true,
            deleted: false,
        })
    };
    let condition = Condition {
        operator: "EQUAL".to_owned(),
        property: Some("value".to_owned()),
        value: Some("1".to_owned()),
    };
    let rule = Rule { rule_type: RuleType::All, conditions: vec![condition], rules: Vec::new() };
    let segment = SegmentDoc {
        id: 9.into(),
        project_id: 1.into(),
        name: "nine".to_owned(),
        rules: vec![rule],
        invalid: None,
        deleted: false,
    };
    let mut builder = CatalogBuilder::default();
    for doc in
        [environment(7, "edge", "seven"), environment(8, "core", "eight"), CatalogDoc::Segment(segment)]
    {
        builder.apply(CatalogEntry { writer: "core".into(), number: 1, doc });
    }
    builder
}

fn roster(state: RosterState, counts: Counts) -> Roster {
    let mut roster =
        Roster::new(LogId("log".into()), Partition(0), state, counts, 36 * 24 * 3_600 * SECOND_US)
            .with_scan_rows(2);
    roster.set_catalog(catalog().snapshot());
    roster
}

fn image(id: i64, value: i64) -> Image {
    Image {
        // Every third lives where another source judges: kept, and nobody's member.
        environment_id: if id % 3 == 2 { "eight".into() } else { "seven".into() },
        identifier: format!("user{id}"),
        traits: Traits::from([("value".to_owned(), Value::Int(value))]),
        system_traits: Traits::new(),
    }
}

fn record(id: i64, value: Option<i64>, at_us: i64) -> ChangeRecord {
    ChangeRecord {
        source: source(),
        id: NativeId::Text(format!("key{id}").into()),
        change: value.map_or(Change::Delete, |value| Change::Upsert { image: image(id, value) }),
        source_time_us: at_us,
        position: String::new(),
        backfill: None,
        precedence: Precedence::Streamed,
    }
}

impl World {
    fn new() -> Self {
        Self {
            clock_us: BEGINNING_US,
            truth: BTreeMap::new(),
            stream: VecDeque::new(),
            inputs: vec![Input::Catalog { writer: "core".into(), number: 1 }],
            scan: None,
            scans: 0,
            export: None,
            gap_us: None,
            roster: roster(RosterState::default(), Counts::default()),
            store: MemoryStore::default(),
            done: 0,
            emitted: Vec::new(),
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Write { id, value } => self.write(*id, *value),
            Op::Wait { ms } => self.clock_us += ms * 1_000,
            Op::Deliver { records } => self.deliver(*records),
            Op::Lose { records } => {
                for (_, _, at_us) in self.stream.drain(..(*records).min(self.stream.len())) {
                    self.gap_us = Some(at_us + SECOND_US);
                }
            }
            Op::Scan => self.begin_scan(),
            Op::Read => self.read(),
            Op::Enter => self.enter(),
            Op::Export => self.export = Some((self.truth.clone(), self.clock_us)),
            Op::ReadExport => self.read_export(),
            Op::Process { inputs } => self.process(*inputs),
            Op::Rewind { inputs } => self.rewind(*inputs),
            Op::LoseStore => self.lose_store(),
        }
    }

    fn write(&mut self, id: i64, value: Option<i64>) {
        self.clock_us += 1_000;
        match value {
            Some(value) => drop(self.truth.insert(id, value)),
            None => drop(self.truth.remove(&id)),
        }
        // The stream knows whole seconds.
        self.stream.push_back((id, value, self.clock_us / SECOND_US * SECOND_US));
    }

    fn deliver(&mut self, records: usize) {
        for (id, value, at_us) in self.stream.drain(..records.min(self.stream.len())) {
            self.inputs.push(Input::Change(record(id, value, at_us)));
        }
    }

    fn begin(&mut self) -> BackfillId {
        self.scans += 1;
        let id = BackfillId(format!("edge-{}", self.scans));
        let gap = self.gap_us.is_some() || self.scans == 1;
        self.inputs.push(Input::Begin { source: source(), backfill: id.clone(), gap });
        id
    }

    fn begin_scan(&mut self) {
        if self.scan.is_none() {
            let id = self.begin();
            let since_us = self.clock_us - SLACK_US;
            self.scan = Some(Scan { id, since_us, next: 0, held: VecDeque::new() });
        }
    }

    fn read(&mut self) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.next < IDS) else { return };
        let range = scan.next..scan.next + 2;
        let found = self.truth.range(range).map(|(id, value)| (*id, *value)).collect();
        scan.next += 2;
        scan.held.push_back(Page { found, cut_us: self.clock_us - SLACK_US, last: scan.next >= IDS });
    }

    fn enter(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        let Some(Page { found, cut_us, last }) = scan.held.pop_front() else { return };
        let (id, since_us) = (scan.id.clone(), scan.since_us);
        self.found(&id, found, cut_us);
        if last {
            self.end(id, since_us);
            self.scan = None;
        }
    }

    fn found(&mut self, backfill: &BackfillId, found: Vec<(i64, i64)>, cut_us: i64) {
        for (id, value) in found {
            let change = record(id, Some(value), cut_us);
            let precedence = Precedence::Found { cut_us };
            self.inputs.push(Input::Change(ChangeRecord {
                backfill: Some(backfill.clone()),
                precedence,
                ..change
            }));
        }
    }

    fn end(&mut self, backfill: BackfillId, since_us: i64) {
        self.inputs.push(Input::End { source: source(), backfill, whole_since_us: Some(since_us) });
        // A gap is closed by what was read after it.
        self.gap_us = self.gap_us.filter(|gap| *gap > since_us);
    }

    /// One that is older than what was lost would bring back what was lost since: it is refused before it is read.
    fn read_export(&mut self) {
        let Some((found, at_us)) = self.export.take() else { return };
        let cut_us = at_us - SLACK_US;
        if self.scan.is_some() || self.gap_us.is_some_and(|gap| gap > cut_us) {
            return;
        }
        let id = self.begin();
        self.found(&id, found.into_iter().collect(), cut_us);
        self.end(id, cut_us);
    }

    fn process(&mut self, inputs: usize) {
        let until = (self.done + inputs).min(self.inputs.len());
        while self.done < until {
            let mut session = self.roster.session(&self.store);
            let place = Place { epoch: 0, offset: self.done as u64 + 1 };
            let turn = session.apply(place, &self.inputs[self.done]).unwrap();
            let output = session.finish();
            self.commit_of(output);
            if turn == Turn::Done {
                self.done += 1;
            }
        }
    }

    fn commit_of(&mut self, output: rollcall_roster::Output) {
        let commit = output.to_commit(Partition(0), 1, Progress::default()).unwrap();
        for record in commit.records {
            if let (Topic::Identities | Topic::Memberships, Some(value)) = (record.topic, record.value) {
                self.emitted.push((record.topic, value));
            }
        }
        self.store.write(output.stored);
    }

    fn fill(&mut self) {
        while self.roster.is_filling() {
            let mut session = self.roster.session(&self.store);
            session.fill_some().unwrap();
            let output = session.finish();
            self.commit_of(output);
        }
    }

    /// The same inputs again, on a store that is ahead of them.
    fn rewind(&mut self, inputs: usize) {
        let to = self.done.saturating_sub(inputs);
        for input in to..self.done {
            let mut session = self.roster.session(&self.store);
            let place = Place { epoch: 0, offset: input as u64 + 1 };
            while session.apply(place, &self.inputs[input]).unwrap() == Turn::Unfinished {
                let output = session.finish();
                self.commit_of(output);
                session = self.roster.session(&self.store);
            }
            let output = session.finish();
            self.commit_of(output);
        }
    }

    fn lose_store(&mut self) {
        let restored = self.restored();
        self.assert_as_the_topics(&restored);
        self.store = restored;
    }

    fn restored(&self) -> MemoryStore {
        let mut store = MemoryStore::default();
        for (topic, value) in &self.emitted {
            if *topic == Topic::Identities {
                store.restore_identity(serde_json::from_slice::<IdentityRecord>(value).unwrap());
            } else {
                store.restore_membership(serde_json::from_slice::<MembershipRecord>(value).unwrap());
            }
        }
        store
    }

    /// Everything is delivered, and what was lost is repaired.
    fn settle(&mut self) {
        while self.scan.is_some() {
            self.read();
            self.enter();
        }
        self.deliver(usize::MAX);
        if self.gap_us.is_some() {
            self.clock_us += SLACK_US + SECOND_US;
            self.begin_scan();
            while self.scan.is_some() {
                self.read();
                self.enter();
            }
        }
        self.process(usize::MAX - self.done);
        self.fill();
    }

    fn assert_as_the_table(&self) {
        let stored: BTreeMap<_, _> = self
            .store
            .rows
            .values()
            .filter_map(|stored| Some((stored.key.id.to_string(), stored.image()?.clone())))
            .collect();
        let held: BTreeMap<_, _> =
            self.truth.iter().map(|(id, value)| (format!("key{id}"), image(*id, *value))).collect();
        assert_eq!(stored, held);
        let members = |stored: &&Stored| !stored.members.is_empty();
        let judged: Vec<_> = self.store.rows.values().filter(members).map(|s| s.key.id.to_string()).collect();
        let ones = self.truth.iter().filter(|(id, value)| **value == 1 && **id % 3 != 2);
        assert_eq!(judged, ones.map(|(id, _)| format!("key{id}")).collect::<Vec<_>>());
        let counted: u64 = self.roster.counts().iter().map(|(_, (count, _))| *count).sum();
        assert_eq!(counted, judged.len() as u64);
        let pairs = self.roster.counts().iter().filter(|(_, (count, _))| *count > 0);
        for (pair, _) in pairs {
            assert_eq!(*pair, (9.into(), 7.into()), "counted where the platform's own id says");
        }
        self.assert_as_the_topics(&self.restored());
    }

    /// What has no effect writes nothing, so the topics may lack its place: it comes again and has none again.
    fn assert_as_the_topics(&self, restored: &MemoryStore) {
        let without_place = |store: &MemoryStore| -> Vec<Stored> {
            store.rows.values().map(|stored| Stored { place: Place::default(), ..stored.clone() }).collect()
        };
        assert_eq!(without_place(restored), without_place(&self.store));
    }
}

fn histories() -> u32 {
    std::env::var("ROSTER_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_read_beside_a_stream_the_table_is_what_is_stored(
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.settle();
        world.assert_as_the_table();
    }
}

/// A backfill that began before a delete and comes after it does not bring the identity back, also where nothing was
/// known of it.
#[test]
fn what_was_deleted_since_it_was_read_stays_deleted() {
    let mut world = World::new();
    for op in [
        Op::Write { id: 0, value: Some(1) },
        Op::Lose { records: 1 },
        Op::Wait { ms: 5_000 },
        Op::Scan,
        Op::Read,
        Op::Wait { ms: 100 },
        Op::Write { id: 0, value: None },
        Op::Deliver { records: 1 },
        Op::Enter,
    ] {
        world.run(&op);
    }
    world.process(usize::MAX - world.done);
    let key = IdentityKey { source: source(), id: NativeId::Text("key0".into()) };
    // A tombstone, so that it is dropped in time.
    assert_eq!(world.store.rows[&key.sort_bytes()].state, StoredState::Deleted);
    world.settle();
    world.assert_as_the_table();
}

/// A repair wins over what was streamed before the gap, and takes away what was deleted in it.
#[test]
fn a_repair_wins_over_what_was_streamed_before_the_gap() {
    let mut world = World::new();
    for op in [
        Op::Write { id: 0, value: Some(1) },
        Op::Write { id: 1, value: Some(1) },
        Op::Deliver { records: 2 },
        Op::Wait { ms: 60_000 },
        Op::Write { id: 0, value: Some(2) },
        Op::Write { id: 1, value: None },
        Op::Lose { records: 2 },
        Op::Wait { ms: 60_000 },
    ] {
        world.run(&op);
    }
    world.settle();
    world.assert_as_the_table();
}
