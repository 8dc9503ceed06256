//! Records of every kind that the public topics hold, with what is odd about them: the longest numbers, the floats that
//! aren't finite, everything that may be absent, absent and there. What reads or translates topics is tested with them.

use std::collections::BTreeSet;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{
    BackfillId, CatalogDoc, Cause, Change, ChangeRecord, CheckScope, Condition, CountRecord, CountState,
    EnvironmentDoc, Fingerprint, GateDoc, GateMode, IdentityKey, IdentityRecord, IdentityState, Image, LogId,
    Member, MembershipChange, MembershipRecord, NativeId, Partition, Patch, Place, Precedence,
    QuarantineRecord, Rule, RuleType, Seen, SegmentDoc, Seq, Topic, Traits, Value, Version, WaitingPatch,
    WatermarkRecord,
};
use rollcall_roster::output::{CheckPassed, quarantine_key};
use serde::Serialize;
use serde_json::json;

/// Traits of every type.
#[must_use]
pub fn traits() -> Traits {
    Traits::from([
        ("null".to_owned(), Value::Null),
        ("bool".to_owned(), Value::Bool(true)),
        ("int".to_owned(), Value::Int(i64::MIN)),
        ("big".to_owned(), Value::int(i128::MIN.into())),
        ("float".to_owned(), Value::Float(1e22)),
        ("nan".to_owned(), Value::Float(f64::NAN)),
        ("infinity".to_owned(), Value::Float(f64::NEG_INFINITY)),
        ("text".to_owned(), Value::Str("2024-01-01\0\"é".to_owned())),
    ])
}

/// An identity with everything.
#[must_use]
pub fn image() -> Image {
    Image {
        environment_id: "7".into(),
        identifier: "anna".to_owned(),
        traits: traits(),
        system_traits: Traits::from([("plan".to_owned(), Value::Str("pro".to_owned()))]),
    }
}

/// A place as far out as one can be.
#[must_use]
pub fn place() -> Place {
    Place { epoch: 1, offset: u64::MAX }
}

/// Changes of every kind.
#[must_use]
pub fn changes() -> Vec<ChangeRecord> {
    let patch = Patch {
        environment_id: Some("8".into()),
        identifier: Some("anne".to_owned()),
        set: traits(),
        unset: BTreeSet::from(["old".to_owned()]),
        unchanged: BTreeSet::from(["long".to_owned()]),
        system_traits: Some(Traits::new()),
    };
    let record = |change, id, backfill: Option<&str>| ChangeRecord {
        source: "core".into(),
        id,
        change,
        source_time_us: 1_700_000_000_000_000,
        position: "16/B374D848".to_owned(),
        backfill: backfill.map(|id| BackfillId(id.to_owned())),
        precedence: backfill
            .map_or(Precedence::Streamed, |_| Precedence::Found { cut_us: 1_699_999_999_000_000 }),
    };
    vec![
        record(Change::Upsert { image: image() }, NativeId::Int(1), Some("core-1")),
        record(
            Change::Upsert { image: Image { system_traits: Traits::new(), ..image() } },
            NativeId::Text("env_anna".into()),
            None,
        ),
        record(Change::Patch { patch }, NativeId::Int(1), None),
        record(Change::Patch { patch: Patch::default() }, NativeId::Int(1), None),
        record(Change::Delete, NativeId::Int(1), None),
        record(Change::Invalid { reason: "r".to_owned(), raw: "{}".to_owned() }, NativeId::Int(1), None),
    ]
}

/// Every extent of a check.
#[must_use]
pub fn scopes() -> Vec<CheckScope> {
    let (segment_id, environment_id) = ("3".into(), "7".into());
    vec![
        CheckScope::Totals,
        CheckScope::Buckets { segment_id, environment_id },
        CheckScope::Members {
            segment_id: "3".into(),
            environment_id: "7".into(),
            buckets: BTreeSet::from([0, 255]),
        },
    ]
}

