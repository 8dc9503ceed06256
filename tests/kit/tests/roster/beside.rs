//! Backfills beside a stream that brings whole images, told apart by time alone (DynamoDB): whatever is read, late, lost
//! or read again, what is stored in the end is what the table holds.
//!
//! Shows C08 (replay), the repair of a gap that wins over what was streamed before it, deletes that no backfill brings
//! back, and identities that went while nobody looked (PROTOCOL.md §4, Scan and Export).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rollcall_kit::MemoryStore;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::Unfound;
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
/// How long after a write its record is made, for half of the items: their times may be after the write's.
const LATE_US: i64 = 900_000;
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
    /// An incremental export, if one is made, begins here; nothing is written for the seconds in which nobody can tell
    /// by the stream's times what was written before it.
    OpenWindow,
    /// An incremental export from there to now is made, to be read later.
    ExportWindow,
    /// What was exported last is read: all of it at once.
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
        2 => (1..4_usize).prop_map(|records| Op::Lose { records }),
        2 => Just(Op::Scan),
        4 => Just(Op::Read),
        4 => Just(Op::Enter),
        1 => Just(Op::Export),
        2 => Just(Op::OpenWindow),
        1 => Just(Op::ExportWindow),
        2 => Just(Op::ReadExport),
        3 => (1..8_usize).prop_map(|inputs| Op::Process { inputs }),
        1 => (1..8_usize).prop_map(|inputs| Op::Rewind { inputs }),
        1 => Just(Op::LoseStore),
    ]
}

/// Items as a backfill has them; `None` is a delete that it says.
type Found = Vec<(i64, Option<i64>)>;

struct Page {
    found: Found,
    cut_us: i64,
    last: bool,
}

struct Scan {
    id: BackfillId,
    since_us: i64,
    next: i64,
    held: VecDeque<Page>,
}

struct Export {
    found: Found,
    /// Where its window begins, of one that has one.
    from_us: Option<i64>,
    at_us: i64,
}

struct World {
    clock_us: i64,
    truth: BTreeMap<i64, i64>,
    /// All that was ever written.
    written: Vec<(i64, Option<i64>, i64)>,
    stream: VecDeque<(i64, Option<i64>, i64)>,
    inputs: Vec<Input>,
    scan: Option<Scan>,
    scans: u32,
    window_from_us: i64,
    export: Option<Export>,
    /// From when to when something was lost; only a backfill of a later time brings it.
    gap_us: Option<(i64, i64)>,
    /// What was stored before this may have come by a backfill and not by the stream. An incremental export from before
    /// it does not show that such an identity went, if it was made in the window.
    streamed_from_us: i64,
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
            written: Vec::new(),
            stream: VecDeque::new(),
            inputs: vec![Input::Catalog { writer: "core".into(), number: 1 }],
            scan: None,
            scans: 0,
            window_from_us: BEGINNING_US - 2 * SECOND_US,
            export: None,
            gap_us: None,
            streamed_from_us: 0,
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
                    let from_us = self.gap_us.map_or(at_us - LATE_US, |(from_us, _)| from_us);
                    self.gap_us = Some((from_us, at_us + SECOND_US));
                }
            }
            Op::Scan => self.begin_scan(),
            Op::Read => self.read(),
            Op::Enter => self.enter(),
            Op::Export => {
                let found = self.truth.iter().map(|(id, value)| (*id, Some(*value))).collect();
                self.export = Some(Export { found, from_us: None, at_us: self.clock_us });
            }
            Op::OpenWindow => {
                self.window_from_us = self.clock_us;
                self.clock_us += 2 * SECOND_US;
            }
            Op::ExportWindow => self.export_window(),
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
        self.written.push((id, value, self.clock_us));
        let late_us = if id % 2 == 0 { 0 } else { LATE_US };
        // The stream knows whole seconds.
        self.stream.push_back((id, value, (self.clock_us + late_us) / SECOND_US * SECOND_US));
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
        let found = self.truth.range(range).map(|(id, value)| (*id, Some(*value))).collect();
        scan.next += 2;
        scan.held.push_back(Page { found, cut_us: self.clock_us - SLACK_US, last: scan.next >= IDS });
    }

    fn enter(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        let Some(Page { found, cut_us, last }) = scan.held.pop_front() else { return };
        let (id, since_us) = (scan.id.clone(), scan.since_us);
        self.found(&id, found, cut_us);
        if last {
            self.end(id, Unfound::Gone { since_us });
            // A gap is closed by what was read after it.
            self.gap_us = self.gap_us.filter(|(_, to_us)| *to_us > since_us);
            self.scan = None;
        }
    }

    fn found(&mut self, backfill: &BackfillId, found: Found, cut_us: i64) {
        if self.gap_us.is_some() || !self.stream.is_empty() {
            self.streamed_from_us = self.clock_us;
        }
        for (id, value) in found {
            let change = record(id, value, cut_us);
            let precedence = Precedence::Found { cut_us };
            self.inputs.push(Input::Change(ChangeRecord {
                backfill: Some(backfill.clone()),
                precedence,
                ..change
            }));
        }
    }

    fn end(&mut self, backfill: BackfillId, unfound: Unfound) {
        self.inputs.push(Input::End { source: source(), backfill, unfound });
    }

    /// One line for each item that was written in the window: what it is in the end, or that it is gone. None for those
    /// that were made and deleted in it.
    fn export_window(&mut self) {
        let from_us = self.window_from_us;
        let before = |id: i64| {
            let mut before = self.written.iter().filter(|(of, _, at_us)| *of == id && *at_us <= from_us);
            before.next_back().and_then(|(_, value, _)| *value)
        };
        let ids: BTreeSet<i64> =
            self.written.iter().filter(|(_, _, at_us)| *at_us > from_us).map(|(id, _, _)| *id).collect();
        let lines = ids.into_iter().map(|id| (id, self.truth.get(&id).copied()));
        let found = lines.filter(|(id, value)| value.is_some() || before(*id).is_some()).collect();
        self.export = Some(Export { found, from_us: Some(from_us), at_us: self.clock_us });
    }

    /// One that is older than what was lost would bring back what was lost since: it is refused before it is read. So is
    /// one of a window that what was lost does not lie in, or in which not all that is stored was streamed.
    fn read_export(&mut self) {
        let Some(Export { found, from_us, at_us }) = self.export.take() else { return };
        let cut_us = at_us - SLACK_US;
        let is_enough = self.gap_us.is_none_or(|(gap_from_us, gap_to_us)| {
            let in_window =
                from_us.is_none_or(|from_us| self.streamed_from_us <= from_us && from_us <= gap_from_us);
            in_window && gap_to_us <= cut_us
        });
        if self.scan.is_some() || !is_enough {
            return;
        }
        let id = self.begin();
        self.found(&id, found, cut_us);
        let unfound = match from_us {
            None => Unfound::Gone { since_us: cut_us },
            Some(from_us) => Unfound::GoneIfStreamed { from_us: from_us + SECOND_US, to_us: cut_us },
        };
        self.end(id, unfound);
        self.gap_us = None;
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

    /// Everything is delivered, and what was lost is repaired: by an incremental export if that is wanted and enough, else
    /// by a scan.
    fn settle(&mut self, by_window: bool) {
        while self.scan.is_some() {
            self.read();
            self.enter();
        }
        self.deliver(usize::MAX);
        if self.gap_us.is_some() {
            self.clock_us += SLACK_US + 2 * SECOND_US;
            if by_window {
                self.export_window();
                self.read_export();
            }
        }
        if self.gap_us.is_some() {
            self.begin_scan();
            while self.scan.is_some() {
                self.read();
                self.enter();
            }
        }
        assert_eq!(self.gap_us, None);
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
        ops in prop_oneof![
            2 => prop::collection::vec(op(), 0..60),
            // Where a scan is seldom under way, windows decide.
            1 => prop::collection::vec(op().prop_filter("no scan", |op| !matches!(op, Op::Scan)), 0..30),
        ],
        by_window: bool,
    ) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.settle(by_window);
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
    world.settle(false);
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
    world.settle(false);
    world.assert_as_the_table();
}

