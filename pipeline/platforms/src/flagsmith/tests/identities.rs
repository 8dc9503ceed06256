//! What the rows of an identity make of it.

use std::collections::BTreeMap;

use rollcall_model::{Change, EnvironmentId, Group, NativeId, PageGroup, Patch, Value};

use super::super::{IDENTITY, TRAIT};
use super::*;

fn identity(id: i64, environment: i64, identifier: Cell, system_traits: &str) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("identifier", identifier),
        ("environment_id", Cell::Int(environment)),
        ("system_traits", Cell::Json(system_traits.into())),
    ])
}
fn trait_row(key: &str, value_type: Cell, string: Cell) -> Row {
    row(&[
        ("trait_key", text(key)),
        ("value_type", value_type),
        ("boolean_value", Cell::Bool(true)),
        ("integer_value", Cell::Int(21)),
        ("string_value", string),
        ("identity_id", Cell::Int(7)),
        ("float_value", Cell::Float(f64::INFINITY)),
    ])
}
fn unicode(key: &str, string: Cell) -> Row {
    trait_row(key, text("unicode"), string)
}
fn trait_key_row(key: &str) -> Row {
    row(&[("trait_key", text(key)), ("identity_id", Cell::Int(7))])
}
fn change_of(rows: Vec<(&str, RowOp)>) -> Option<Change> {
    let rows = rows.into_iter().map(|(table, op)| RowChange { table: table.into(), op }).collect();
    mapper().change(&Group { id: NativeId::Int(7), rows })
}
fn patch_of(rows: Vec<(&str, RowOp)>) -> Patch {
    match change_of(rows) {
        Some(Change::Patch { patch }) => patch,
        other => panic!("expected a patch, got {other:?}"),
    }
}
fn invalid_of(rows: Vec<(&str, RowOp)>) -> String {
    match change_of(rows) {
        Some(Change::Invalid { reason, raw }) => {
            assert!(raw.contains("environments_"));
            reason
        }
        other => panic!("expected an invalid change, got {other:?}"),
    }
}