/// `identities`: live, with and without what may be absent; deleted; pending.
#[must_use]
pub fn identities() -> Vec<IdentityRecord> {
    let record = |state, known: bool| IdentityRecord {
        log_id: LogId("log".to_owned()),
        partition: Partition(3),
        seq: Seq(9),
        version: Version(1_700_000_000_000_000),
        deleted: !matches!(state, IdentityState::Live(_)),
        source: "core".into(),
        id: NativeId::Int(1),
        environment_key: known.then(|| "key".to_owned()),
        identity_key: known.then(|| "key_anna".to_owned()),
        state,
        left_environment_keys: if known { BTreeSet::from(["old".to_owned()]) } else { BTreeSet::new() },
        place: place(),
        parked: if known { vec![place()] } else { Vec::new() },
        seen: Seen {
            streamed_us: if known { 1_700_000_000_000_000 } else { 0 },
            backfill: known.then(|| BackfillId("edge-1".to_owned())),
        },
    };
    let patches = changes().into_iter().map(|change| WaitingPatch { place: place(), change }).collect();
    let bare = Image { traits: Traits::new(), system_traits: Traits::new(), ..image() };
    vec![
        record(IdentityState::Live(image()), true),
        record(IdentityState::Live(image()), false),
        record(IdentityState::Live(bare), false),
        record(IdentityState::Deleted, true),
        record(IdentityState::Pending { patches }, false),
    ]
}

/// `memberships`: in a segment, and in none.
#[must_use]
pub fn memberships() -> Vec<MembershipRecord> {
    let member = Member { segment_id: "3".into(), since_us: 5, sources: vec!["rule".to_owned()] };
    let record = MembershipRecord {
        log_id: LogId("log".to_owned()),
        seq: Seq(9),
        version: Version(7),
        source: "core".into(),
        id: NativeId::Int(1),
        environment_id: "7".into(),
        environment_key: "key".to_owned(),
        identifier: "anna".to_owned(),
        segments: vec![member],
    };
    vec![record.clone(), MembershipRecord { segments: Vec::new(), ..record }]
}

/// `membership-changes`, of every cause.
#[must_use]
pub fn membership_changes() -> Vec<MembershipChange> {
    let causes = [Cause::Change, Cause::Definition, Cause::Gate, Cause::Manual, Cause::Expiry, Cause::Repair];
    let record = |cause| MembershipChange {
        event_id: "log-3-9-1".to_owned(),
        log_id: LogId("log".to_owned()),
        environment_id: "7".into(),
        environment_key: "key".to_owned(),
        source: "core".into(),
        id: NativeId::Text("env_anna".into()),
        identifier: "anna".to_owned(),
        identity_key: "key_anna".to_owned(),
        version: Version(7),
        seq: Seq(9),
        changed: BTreeSet::from(["plan".to_owned()]),
        entered: vec!["3".into()],
        left: vec!["4".into()],
        cause,
        at_us: 5,
        position: String::new(),
    };
    causes.map(record).to_vec()
}

/// Checks as they are passed on.
#[must_use]
pub fn checks_passed() -> Vec<CheckPassed> {
    let passed = |scope| CheckPassed { id: "check-1".to_owned(), scope, seq: Seq(9) };
    scopes().into_iter().map(passed).collect()
}

/// `segment-counts`, of every state.
#[must_use]
pub fn counts() -> Vec<CountRecord> {
    let states = [
        CountState::Live,
        CountState::Filling,
        CountState::Unsupported { reason: "a regex that doesn't compile".to_owned() },
        CountState::Removed,
    ];
    let record = |state| CountRecord {
        log_id: LogId("log".to_owned()),
        segment_id: "3".into(),
        environment_id: "7".into(),
        partition: Partition(1),
        count: u64::MAX,
        fingerprint: Fingerprint(0xfeed),
        seq: Seq(9),
        state,
    };
    states.map(record).to_vec()
}

/// How far a source has come.
#[must_use]
pub fn watermark() -> WatermarkRecord {
    WatermarkRecord {
        source: "core".into(),
        partition: Partition(1),
        position: "0/1".to_owned(),
        at_us: 5,
        seq: Seq(9),
    }
}

