//! Every record comes back from its rows as it was.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use num_bigint::BigInt;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use rollcall_model::{
    BackfillId, Cause, Change, ChangeRecord, CountRecord, CountState, Fingerprint, IdentityRecord,
    IdentityState, Image, LogId, Member, MembershipChange, MembershipRecord, NativeId, OutRecord, Partition,
    Patch, Place, Precedence, Seen, Seq, Topic, Traits, Value, Version, WaitingPatch, WatermarkRecord,
};

use super::{LAKE_TABLES, LakeTable, lake_batch, lake_records};

fn there_and_back(topic: Topic, partition: Partition, records: &[OutRecord]) -> RecordBatch {
    let table = LakeTable::of(topic).unwrap();
    let batch = lake_batch(table, partition, records).unwrap();
    assert_eq!(batch.schema(), table.schema.arrow());
    assert_eq!(lake_records(table, &batch).unwrap(), records);
    batch
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => "[a-c]{0,3}",
        1 => any::<String>(),
        1 => Just("\u{0}\"\\{}[]\u{1F600}\u{202E}é".to_owned()),
        1 => Just("a.b".to_owned()),
        1 => Just("$int".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].prop_map(Value::Int),
        any::<(u128, bool)>().prop_map(|(n, minus)| {
            let n = BigInt::from(n) << 70_u32;
            Value::int(if minus { -n } else { n })
        }),
        // One NaN: JSON has but its name.
        any::<f64>().prop_map(|x| Value::Float(if x.is_nan() { f64::NAN } else { x })),
        prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            Just(10.0),
            Just(1e22),
            Just(5e-324)
        ]
        .prop_map(Value::Float),
        text().prop_map(Value::Str),
        prop_oneof![Just("NaN"), Just("9223372036854775808"), Just("2024-01-01"), Just("null")]
            .prop_map(|text| Value::Str(text.to_owned())),
    ]
}

fn traits() -> impl Strategy<Value = Traits> {
    btree_map(text(), value(), 0..6)
}

fn id() -> impl Strategy<Value = NativeId> {
    let texts = prop_oneof![
        text(),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("007".to_owned()),
        Just("-0".to_owned())
    ];
    prop_oneof![any::<i64>().prop_map(NativeId::Int), texts.prop_map(|text| NativeId::Text(Arc::from(text)))]
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u32>(), any::<u64>()).prop_map(|(epoch, offset)| Place { epoch, offset })
}

fn image() -> impl Strategy<Value = Image> {
    (text(), text(), traits(), traits()).prop_map(|(environment, identifier, traits, system_traits)| Image {
        environment_id: environment.into(),
        identifier,
        traits,
        system_traits,
    })
}