#[test]
fn a_new_identity_is_whole_with_the_traits_of_its_transaction() {
    // The foreign key is deferred: a trait may stand before its identity.
    let change = change_of(vec![
        (TRAIT, RowOp::Insert(unicode("plan", text("growth")))),
        (IDENTITY, RowOp::Insert(identity(7, 3, text("ann"), "{}"))),
        (TRAIT, RowOp::Insert(unicode("gone", text("x")))),
        (TRAIT, RowOp::Delete(trait_key_row("gone"))),
        (
            IDENTITY,
            RowOp::Update {
                old: None,
                new: identity(7, 3, text("bob"), r#"{"c":true,"n":1.0,"b":12345678901234567890}"#),
            },
        ),
    ]);
    let Some(Change::Upsert { image }) = change else { panic!("an upsert, got {change:?}") };
    assert_eq!(image.identifier, "bob");
    assert_eq!(image.environment_id, EnvironmentId::from(3));
    assert_eq!(image.traits, [("plan".to_owned(), Value::Str("growth".into()))].into());
    assert_eq!(image.system_traits["c"], Value::Bool(true));
    assert_eq!(image.system_traits["n"], Value::Float(1.0));
    assert_eq!(image.system_traits["b"], Value::int("12345678901234567890".parse().unwrap()));
}

#[test]
fn updates_are_patches_and_deletes_are_deletes() {
    let patch =
        patch_of(vec![(IDENTITY, RowOp::Update { old: None, new: identity(7, 3, Cell::Unchanged, "{}") })]);
    assert_eq!((patch.identifier, patch.environment_id), (None, Some(EnvironmentId::from(3))));
    assert_eq!(patch.system_traits, Some(BTreeMap::new()));
    assert_eq!(
        change_of(vec![
            (IDENTITY, RowOp::Delete(row(&[("id", Cell::Int(7))]))),
            (TRAIT, RowOp::Delete(row(&[("id", Cell::Int(1))]))),
        ]),
        Some(Change::Delete)
    );
    assert_eq!(
        change_of(vec![
            (IDENTITY, RowOp::Insert(identity(7, 3, text("ann"), "{}"))),
            (IDENTITY, RowOp::Delete(row(&[("id", Cell::Int(7))]))),
        ]),
        None
    );
    assert_eq!(change_of(vec![]), None);
}

#[test]
fn a_row_deleted_and_inserted_again_keeps_the_traits_that_stayed() {
    let patch = patch_of(vec![
        (TRAIT, RowOp::Delete(trait_key_row("plan"))),
        (IDENTITY, RowOp::Delete(row(&[("id", Cell::Int(7))]))),
        (IDENTITY, RowOp::Insert(identity(7, 4, text("ann"), "{}"))),
        (TRAIT, RowOp::Insert(unicode("age", text("x")))),
    ]);
    assert_eq!(
        (patch.environment_id, patch.identifier.as_deref()),
        (Some(EnvironmentId::from(4)), Some("ann"))
    );
    assert!(patch.unset.contains("plan") && patch.set.contains_key("age"));
}

#[test]
fn value_type_decides_whatever_the_other_columns_hold() {
    let cases = [
        (text("int"), Value::Int(21)),
        (text("unicode"), Value::Str("forty".into())),
        (text("bool"), Value::Bool(true)),
        (text("float"), Value::Float(f64::INFINITY)),
        (Cell::Null, Value::Null),
        (text("decimal"), Value::Null),
    ];
    for (value_type, value) in cases {
        let row = trait_row("k", value_type, text("forty"));
        let patch = patch_of(vec![(TRAIT, RowOp::Update { old: None, new: row.clone() })]);
        assert_eq!(patch.set, [("k".to_owned(), value.clone())].into());
        let page = PageGroup {
            id: NativeId::Int(7),
            identity: identity(7, 3, text("ann"), "{}"),
            parts: [(TRAIT.into(), vec![row])].into(),
        };
        let Change::Upsert { image } = mapper().page_change(&page) else { panic!("an upsert") };
        assert_eq!(image.traits["k"], value);
    }
    let patch = patch_of(vec![(TRAIT, RowOp::Insert(unicode("k", Cell::Null)))]);
    assert_eq!(patch.set["k"], Value::Null);
}

#[test]
fn text_that_was_not_sent_is_never_guessed() {
    let unsent = |key: &str| RowOp::Update { old: None, new: unicode(key, Cell::Unchanged) };
    let patch = patch_of(vec![(TRAIT, unsent("plan"))]);
    assert!(patch.unchanged.contains("plan") && patch.set.is_empty());
    // Sent earlier in the same transaction: known.
    let patch =
        patch_of(vec![(TRAIT, RowOp::Insert(unicode("plan", text("long")))), (TRAIT, unsent("plan"))]);
    assert_eq!(patch.set["plan"], Value::Str("long".into()));
    // Renamed without its text: the image holds it under the other key only.
    let renamed = |old: Row| RowOp::Update { old: Some(old), new: unicode("tier", Cell::Unchanged) };
    assert!(invalid_of(vec![(TRAIT, renamed(trait_key_row("plan")))]).contains("REPLICA IDENTITY FULL"));
    // With the whole old row it is known.
    let patch = patch_of(vec![(TRAIT, renamed(unicode("plan", text("long"))))]);
    assert_eq!(patch.set["tier"], Value::Str("long".into()));
    assert!(patch.unset.contains("plan"));
    // Without a key nothing can be said.
    let keyless = RowOp::Delete(row(&[("id", Cell::Int(1))]));
    assert!(invalid_of(vec![(TRAIT, keyless)]).contains("REPLICA IDENTITY FULL"));
}

#[test]
fn a_trait_that_moves_to_another_identity_leaves_this_one() {
    let mut elsewhere = unicode("plan", text("x"));
    elsewhere.cells[5] = Cell::Int(8);
    let patch = patch_of(vec![(TRAIT, RowOp::Update { old: Some(trait_key_row("plan")), new: elsewhere })]);
    assert!(patch.unset.contains("plan") && patch.set.is_empty());
}

#[test]
fn rows_of_another_shape_are_invalid_with_a_reason() {
    let identity_with = |system: &str| (IDENTITY, RowOp::Insert(identity(7, 3, text("ann"), system)));
    assert!(invalid_of(vec![identity_with("[1]")]).contains("system_traits"));
    assert!(invalid_of(vec![identity_with(r#"{"a":{"b":1}}"#)]).contains("system_traits"));
    let mut numeric = trait_row("k", text("int"), Cell::Null);
    numeric.cells[3] = text("5");
    assert!(invalid_of(vec![(TRAIT, RowOp::Insert(numeric))]).contains("integer_value"));
    let null = identity(7, 3, Cell::Null, "{}");
    assert!(invalid_of(vec![(IDENTITY, RowOp::Insert(null))]).contains("identifier"));
}