/// `quarantine`: of an identity, and of nobody known.
#[must_use]
pub fn quarantined() -> Vec<QuarantineRecord> {
    let record = QuarantineRecord {
        key: Some(IdentityKey { source: "core".into(), id: NativeId::Int(1) }),
        reason: "unknown value type".to_owned(),
        origin: "roster".to_owned(),
        payload: json!({"any": ["thing", null, 1.0, u64::MAX]}),
        place: Some(place()),
        position: "0/1".to_owned(),
        parks: true,
    };
    let unknown = QuarantineRecord { key: None, place: None, payload: json!(null), ..record.clone() };
    vec![record, unknown]
}

/// `catalog`: documents of every kind.
#[must_use]
pub fn catalog() -> Vec<CatalogEntry> {
    let condition = |property: Option<&str>, value: Option<&str>| Condition {
        operator: "EQUAL".to_owned(),
        property: property.map(str::to_owned),
        value: value.map(str::to_owned),
    };
    let leaf = Rule {
        rule_type: RuleType::Unknown("SOME".to_owned()),
        conditions: vec![condition(Some("plan"), Some("pro")), condition(None, None)],
        rules: Vec::new(),
    };
    let types = [RuleType::All, RuleType::Any, RuleType::None];
    let rules = types.map(|rule_type| Rule { rule_type, conditions: Vec::new(), rules: vec![leaf.clone()] });
    let segment = |invalid: Option<&str>| {
        CatalogDoc::Segment(SegmentDoc {
            id: "3".into(),
            project_id: "2".into(),
            name: "pros".to_owned(),
            rules: rules.to_vec(),
            invalid: invalid.map(str::to_owned),
            deleted: false,
        })
    };
    let environment = CatalogDoc::Environment(EnvironmentDoc {
        id: "7".into(),
        key: "key".to_owned(),
        name: "production".to_owned(),
        project_id: "2".into(),
        organisation_id: "1".into(),
        owner: "core".into(),
        called: [("edge".into(), "key".into())].into(),
        composite_identity_key: true,
        deleted: true,
    });
    let gate =
        |id: Option<&str>, mode| CatalogDoc::Gate(GateDoc { organisation_id: id.map(Into::into), mode });
    let docs = [
        segment(None),
        segment(Some("rules_data is no list")),
        environment,
        gate(None, Some(GateMode::On)),
        gate(Some("1"), Some(GateMode::Off)),
        gate(Some("1"), Some(GateMode::Exclude)),
        gate(Some("1"), None),
    ];
    docs.map(|doc| CatalogEntry { writer: "core".into(), number: 4, doc }).to_vec()
}

/// A record of a public topic as its writer would put it: topic, key, JSON.
pub type PublicRecord = (Topic, String, Vec<u8>);

/// Every record above that stands on a public topic, control records too.
///
/// # Panics
/// If one can't be written as JSON.
#[must_use]
pub fn public_records() -> Vec<PublicRecord> {
    fn put<T: Serialize>(all: &mut Vec<PublicRecord>, topic: Topic, key: String, record: &T) {
        all.push((topic, key, serde_json::to_vec(record).expect("a sample is written as JSON")));
    }
    let mut all = Vec::new();
    let out = &mut all;
    for record in identities() {
        put(out, Topic::Identities, format!("{}/{}", record.source, record.id), &record);
    }
    for record in memberships() {
        put(out, Topic::Memberships, format!("{}/{}", record.source, record.id), &record);
    }
    for record in membership_changes() {
        put(out, Topic::MembershipChanges, format!("{}/{}", record.source, record.id), &record);
    }
    for record in counts() {
        let key = format!("{}/{}/{}", record.segment_id, record.environment_id, record.partition);
        put(out, Topic::SegmentCounts, key, &record);
    }
    for record in checks_passed() {
        put(out, Topic::MembershipChanges, format!("{CONTROL_KEY}check"), &record);
        put(out, Topic::SegmentCounts, format!("{CONTROL_KEY}check"), &record);
    }
    put(out, Topic::SegmentCounts, format!("{CONTROL_KEY}watermark/core"), &watermark());
    for record in catalog() {
        put(out, Topic::Catalog, record.doc.key(), &record);
    }
    for record in quarantined() {
        put(out, Topic::Quarantine, quarantine_key(&record), &record);
    }
    all
}
