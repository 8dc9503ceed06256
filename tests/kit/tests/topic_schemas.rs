//! Every kind of record, serialised as the parts write it, is what `schemas/topics` says; and what it doesn't say is
//! refused. A changed record without a changed schema, or the other way round, fails here.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonschema::Validator;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::Truncated;
use rollcall_model::{
    BackfillId, CatalogDoc, Cause, Cell, Change, ChangeRecord, CheckReport, CheckScope, CheckTotal,
    Condition, CountRecord, CountState, EnvironmentDoc, FillReport, Fingerprint, GateDoc, GateMode,
    IdentityKey, IdentityRecord, IdentityState, Image, Input, LogId, Member, MembershipChange,
    MembershipRecord, NativeId, Partition, Patch, Place, Progress, QuarantineRecord, Row, Rule, RuleType,
    SegmentDoc, Seq, Topic, Traits, Value, Version, WaitingPatch, WatermarkRecord,
};
use rollcall_roster::output::CheckPassed;
use serde::Serialize;
use serde_json::{Value as Json, json};

fn schema(topic: Topic) -> Validator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/topics");
    let path = folder.join(format!("{}.v1.json", topic.name()));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let schema: Json = serde_json::from_str(&text).unwrap();
    jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each record is taken; with a field more, and with each of its fields less that the schema requires, it is refused.
