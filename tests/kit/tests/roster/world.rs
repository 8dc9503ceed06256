//! A source, a log and a roster partition in memory, and everything that may go wrong between them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rollcall_kit::MemoryStore;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::{Truncated, Unfound};
use rollcall_model::{
    BackfillId, CatalogDoc, Change, ChangeRecord, Condition, CountRecord, CountState, EnvironmentDoc,
    EnvironmentId, Fingerprint, GateDoc, GateMode, IdentityKey, IdentityRecord, IdentityState, Image, Input,
    LogId, MembershipChange, MembershipRecord, NativeId, Partition, Patch, Place, Precedence,
    QuarantineRecord, Rule, RuleType, SegmentDoc, SegmentId, SourceName, Traits, Value, Version,
};
use rollcall_roster::counts::Counts;
use rollcall_roster::output::{Passed, quarantine_key};
use rollcall_roster::{CatalogBuilder, Output, Roster, RosterState, Turn};
use rollcall_rules::{CompiledSegment, Context};

const KEYS: [&str; 3] = ["plan", "seats", "beta"];
const PAGE: i64 = 4;

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Upsert {
        id: i64,
        env: usize,
        value: i64,
    },
    Set {
        id: i64,
        key: usize,
        value: i64,
    },
    Unset {
        id: i64,
        key: usize,
    },
    Rename {
        id: i64,
        name: i64,
    },
    Move {
        id: i64,
        env: usize,
    },
    Delete {
        id: i64,
    },
    Truncate {
        traits: bool,
    },
    Segment {
        segment: usize,
        rule: usize,
        deleted: bool,
    },
    Environment {
        env: usize,
        name: usize,
        key: usize,
        deleted: bool,
    },
    Gate {
        organisation: usize,
        mode: GateMode,
    },
    Backfill,
    Page,
    Fill {
        segment: usize,
    },
    /// Up to so many inputs in one commit, then a chunk of a fill.
    Process {
        inputs: usize,
    },
    /// A turn that is never committed.
    Abandon {
        inputs: usize,
    },
    Crash {
        store: Crash,
    },
    Rewind {
        by: usize,
    },
}

/// What a crash does to the store.
#[derive(Clone, Debug)]
pub(crate) enum Crash {
    Keep,
    Lose,
    Stale,
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let id = 0..12_i64;
    prop_oneof![
        4 => (id.clone(), 0..3_usize, 0..4_i64).prop_map(|(id, env, value)| Op::Upsert { id, env, value }),
        8 => (id.clone(), 0..3_usize, 0..4_i64).prop_map(|(id, key, value)| Op::Set { id, key, value }),
        3 => (id.clone(), 0..3_usize).prop_map(|(id, key)| Op::Unset { id, key }),
        1 => (id.clone(), 0..3_i64).prop_map(|(id, name)| Op::Rename { id, name }),
        2 => (id.clone(), 0..3_usize).prop_map(|(id, env)| Op::Move { id, env }),
        3 => id.prop_map(|id| Op::Delete { id }),
        1 => any::<bool>().prop_map(|traits| Op::Truncate { traits }),
        4 => (0..4_usize, 0..6_usize, prop::bool::weighted(0.2))
            .prop_map(|(segment, rule, deleted)| Op::Segment { segment, rule, deleted }),
        2 => (0..3_usize, 0..2_usize, 0..2_usize, prop::bool::weighted(0.2))
            .prop_map(|(env, name, key, deleted)| Op::Environment { env, name, key, deleted }),
        1 => (0..2_usize, prop_oneof![Just(GateMode::On), Just(GateMode::Off), Just(GateMode::Exclude)])
            .prop_map(|(organisation, mode)| Op::Gate { organisation, mode }),
        1 => Just(Op::Backfill),
        4 => Just(Op::Page),
        1 => (0..4_usize).prop_map(|segment| Op::Fill { segment }),
        10 => (0..9_usize).prop_map(|inputs| Op::Process { inputs }),
        1 => (0..9_usize).prop_map(|inputs| Op::Abandon { inputs }),
        2 => prop_oneof![Just(Crash::Keep), Just(Crash::Lose), Just(Crash::Stale)]
            .prop_map(|store| Op::Crash { store }),
        2 => (0..20_usize).prop_map(|by| Op::Rewind { by }),
    ]
}