/// An identity that was made and deleted within the window of an incremental export is nowhere in it: if the stream
/// brought it before it was lost, the end of the export takes it away.
#[test]
fn what_was_made_and_deleted_within_a_window_is_gone_after_it() {
    let mut world = World::new();
    for op in [
        Op::OpenWindow,
        Op::Write { id: 0, value: Some(1) },
        Op::Write { id: 1, value: Some(1) },
        Op::Deliver { records: 2 },
        Op::Wait { ms: 60_000 },
        Op::Write { id: 0, value: None },
        Op::Lose { records: 1 },
        Op::Wait { ms: 60_000 },
        Op::ExportWindow,
        Op::ReadExport,
    ] {
        world.run(&op);
    }
    assert_eq!(world.gap_us, None, "the export closes the gap");
    world.settle(false);
    world.assert_as_the_table();
}

/// Who was written just before a window, or just after it, lives on: the stream's times alone don't tell that they are
/// not of the window.
#[test]
fn who_was_written_beside_a_window_lives_on() {
    let mut world = World::new();
    for op in [
        // So that a record made 0.9 s after its write is of the next second.
        Op::Wait { ms: 500 },
        Op::Write { id: 0, value: Some(1) },
        Op::Write { id: 1, value: Some(1) },
        Op::OpenWindow,
        Op::Wait { ms: 60_000 },
        Op::ExportWindow,
        Op::Write { id: 3, value: Some(1) },
        Op::Write { id: 4, value: Some(1) },
        Op::Deliver { records: 4 },
        Op::ReadExport,
    ] {
        world.run(&op);
    }
    world.settle(false);
    world.assert_as_the_table();
}

/// What came by a backfill and went in a later gap of the same window is nowhere in an export of it, and the stream never
/// spoke of it: such an export is refused.
#[test]
fn a_window_with_an_earlier_repair_in_it_is_not_enough() {
    let mut world = World::new();
    for op in [
        Op::OpenWindow,
        Op::Write { id: 0, value: Some(1) },
        Op::Lose { records: 1 },
        Op::Wait { ms: 60_000 },
    ] {
        world.run(&op);
    }
    world.settle(false);
    for op in [
        Op::Wait { ms: 60_000 },
        Op::Write { id: 0, value: None },
        Op::Lose { records: 1 },
        Op::Wait { ms: 60_000 },
        Op::ExportWindow,
        Op::ReadExport,
    ] {
        world.run(&op);
    }
    assert!(world.gap_us.is_some(), "the export does not close the gap");
    world.settle(true);
    world.assert_as_the_table();
}