fn takes<T: Serialize>(topic: Topic, records: &[T]) {
    let schema = schema(topic);
    for record in records {
        let value = serde_json::to_value(record).unwrap();
        let faults: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{}: {value:#}\n{faults:#?}", topic.name());
        let Json::Object(fields) = &value else { panic!("{} is no object", topic.name()) };
        let mut more = fields.clone();
        more.insert("surprise".to_owned(), json!(1));
        assert!(!schema.is_valid(&Json::Object(more)), "{} takes an unknown field: {value}", topic.name());
        for name in fields.keys() {
            let mut wrong = fields.clone();
            // No field of any record is a list of one such object.
            wrong.insert(name.clone(), json!([{"no": "such"}]));
            let free =
                matches!((topic, name.as_str()), (Topic::Quarantine, "payload") | (Topic::Progress, "state"));
            assert_eq!(
                schema.is_valid(&Json::Object(wrong)),
                free,
                "{}.{name} takes what it should not, or the reverse",
                topic.name()
            );
        }
    }
}

fn refuses(topic: Topic, value: &Json) {
    assert!(!schema(topic).is_valid(value), "{} takes {value}", topic.name());
}

fn traits() -> Traits {
    Traits::from([
        ("null".to_owned(), Value::Null),
        ("bool".to_owned(), Value::Bool(true)),
        ("int".to_owned(), Value::Int(i64::MIN)),
        ("big".to_owned(), Value::int("-170141183460469231731687303715884105728".parse().unwrap())),
        ("float".to_owned(), Value::Float(1e22)),
        ("nan".to_owned(), Value::Float(f64::NAN)),
        ("infinity".to_owned(), Value::Float(f64::NEG_INFINITY)),
        ("text".to_owned(), Value::Str("2024-01-01\0\"é".to_owned())),
    ])
}

fn image() -> Image {
    Image {
        environment_id: "7".into(),
        identifier: "anna".to_owned(),
        traits: traits(),
        system_traits: Traits::from([("plan".to_owned(), Value::Str("pro".to_owned()))]),
    }
}

fn place() -> Place {
    Place { epoch: 1, offset: u64::MAX }
}

fn changes() -> Vec<ChangeRecord> {
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

fn scopes() -> Vec<CheckScope> {
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

#[test]
fn identity_changes() {
    let source = || "core".into();
    let backfill = || BackfillId("core-1".to_owned());
    let mut inputs: Vec<Input> = changes().into_iter().map(Input::Change).collect();
    inputs.extend(scopes().into_iter().map(|scope| Input::Check { id: "check-1".to_owned(), scope }));
    inputs.extend([
        Input::Catalog { writer: "topology".into(), number: 1 },
        Input::Begin { source: source(), backfill: backfill(), gap: true },
        Input::Page {
            source: source(),
            backfill: backfill(),
            from: None,
            to: Some(NativeId::Int(1_000)),
            present: BTreeSet::from([NativeId::Int(1), NativeId::Text("a".into())]),
            source_time_us: 1,
        },
        Input::Page {
            source: source(),
            backfill: backfill(),
            from: Some(NativeId::Int(1_000)),
            to: None,
            present: BTreeSet::new(),
            source_time_us: 1,
        },
        Input::End { source: source(), backfill: backfill() },
        Input::Truncate { source: source(), what: Truncated::Identities, source_time_us: 1 },
        Input::Truncate { source: source(), what: Truncated::Traits, source_time_us: 1 },
        Input::Watermark { source: source(), position: "0/1".to_owned(), at_us: 1 },
        Input::Fill { id: "fill-1".to_owned(), segment_id: None, environment_id: Some("7".into()) },
        Input::Replay { key: IdentityKey { source: source(), id: NativeId::Int(1) } },
        Input::Suspend { segment_id: "3".into(), number: 4, reason: "modulo by zero".to_owned() },
        Input::Repair { segment_id: "3".into(), environment_id: "7".into(), ids: vec![NativeId::Int(1)] },
    ]);
    takes(Topic::IdentityChanges, &inputs);
    refuses(Topic::IdentityChanges, &json!({"kind": "begin", "source": "core"}));
    refuses(Topic::IdentityChanges, &json!({"kind": "unheard of"}));
    let mut change = serde_json::to_value(&inputs[0]).unwrap();
    change["image"]["traits"]["nan"] = json!({"$float": "nan"});
    refuses(Topic::IdentityChanges, &change);
    change["image"]["traits"]["nan"] = json!([1]);
    refuses(Topic::IdentityChanges, &change);
}

#[test]
fn identities() {
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
    };
    let patches = changes().into_iter().map(|change| WaitingPatch { place: place(), change }).collect();
    takes(
        Topic::Identities,
        &[
            record(IdentityState::Live(image()), true),
            record(IdentityState::Live(image()), false),
            record(IdentityState::Deleted, true),
            record(IdentityState::Pending { patches }, false),
        ],
    );
    let mut live = serde_json::to_value(record(IdentityState::Live(image()), true)).unwrap();
    live.as_object_mut().unwrap().remove("identifier");
    refuses(Topic::Identities, &live);
}

#[test]
fn memberships_and_their_changes() {
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
    takes(Topic::Memberships, &[record.clone(), MembershipRecord { segments: Vec::new(), ..record }]);
    let causes = [Cause::Change, Cause::Definition, Cause::Gate, Cause::Manual, Cause::Expiry, Cause::Repair];
    let records = causes.map(|cause| MembershipChange {
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
    });
    takes(Topic::MembershipChanges, &records);
    let checks: Vec<_> = scopes()
        .into_iter()
        .map(|scope| CheckPassed { id: "check-1".to_owned(), scope, seq: Seq(9) })
        .collect();
    takes(Topic::MembershipChanges, &checks);
    takes(Topic::SegmentCounts, &checks);
    let mut wrong = serde_json::to_value(&records[0]).unwrap();
    wrong["cause"] = json!("whim");
    refuses(Topic::MembershipChanges, &wrong);
}

#[test]
fn segment_counts() {
    let states = [
        CountState::Live,
        CountState::Filling,
        CountState::Unsupported { reason: "a regex that doesn't compile".to_owned() },
        CountState::Removed,
    ];
    let records = states.map(|state| CountRecord {
        log_id: LogId("log".to_owned()),
        segment_id: "3".into(),
        environment_id: "7".into(),
        partition: Partition(1),
        count: u64::MAX,
        fingerprint: Fingerprint(0xfeed),
        seq: Seq(9),
        state,
    });
    takes(Topic::SegmentCounts, &records);
    let watermark = WatermarkRecord {
        source: "core".into(),
        partition: Partition(1),
        position: "0/1".to_owned(),
        at_us: 5,
        seq: Seq(9),
    };
    takes(Topic::SegmentCounts, &[watermark]);
    let mut wrong = serde_json::to_value(&records[0]).unwrap();
    wrong["count"] = json!(-1);
    refuses(Topic::SegmentCounts, &wrong);
    wrong["count"] = json!(1);
    wrong["reason"] = json!("only the unsupported have one");
    refuses(Topic::SegmentCounts, &wrong);
}

#[test]
fn quarantine() {
    let record = QuarantineRecord {
        key: Some(IdentityKey { source: "core".into(), id: NativeId::Int(1) }),
        reason: "unknown value type".to_owned(),
        origin: "roster".to_owned(),
        payload: json!({"any": ["thing"]}),
        place: Some(place()),
        position: "0/1".to_owned(),
        parks: true,
    };
    takes(Topic::Quarantine, &[record.clone(), QuarantineRecord { key: None, place: None, ..record }]);
}

#[test]
fn catalog_and_its_rows() {
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
    let entries = docs.map(|doc| CatalogEntry { writer: "core".into(), number: 4, doc });
    takes(Topic::Catalog, &entries);
    let cells = vec![
        Cell::Null,
        Cell::Bool(true),
        Cell::Int(-1),
        Cell::Float(f64::NAN),
        Cell::Text("t".to_owned()),
        Cell::Uuid("u".to_owned()),
        Cell::Json("{}".to_owned()),
        Cell::TimestampUs(i64::MAX),
        Cell::Unchanged,
    ];
    let columns = (0..cells.len()).map(|n| format!("c{n}").into()).collect::<Vec<_>>().into();
    takes(Topic::CatalogRows, &[Row { columns, cells }]);
    refuses(Topic::CatalogRows, &json!({"columns": ["a"], "cells": [{"varchar": "x"}]}));
}

#[test]
fn progress_and_checks() {
    let reads = Topic::ALL.iter().map(|topic| ((*topic, Partition(0)), place())).collect();
    takes(Topic::Progress, &[Progress { reads, state: json!({"any": 1}) }, Progress::default()]);
    let total = |by_key: bool| CheckTotal {
        segment_id: "3".into(),
        environment_id: (!by_key).then(|| "7".into()),
        environment_key: by_key.then(|| "key".to_owned()),
        count: 2,
        fingerprint: Fingerprint(1),
    };
    let full = CheckReport {
        id: "check-1".to_owned(),
        store: "clickhouse".to_owned(),
        partition: Partition(1),
        totals: vec![total(true), total(false)],
        buckets: BTreeMap::from([(0, (1, Fingerprint(1))), (255, (0, Fingerprint(0)))]),
        members: BTreeSet::from(["1".to_owned()]),
        differences: vec!["row 3/7 is 4, the ledger says 5".to_owned()],
    };
    takes(Topic::Checks, &[full, CheckReport::default()]);
    let fill = FillReport { id: "fill-1".to_owned(), partition: Partition(1), identities: 10, differed: 0 };
    takes(Topic::Checks, &[fill]);
}

#[test]
fn every_topic_has_a_schema_and_every_schema_a_topic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/topics");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let topics: BTreeSet<String> =
        Topic::ALL.iter().map(|topic| format!("{}.v1.json", topic.name())).collect();
    assert_eq!(files, topics);
}