fn patch() -> impl Strategy<Value = Patch> {
    (option::of(text()), traits(), btree_set(text(), 0..3), option::of(traits())).prop_map(
        |(identifier, set, unset, system_traits)| Patch {
            environment_id: None,
            identifier,
            set,
            unchanged: unset.clone(),
            unset,
            system_traits,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        image().prop_map(|image| Change::Upsert { image }),
        patch().prop_map(|patch| Change::Patch { patch }),
        Just(Change::Delete),
        (text(), text()).prop_map(|(reason, raw)| Change::Invalid { reason, raw }),
    ]
}

fn waiting() -> impl Strategy<Value = WaitingPatch> {
    let precedence = prop_oneof![
        Just(Precedence::Place),
        Just(Precedence::Streamed),
        any::<i64>().prop_map(|cut_us| Precedence::Found { cut_us })
    ];
    let record = (text(), id(), change(), any::<i64>(), option::of(text()), precedence).prop_map(
        |(source, id, change, source_time_us, backfill, precedence)| ChangeRecord {
            source: source.into(),
            id,
            change,
            source_time_us,
            position: "0/1".into(),
            backfill: backfill.map(BackfillId),
            precedence,
        },
    );
    (place(), record).prop_map(|(place, change)| WaitingPatch { place, change })
}

fn identity() -> impl Strategy<Value = OutRecord> {
    let state = prop_oneof![
        4 => image().prop_map(IdentityState::Live),
        1 => Just(IdentityState::Deleted),
        1 => vec(waiting(), 0..3).prop_map(|patches| IdentityState::Pending { patches }),
    ];
    let seen = (any::<i64>(), option::of(text()))
        .prop_map(|(streamed_us, backfill)| Seen { streamed_us, backfill: backfill.map(BackfillId) });
    let head = (text(), any::<u16>(), any::<u64>(), any::<i64>(), any::<bool>(), text(), id());
    let keys = (option::of(text()), option::of(text()), btree_set(text(), 0..3));
    let rest = (state, place(), vec(place(), 0..3), prop_oneof![Just(Seen::default()), seen]);
    (head, keys, rest).prop_map(
        |(
            (log, partition, seq, version, deleted, source, id),
            (environment_key, identity_key, left),
            (state, place, parked, seen),
        )| {
            OutRecord::Identity(IdentityRecord {
                log_id: LogId(log),
                partition: Partition(partition),
                seq: Seq(seq),
                version: Version(version),
                deleted,
                source: source.into(),
                id,
                environment_key,
                identity_key,
                state,
                left_environment_keys: left,
                place,
                parked,
                seen,
            })
        },
    )
}

fn membership() -> impl Strategy<Value = OutRecord> {
    let member = (text(), any::<i64>(), vec(text(), 0..3)).prop_map(|(segment, since_us, sources)| Member {
        segment_id: segment.into(),
        since_us,
        sources,
    });
    (text(), any::<u64>(), any::<i64>(), id(), (text(), text(), text()), vec(member, 0..4)).prop_map(
        |(log, seq, version, id, (environment, key, identifier), segments)| {
            OutRecord::Membership(MembershipRecord {
                log_id: LogId(log),
                seq: Seq(seq),
                version: Version(version),
                source: "core".into(),
                id,
                environment_id: environment.into(),
                environment_key: key,
                identifier,
                segments,
            })
        },
    )
}

fn membership_change() -> impl Strategy<Value = OutRecord> {
    let cause = prop_oneof![
        Just(Cause::Change),
        Just(Cause::Definition),
        Just(Cause::Gate),
        Just(Cause::Manual),
        Just(Cause::Expiry),
        Just(Cause::Repair)
    ];
    let texts = (text(), text(), text(), text(), text(), text());
    let sets = (btree_set(text(), 0..4), vec(text(), 0..4), vec(text(), 0..4));
    (texts, any::<(u64, i64, i64)>(), id(), sets, cause, text()).prop_map(
        |(
            (event, log, environment, key, identifier, identity_key),
            (seq, version, at),
            id,
            (changed, entered, left),
            cause,
            position,
        )| {
            OutRecord::MembershipChange(MembershipChange {
                event_id: event,
                log_id: LogId(log),
                environment_id: environment.into(),
                environment_key: key,
                source: "core".into(),
                id,
                identifier,
                identity_key,
                version: Version(version),
                seq: Seq(seq),
                changed,
                entered: entered.into_iter().map(Into::into).collect(),
                left: left.into_iter().map(Into::into).collect(),
                cause,
                at_us: at,
                position,
            })
        },
    )
}

fn count() -> impl Strategy<Value = OutRecord> {
    let state = prop_oneof![
        Just(CountState::Live),
        Just(CountState::Filling),
        text().prop_map(|reason| CountState::Unsupported { reason }),
        Just(CountState::Removed)
    ];
    (text(), text(), text(), any::<(u16, u64, u64, u64)>(), state).prop_map(
        |(log, segment, environment, (partition, count, fingerprint, seq), state)| {
            OutRecord::Count(CountRecord {
                log_id: LogId(log),
                segment_id: segment.into(),
                environment_id: environment.into(),
                partition: Partition(partition),
                count,
                fingerprint: Fingerprint(fingerprint),
                seq: Seq(seq),
                state,
            })
        },
    )
}

proptest! {
    #[test]
    fn identities_come_back(records in vec(identity(), 0..8)) {
        let batch = there_and_back(Topic::Identities, Partition(0), &records);
        // What readers see is what ClickHouse gets, beside rows of unknown environments, which are gone to them.
        let with_own_row = |record: &OutRecord| matches!(record, OutRecord::Identity(i)
            if i.environment_key.as_ref().is_some_and(|key| !key.is_empty()));
        let known: Vec<_> = records.iter().filter(|record| with_own_row(record)).cloned().collect();
        let rows = lake_batch(LakeTable::of(Topic::Identities).unwrap(), Partition(0), &known).unwrap();
        let identities = known.iter().filter_map(|record| {
            if let OutRecord::Identity(identity) = record { Some(identity) } else { None }
        });
        let sink = crate::identities_batch(identities).unwrap();
        prop_assert_eq!(&rows.columns()[..sink.num_columns()], sink.columns());
        let keys = batch.column_by_name("environment_id").unwrap().as_string::<i32>();
        let deleted = batch.column_by_name("is_deleted").unwrap().as_primitive::<UInt8Type>();
        for row in 0..batch.num_rows() {
            prop_assert!(!keys.value(row).is_empty() || deleted.value(row) == 1);
        }
    }

    #[test]
    fn memberships_come_back(partition in any::<u16>(), records in vec(membership(), 0..8)) {
        there_and_back(Topic::Memberships, Partition(partition), &records);
    }

    #[test]
    fn membership_changes_come_back(partition in any::<u16>(), records in vec(membership_change(), 0..8)) {
        there_and_back(Topic::MembershipChanges, Partition(partition), &records);
    }

    #[test]
    fn counts_come_back(records in vec(count(), 0..8)) {
        there_and_back(Topic::SegmentCounts, Partition(0), &records);
    }
}

fn record(traits: Traits, system_traits: Traits) -> IdentityRecord {
    IdentityRecord {
        log_id: LogId("log".into()),
        partition: Partition(3),
        seq: Seq(7),
        version: Version(9),
        deleted: false,
        source: "core".into(),
        id: NativeId::Int(42),
        environment_key: Some("env".into()),
        identity_key: Some("env_ann".into()),
        state: IdentityState::Live(Image {
            environment_id: "1".into(),
            identifier: "ann".into(),
            traits,
            system_traits,
        }),
        left_environment_keys: BTreeSet::new(),
        place: Place { epoch: 0, offset: 5 },
        parked: Vec::new(),
        seen: Seen::default(),
    }
}

/// What has a column is not said again: the usual row adds its place and environment alone.
#[test]
fn the_rest_of_a_usual_identity_is_small() {
    let records = [OutRecord::Identity(record(Traits::from([("a".into(), Value::Int(1))]), Traits::new()))];
    let batch = there_and_back(Topic::Identities, Partition(3), &records);
    let rest = batch.column_by_name("record").unwrap().as_string::<i32>();
    assert_eq!(rest.value(0), r#"{"place":{"epoch":0,"offset":5},"environment":"1"}"#);
}

#[test]
fn an_environment_left_is_a_deleted_row_that_stands_for_no_record() {
    let mut moved = record(Traits::new(), Traits::new());
    moved.left_environment_keys = BTreeSet::from(["env".into(), "old".into(), String::new()]);
    let batch = there_and_back(Topic::Identities, Partition(3), &[OutRecord::Identity(moved)]);
    let keys = batch.column_by_name("environment_id").unwrap().as_string::<i32>();
    let rest = batch.column_by_name("record").unwrap().as_string::<i32>();
    let rows: Vec<_> =
        (0..batch.num_rows()).map(|row| (keys.value(row), rest.value(row).is_empty())).collect();
    assert_eq!(rows, [("env", false), ("", true), ("old", true)]);
}

#[test]
fn watermarks_have_no_row_and_records_of_another_table_are_a_bug() {
    let watermark = OutRecord::Watermark(WatermarkRecord {
        source: "core".into(),
        partition: Partition(0),
        position: "0/1".into(),
        at_us: 1,
        seq: Seq(1),
    });
    let image = OutRecord::Identity(record(Traits::new(), Traits::new()));
    for table in &LAKE_TABLES {
        assert_eq!(lake_batch(table, Partition(0), [&watermark]).unwrap().num_rows(), 0);
        assert_eq!(lake_batch(table, Partition(0), [&image]).is_ok(), table.topic == Topic::Identities);
    }
}

#[test]
fn rows_that_no_record_makes_are_refused_by_name() {
    let table = LakeTable::of(Topic::SegmentCounts).unwrap();
    let count = OutRecord::Count(CountRecord {
        log_id: LogId("log".into()),
        segment_id: "1".into(),
        environment_id: "2".into(),
        partition: Partition(0),
        count: 1,
        fingerprint: Fingerprint(u64::MAX),
        seq: Seq(1),
        state: CountState::Live,
    });
    let batch = lake_batch(table, Partition(0), [&count]).unwrap();
    let state = batch.schema().index_of("state").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[state] = Arc::new(arrow_array::StringArray::from(vec!["guessed"]));
    let altered = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let fault = lake_records(table, &altered).unwrap_err();
    assert!(fault.to_string().contains("lake_segment_counts: its state is unknown"), "{fault}");
    let without = batch.project(&[0, 1, 2]).unwrap();
    let fault = lake_records(table, &without).unwrap_err();
    assert!(fault.to_string().contains("isn't there"), "{fault}");
}

/// Sorting, merging and the newest version rest on these columns.
#[test]
fn the_columns_that_tables_name_exist() {
    for table in &LAKE_TABLES {
        let named = table.sort.iter().chain(table.key).chain([&table.version]).chain(&table.event);
        for name in named {
            assert!(table.schema.columns.iter().any(|c| c.name == *name), "{} {name}", table.name);
        }
        assert_eq!(table.schema.name, format!("lake_{}", table.name));
        assert!(table.sort.starts_with(table.key), "rows of a key lie together");
        assert_eq!(LakeTable::of(table.topic), Some(table));
    }
}