#[derive(Default)]
struct Topics {
    identities: Vec<IdentityRecord>,
    memberships: Vec<MembershipRecord>,
    changes: Vec<MembershipChange>,
    counts: BTreeMap<(SegmentId, EnvironmentId), CountRecord>,
    quarantine: BTreeMap<String, QuarantineRecord>,
}

pub(crate) struct World {
    truth: BTreeMap<i64, Image>,
    inputs: Vec<Input>,
    clock_us: i64,
    builder: CatalogBuilder,
    segments: BTreeMap<usize, SegmentDoc>,
    environments: BTreeMap<usize, EnvironmentDoc>,
    number: u64,
    backfill: Option<(BackfillId, i64)>,
    backfills: u64,
    roster: Roster,
    store: MemoryStore,
    stale: MemoryStore,
    next: usize,
    furthest: usize,
    progress: serde_json::Value,
    topics: Topics,
    members: BTreeSet<(SegmentId, EnvironmentId, NativeId)>,
    versions: BTreeMap<IdentityKey, Version>,
    scan_rows: usize,
}

fn source() -> SourceName {
    "core".into()
}

fn environment_id(env: usize) -> EnvironmentId {
    EnvironmentId::from(env as i64)
}

fn key_of(id: i64) -> IdentityKey {
    IdentityKey { source: source(), id: NativeId::Int(id) }
}

fn rule(rule: usize) -> Vec<Rule> {
    let condition = |property: &str, operator: &str, value: &str| Condition {
        operator: operator.into(),
        property: Some(property.into()),
        value: Some(value.into()),
    };
    let conditions = match rule {
        0 => vec![condition("plan", "EQUAL", "1")],
        1 => vec![condition("plan", "IS_NOT_SET", "")],
        2 => vec![condition("seats", "GREATER_THAN", "1"), condition("beta", "IS_SET", "")],
        3 => vec![condition("$.environment.name", "EQUAL", "name 0")],
        4 => vec![condition("$.identity.identifier", "CONTAINS", "user")],
        5 => vec![condition("plan", "REGEX", "(")],
        // Beyond the step bound on every identifier: it raises.
        _ => vec![condition("$.identity.identifier", "REGEX", &format!("^{}$Z", "(.*)*".repeat(60)))],
    };
    vec![Rule { rule_type: RuleType::All, conditions, rules: vec![] }]
}

impl World {
    pub(crate) fn new(before: &[(i64, usize, i64)], scan_rows: usize) -> Self {
        let truth = before.iter().map(|(id, env, value)| (*id, image(*id, *env, *value))).collect();
        let state = RosterState::default();
        let mut world = Self {
            truth,
            inputs: Vec::new(),
            clock_us: 1_000_000,
            builder: CatalogBuilder::default(),
            segments: BTreeMap::new(),
            environments: BTreeMap::new(),
            number: 0,
            backfill: None,
            backfills: 0,
            progress: serde_json::to_value(&state).unwrap(),
            roster: Roster::new(LogId("log".into()), Partition(0), state, Counts::default(), i64::MAX / 2),
            store: MemoryStore::default(),
            stale: MemoryStore::default(),
            next: 0,
            furthest: 0,
            topics: Topics::default(),
            members: BTreeSet::new(),
            versions: BTreeMap::new(),
            scan_rows,
        };
        world.roster = world.fresh_roster();
        world.begin();
        world.run(&Op::Environment { env: 0, name: 0, key: 0, deleted: false });
        world
    }

    fn fresh_roster(&self) -> Roster {
        let state: RosterState = serde_json::from_value(self.progress.clone()).unwrap();
        let mut counts = Counts::default();
        for (pair, record) in &self.topics.counts {
            counts.restore(pair.clone(), record.count, record.fingerprint);
        }
        let mut roster = Roster::new(LogId("log".into()), Partition(0), state, counts, i64::MAX / 2)
            .with_scan_rows(self.scan_rows);
        roster.set_catalog(self.builder.snapshot());
        roster
    }

    fn say(&mut self, id: i64, change: Change) {
        self.clock_us += 10;
        self.inputs.push(Input::Change(ChangeRecord {
            source: source(),
            id: NativeId::Int(id),
            change,
            source_time_us: self.clock_us,
            position: format!("0/{:X}", self.inputs.len()),
            backfill: None,
            precedence: Precedence::Place,
        }));
    }

