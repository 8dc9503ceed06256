//! Every kind of record, serialised as the parts write it, is what `schemas/topics` says; and what it doesn't say is
//! refused. A changed record without a changed schema, or the other way round, fails here.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonschema::Validator;
use rollcall_kit::samples;
use rollcall_model::control::{Truncated, Unfound};
use rollcall_model::{
    BackfillId, Cell, CheckReport, CheckTotal, FillReport, Fingerprint, IdentityKey, Input, NativeId,
    Partition, Progress, Row, Topic,
};
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

#[test]
fn identity_changes() {
    let source = || "core".into();
    let backfill = || BackfillId("core-1".to_owned());
    let mut inputs: Vec<Input> = samples::changes().into_iter().map(Input::Change).collect();
    inputs
        .extend(samples::scopes().into_iter().map(|scope| Input::Check { id: "check-1".to_owned(), scope }));
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
        Input::End { source: source(), backfill: backfill(), unfound: Unfound::Stay },
        Input::End { source: source(), backfill: backfill(), unfound: Unfound::Gone { since_us: 1 } },
        Input::End {
            source: source(),
            backfill: backfill(),
            unfound: Unfound::GoneIfStreamed { from_us: 1, to_us: 2 },
        },
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
    takes(Topic::Identities, &samples::identities());
    let mut live = serde_json::to_value(&samples::identities()[0]).unwrap();
    live.as_object_mut().unwrap().remove("identifier");
    refuses(Topic::Identities, &live);
}

#[test]
fn memberships_and_their_changes() {
    takes(Topic::Memberships, &samples::memberships());
    let records = samples::membership_changes();
    takes(Topic::MembershipChanges, &records);
    takes(Topic::MembershipChanges, &samples::checks_passed());
    takes(Topic::SegmentCounts, &samples::checks_passed());
    let mut wrong = serde_json::to_value(&records[0]).unwrap();
    wrong["cause"] = json!("whim");
    refuses(Topic::MembershipChanges, &wrong);
}

#[test]
fn segment_counts() {
    let records = samples::counts();
    takes(Topic::SegmentCounts, &records);
    takes(Topic::SegmentCounts, &[samples::watermark()]);
    let mut wrong = serde_json::to_value(&records[0]).unwrap();
    wrong["count"] = json!(-1);
    refuses(Topic::SegmentCounts, &wrong);
    wrong["count"] = json!(1);
    wrong["reason"] = json!("only the unsupported have one");
    refuses(Topic::SegmentCounts, &wrong);
}

#[test]
fn quarantine() {
    takes(Topic::Quarantine, &samples::quarantined());
}

#[test]
fn catalog_and_its_rows() {
    takes(Topic::Catalog, &samples::catalog());
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
    let reads = Topic::ALL.iter().map(|topic| ((*topic, Partition(0)), samples::place())).collect();
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