    fn patch(&mut self, id: i64, patch: Patch) {
        if let Some(image) = self.truth.get(&id) {
            let after = image.patched(&patch).unwrap();
            self.truth.insert(id, after);
            self.say(id, Change::Patch { patch });
        }
    }

    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::Upsert { id, env, value } => {
                let image = image(*id, *env, *value);
                self.truth.insert(*id, image.clone());
                self.say(*id, Change::Upsert { image });
            }
            Op::Set { id, key, value } => {
                let set = [(KEYS[*key].to_owned(), Value::Int(*value))].into();
                self.patch(*id, Patch { set, ..Patch::default() });
            }
            Op::Unset { id, key } => {
                let unset = [KEYS[*key].to_owned()].into();
                self.patch(*id, Patch { unset, ..Patch::default() });
            }
            Op::Rename { id, name } => {
                let identifier = Some(format!("renamed {name}"));
                self.patch(*id, Patch { identifier, ..Patch::default() });
            }
            Op::Move { id, env } => {
                let environment_id = Some(environment_id(*env));
                self.patch(*id, Patch { environment_id, ..Patch::default() });
            }
            Op::Delete { id } => {
                if self.truth.remove(id).is_some() {
                    self.say(*id, Change::Delete);
                }
            }
            Op::Truncate { traits } => self.truncate(*traits),
            Op::Segment { segment, rule: number, deleted } => {
                let doc = SegmentDoc {
                    id: SegmentId::from(*segment as i64),
                    project_id: ((*segment % 2) as i64).into(),
                    name: format!("segment {segment}"),
                    rules: rule(*number),
                    invalid: None,
                    deleted: *deleted,
                };
                self.segments.insert(*segment, doc.clone());
                self.catalog(vec![CatalogDoc::Segment(doc)]);
            }
            Op::Environment { env, name, key, deleted } => {
                let doc = EnvironmentDoc {
                    id: environment_id(*env),
                    key: format!("key{env}-{key}"),
                    name: format!("name {name}"),
                    project_id: ((*env % 2) as i64).into(),
                    organisation_id: ((*env % 2) as i64).into(),
                    owner: source(),
                    called: Default::default(),
                    composite_identity_key: true,
                    deleted: *deleted,
                };
                self.environments.insert(*env, doc.clone());
                self.catalog(vec![CatalogDoc::Environment(doc)]);
            }
            Op::Gate { organisation, mode } => {
                let organisation_id = Some((*organisation as i64).into());
                self.catalog(vec![CatalogDoc::Gate(GateDoc { organisation_id, mode: Some(*mode) })]);
            }
            Op::Backfill => {
                if self.backfill.is_none() {
                    self.begin();
                }
            }
            Op::Page => self.page(),
            Op::Fill { segment } => self.inputs.push(Input::Fill {
                id: format!("fill-{}", self.inputs.len()),
                segment_id: Some(SegmentId::from(*segment as i64)),
                environment_id: None,
            }),
            Op::Process { inputs } => self.process(*inputs, true),
            Op::Abandon { inputs } => self.process(*inputs, false),
            Op::Crash { store } => self.crash(store),
            Op::Rewind { by } => {
                self.next = self.next.saturating_sub(*by);
                self.roster = self.fresh_roster();
            }
        }
    }

    fn truncate(&mut self, traits: bool) {
        self.clock_us += 10;
        let what = if traits { Truncated::Traits } else { Truncated::Identities };
        self.inputs.push(Input::Truncate { source: source(), what, source_time_us: self.clock_us });
        if traits {
            self.truth.values_mut().for_each(|image| image.traits.clear());
        } else {
            self.truth.clear();
        }
    }

    fn catalog(&mut self, docs: Vec<CatalogDoc>) {
        self.number += 1;
        for doc in docs {
            self.builder.apply(CatalogEntry { writer: source(), number: self.number, doc });
        }
        self.inputs.push(Input::Catalog { writer: source(), number: self.number });
        // The worker's catalog runs ahead of the partition.
        self.roster.set_catalog(self.builder.snapshot());
    }

    fn begin(&mut self) {
        self.begin_after(false);
    }

    pub(crate) fn begin_after(&mut self, gap: bool) {
        self.backfills += 1;
        let id = BackfillId(format!("core-{}", self.backfills));
        self.inputs.push(Input::Begin { source: source(), backfill: id.clone(), gap });
        self.backfill = Some((id, 0));
    }

    /// The next page of the backfill under way: the truth of its range right here in the stream.
    fn page(&mut self) {
        let Some((id, from)) = self.backfill.clone() else { return };
        let to = (from + PAGE <= 12).then_some(from + PAGE);
        let rows: Vec<_> = self
            .truth
            .iter()
            .filter(|(id, _)| **id >= from && to.is_none_or(|to| **id < to))
            .map(|(id, image)| (*id, image.clone()))
            .collect();
        self.inputs.push(Input::Page {
            source: source(),
            backfill: id.clone(),
            from: (from > 0).then_some(NativeId::Int(from)),
            to: to.map(NativeId::Int),
            present: rows.iter().map(|(id, _)| NativeId::Int(*id)).collect(),
            source_time_us: self.clock_us,
        });
        for (id, image) in rows {
            self.say(id, Change::Upsert { image });
        }
        match to {
            Some(to) => self.backfill = Some((id, to)),
            None => {
                self.inputs.push(Input::End { source: source(), backfill: id, unfound: Unfound::Stay });
                self.backfill = None;
            }
        }
    }

    fn process(&mut self, inputs: usize, commits: bool) {
        // A partition that has reached the newest catalog and fills nothing has nothing to say of what it has read.
        let reached = self.roster.state().catalog.get(&source()) == Some(&self.number);
        let quiet = reached && !self.roster.is_filling();
        let mut session = self.roster.session(&self.store);
        let end = (self.next + inputs).min(self.inputs.len());
        let mut at = self.next;
        let mut touched = self.next;
        while at < end {
            touched = at + 1;
            let place = Place { epoch: 0, offset: at as u64 };
            match session.apply(place, &self.inputs[at]).unwrap() {
                Turn::Done => at += 1,
                Turn::Unfinished => break,
                Turn::NeedsCatalog { .. } => unreachable!("the catalog runs ahead"),
                Turn::NeedsQuarantine { key } => {
                    let records: Vec<_> = self.topics.quarantine.values().cloned().collect();
                    session.replay(place, &key, &records).unwrap();
                    at += 1;
                }
            }
        }
        session.fill_some().unwrap();
        let output = session.finish();
        if commits {
            self.commit(output, at, quiet && touched <= self.furthest);
        } else {
            self.roster = self.fresh_roster();
        }
    }

    fn commit(&mut self, output: Output, at: usize, replayed: bool) {
        if replayed {
            // C04. An operator's fill read again judges again, and finds nothing.
            assert!(output.changes.is_empty(), "a replay emitted {:?}", output.changes);
        }
        self.progress = serde_json::to_value(self.roster.state()).unwrap();
        self.next = at;
        self.furthest = self.furthest.max(at);
        for identity in output.identities {
            let key = IdentityKey { source: identity.source.clone(), id: identity.id.clone() };
            let known = self.versions.insert(key, identity.version);
            assert!(known.is_none_or(|known| known < identity.version), "versions rise: {identity:?}");
            self.topics.identities.push(identity);
        }
        self.topics.memberships.extend(output.memberships);
        for passed in output.changes {
            let Passed::Record(change) = passed else { continue };
            self.alternate(&change);
            self.topics.changes.push(change);
        }
        for passed in output.counts {
            let Passed::Record(count) = passed else { continue };
            self.topics.counts.insert((count.segment_id.clone(), count.environment_id.clone()), count);
        }
        for record in output.quarantined {
            self.topics.quarantine.insert(quarantine_key(&record), record);
        }
        for key in output.settled {
            self.topics.quarantine.remove(&key);
        }
        self.stale = self.store.clone();
        self.store.write(output.stored);
        self.assert_counts();
    }

    /// C02: per identity and segment, entered and left take turns.
    fn alternate(&mut self, change: &MembershipChange) {
        let at = |segment: &SegmentId| (segment.clone(), change.environment_id.clone(), change.id.clone());
        for segment in &change.left {
            assert!(self.members.remove(&at(segment)), "left what it was not in: {change:?}");
        }
        for segment in &change.entered {
            assert!(self.members.insert(at(segment)), "entered what it was in: {change:?}");
        }
    }

    fn crash(&mut self, store: &Crash) {
        match store {
            Crash::Keep => {}
            Crash::Lose => self.store = MemoryStore::default(),
            // Killed between the commit and the store's write: it catches up from the topics.
            Crash::Stale => self.store = self.stale.clone(),
        }
        if !matches!(store, Crash::Keep) {
            for record in self.topics.identities.clone() {
                self.store.restore_identity(record);
            }
            for record in self.topics.memberships.clone() {
                self.store.restore_membership(record);
            }
        }
        self.roster = self.fresh_roster();
    }

    pub(crate) fn process_everything(&mut self) {
        while self.next < self.inputs.len() || self.roster.is_filling() {
            self.process(5, true);
        }
    }

    pub(crate) fn backfill_everything(&mut self) {
        if self.backfill.is_none() {
            self.begin();
        }
        while self.backfill.is_some() {
            self.page();
        }
        self.process_everything();
    }

    /// Reads to the end, with one whole backfill behind the last gate.
    pub(crate) fn settle(&mut self) {
        self.process_everything();
        while self.backfill.is_some() {
            self.page();
        }
        self.backfill_everything();
    }

    /// The oracle: every image that should be there, judged from scratch.
    fn oracle(&self) -> BTreeSet<(SegmentId, EnvironmentId, NativeId)> {
        let catalog = self.builder.snapshot();
        let mut members = BTreeSet::new();
        for (id, image) in &self.truth {
            let Some(environment) = catalog.environment(&image.environment_id) else { continue };
            if environment.deleted || catalog.gate(&environment.organisation_id) != GateMode::On {
                continue;
            }
            let identity_key = format!("{}_{}", environment.key, image.identifier);
            let context = Context {
                environment_key: &environment.key,
                environment_name: &environment.name,
                identifier: &image.identifier,
                identity_key: &identity_key,
                traits: &image.traits,
                system_traits: &image.system_traits,
                tree: None,
            };
            for doc in self.segments.values() {
                let segment = CompiledSegment::compile(doc);
                let judged = !doc.deleted && doc.project_id == environment.project_id;
                if judged && segment.unsupported().is_none() && segment.judge(&context).unwrap() {
                    members.insert((doc.id.clone(), environment.id.clone(), NativeId::Int(*id)));
                }
            }
        }
        members
    }

    pub(crate) fn assert_as_oracle(&self) {
        let oracle = self.oracle();
        assert_eq!(self.stored(), oracle, "the store differs from the oracle");
        assert_eq!(self.members, oracle, "the sum of the changes differs from the oracle");
        let mut latest: BTreeMap<NativeId, &MembershipRecord> = BTreeMap::new();
        for record in &self.topics.memberships {
            latest.insert(record.id.clone(), record);
        }
        let told = latest.values().flat_map(|record| {
            let at = |s: &SegmentId| (s.clone(), record.environment_id.clone(), record.id.clone());
            record.segments.iter().map(move |m| at(&m.segment_id))
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), oracle, "the memberships topic differs from the oracle");
        self.assert_images();
        self.assert_counts();
        assert!(self.topics.quarantine.is_empty(), "{:?}", self.topics.quarantine);
    }

    fn assert_images(&self) {
        let catalog = self.builder.snapshot();
        let excluded = |image: &Image| {
            let environment = catalog.environment(&image.environment_id);
            environment.is_some_and(|e| catalog.gate(&e.organisation_id) == GateMode::Exclude)
        };
        let mut latest: BTreeMap<NativeId, &IdentityRecord> = BTreeMap::new();
        for record in &self.topics.identities {
            latest.insert(record.id.clone(), record);
        }
        let told: BTreeMap<_, _> = latest
            .into_iter()
            .filter_map(|(id, record)| match &record.state {
                IdentityState::Live(image) => Some((id, image.clone())),
                IdentityState::Deleted | IdentityState::Pending { .. } => None,
            })
            .collect();
        let truth: BTreeMap<_, _> = self
            .truth
            .iter()
            .filter(|(_, image)| !excluded(image))
            .map(|(id, image)| (NativeId::Int(*id), image.clone()))
            .collect();
        assert_eq!(told, truth, "the identities topic differs from the source");
    }

    fn stored(&self) -> BTreeSet<(SegmentId, EnvironmentId, NativeId)> {
        let live = self.store.rows.values().filter_map(|stored| Some((stored.image()?, stored)));
        live.flat_map(|(image, stored)| {
            let at = |s: &SegmentId| (s.clone(), image.environment_id.clone(), stored.key.id.clone());
            stored.members.iter().map(move |m| at(&m.segment_id))
        })
        .collect()
    }

    /// C03, at every commit: absolute counts and fingerprints are those of the sets.
    fn assert_counts(&self) {
        let mut sets: BTreeMap<(SegmentId, EnvironmentId), (u64, Fingerprint)> = BTreeMap::new();
        for (segment, environment, id) in self.stored() {
            let (count, fingerprint) = sets.entry((segment, environment)).or_default();
            *count += 1;
            fingerprint.add(&id.to_string());
        }
        let counted: BTreeMap<_, _> = self
            .topics
            .counts
            .iter()
            .filter(|(_, record)| record.count > 0)
            .map(|(pair, record)| (pair.clone(), (record.count, record.fingerprint)))
            .collect();
        assert_eq!(counted, sets);
    }

    pub(crate) fn written(&self) -> (usize, usize, usize) {
        (self.topics.identities.len(), self.topics.memberships.len(), self.topics.changes.len())
    }

    pub(crate) fn events(&self) -> &[MembershipChange] {
        &self.topics.changes
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub(crate) fn catalog_now(&self) -> std::sync::Arc<rollcall_roster::Catalog> {
        self.builder.snapshot()
    }

    pub(crate) fn quarantined(&self) -> usize {
        self.topics.quarantine.len()
    }

    pub(crate) fn image(&self, id: i64) -> Option<Image> {
        self.store.rows.get(&key_of(id).sort_bytes()).and_then(|stored| stored.image().cloned())
    }

    pub(crate) fn rename_segment(&mut self, segment: usize) {
        let mut doc = self.segments[&segment].clone();
        doc.name = "another name".into();
        self.segments.insert(segment, doc.clone());
        self.catalog(vec![CatalogDoc::Segment(doc)]);
    }

    /// How the count of a segment in the first environment is to be read.
    pub(crate) fn count_state(&self, segment: usize) -> Option<CountState> {
        let pair = (SegmentId::from(segment as i64), environment_id(0));
        self.topics.counts.get(&pair).map(|record| record.state.clone())
    }

    pub(crate) fn last_identity(&self) -> &IdentityRecord {
        self.topics.identities.last().unwrap()
    }

    pub(crate) fn suspended(&self) -> usize {
        self.roster.state().suspended.len()
    }

    /// A row that can't be understood.
    pub(crate) fn invalid(&mut self, id: i64) {
        self.say(id, Change::Invalid { reason: "test".into(), raw: String::new() });
    }

    /// The source deletes what it never said anything readable of.
    pub(crate) fn delete_unseen(&mut self, id: i64) {
        self.say(id, Change::Delete);
    }

    pub(crate) fn set_two_traits(&mut self, id: i64) {
        let set = [("plan".to_owned(), Value::Int(9)), ("seats".to_owned(), Value::Int(9))].into();
        self.patch(id, Patch { set, ..Patch::default() });
    }

    /// `plan` is a number here: a patch that says its text did not change can't be true.
    pub(crate) fn patch_with_unknown_text(&mut self, id: i64) {
        let unchanged = ["plan".to_owned()].into();
        self.say(id, Change::Patch { patch: Patch { unchanged, ..Patch::default() } });
    }

    /// Does to the image by hand what a person might do, so that a replay finds something else.
    pub(crate) fn mend_text(&mut self, id: i64) {
        let stored = self.store.rows.get_mut(&key_of(id).sort_bytes()).unwrap();
        let mut image = stored.image().unwrap().clone();
        image.identifier.push_str(" mended");
        stored.state = rollcall_roster::StoredState::Live(image);
    }

    pub(crate) fn replay(&mut self, id: i64) {
        self.inputs.push(Input::Replay { key: key_of(id) });
    }
}

fn image(id: i64, env: usize, value: i64) -> Image {
    let mut traits = Traits::new();
    traits.insert("plan".into(), Value::Int(value));
    if value > 1 {
        traits.insert("beta".into(), Value::Bool(true));
        traits.insert("seats".into(), Value::Int(value));
    }
    Image {
        environment_id: environment_id(env),
        identifier: format!("user {id}"),
        traits,
        system_traits: Traits::new(),
    }
}
