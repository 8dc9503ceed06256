#![allow(clippy::unwrap_used)]
//! The mapper against the hazards of the platform's schema, and against a recompute from the final rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{
    CatalogDoc, Cell, Change, EnvironmentId, Group, NativeId, OrganisationId, PageGroup, Patch, Row,
    RowChange, RowOp, SegmentDoc, Value,
};

use super::*;

fn row(cells: &[(&str, Cell)]) -> Row {
    Row {
        columns: cells.iter().map(|(name, _)| Arc::from(*name)).collect(),
        cells: cells.iter().map(|(_, cell)| cell.clone()).collect(),
    }
}
fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}
fn deleted_at(deleted: bool) -> (&'static str, Cell) {
    ("deleted_at", if deleted { Cell::TimestampUs(1) } else { Cell::Null })
}
fn opt(id: Option<i64>) -> Cell {
    id.map_or(Cell::Null, Cell::Int)
}

fn organisation(id: i64, deleted: bool) -> Row {
    row(&[("id", Cell::Int(id)), deleted_at(deleted), ("name", text("o"))])
}
fn project(id: i64, organisation: i64, deleted: bool, edge: bool) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("organisation_id", Cell::Int(organisation)),
        ("enable_dynamo_db", Cell::Bool(edge)),
        deleted_at(deleted),
    ])
}
fn environment(id: i64, project: i64, name: &str, deleted: bool) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("name", text(name)),
        ("project_id", Cell::Int(project)),
        ("api_key", text(&format!("env{id}"))),
        ("use_mv_v2_evaluation", Cell::Bool(id % 2 == 0)),
        ("updated_at", Cell::TimestampUs(id)),
        deleted_at(deleted),
    ])
}
fn segment(id: i64, project: i64, version_of: Option<i64>, rules_data: Cell, deleted: bool) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("name", text("s")),
        ("project_id", Cell::Int(project)),
        ("version_of_id", opt(version_of)),
        ("version", Cell::Int(1)),
        ("rules_data", rules_data),
        deleted_at(deleted),
    ])
}
fn rule(id: i64, segment: Option<i64>, parent: Option<i64>, deleted: bool) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("segment_id", opt(segment)),
        ("rule_id", opt(parent)),
        ("type", text("ALL")),
        deleted_at(deleted),
    ])
}
fn condition(id: i64, rule: i64, value: Cell, deleted: bool) -> Row {
    row(&[
        ("id", Cell::Int(id)),
        ("rule_id", Cell::Int(rule)),
        ("operator", text("EQUAL")),
        ("property", text("plan")),
        ("value", value),
        deleted_at(deleted),
    ])
}

const ORGANISATION: &str = "organisations_organisation";
const PROJECT: &str = "projects_project";
const ENVIRONMENT: &str = "environments_environment";
const SEGMENT: &str = "segments_segment";
const RULE: &str = "segments_segmentrule";
const CONDITION: &str = "segments_condition";

fn insert(table: &str, row: Row) -> RowChange {
    RowChange { table: table.into(), op: RowOp::Insert(row) }
}
fn update(table: &str, new: Row) -> RowChange {
    RowChange { table: table.into(), op: RowOp::Update { old: None, new } }
}
fn delete(table: &str, id: i64) -> RowChange {
    RowChange { table: table.into(), op: RowOp::Delete(row(&[("id", Cell::Int(id))])) }
}
fn mapper() -> Mapper {
    Mapper::new("core".into())
}
fn base(mapper: &mut Mapper) {
    let delta = mapper.catalog(
        &[
            insert(ENVIRONMENT, environment(3, 2, "Production", false)),
            insert(PROJECT, project(2, 1, false, false)),
            insert(ORGANISATION, organisation(1, false)),
        ],
        &[],
    );
    assert_eq!(delta.docs.len(), 1);
    assert_eq!(
        delta.rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(),
        [format!("{ORGANISATION}/1"), format!("{PROJECT}/2"), format!("{ENVIRONMENT}/3")]
    );
}
fn the_segment(delta: &CatalogDelta) -> &SegmentDoc {
    match delta.docs.as_slice() {
        [CatalogDoc::Segment(doc)] => doc,
        other => panic!("expected one segment, got {other:?}"),
    }
}

#[test]
fn an_environment_has_its_facts_and_its_owner() {
    let mut mapper = Mapper::new("core".into()).with_edge(Some("edge".into()));
    base(&mut mapper);
    let CatalogDoc::Environment(doc) = &mapper.documents()[0] else { panic!("an environment") };
    assert_eq!((doc.key.as_str(), doc.name.as_str(), doc.owner.as_str()), ("env3", "Production", "core"));
    assert!(!doc.composite_identity_key);
    let environment_id = EnvironmentId::from(3);
    assert_eq!(mapper.organisation_of(&environment_id), Some(OrganisationId::from(1)));

    let delta = mapper.catalog(&[update(PROJECT, project(2, 1, false, true))], &[]);
    let [CatalogDoc::Environment(doc)] = delta.docs.as_slice() else { panic!("one environment") };
    assert_eq!(doc.owner.as_str(), "edge");
    assert_eq!(mapper.organisation_of(&EnvironmentId::from("x")), None);
}

#[test]
fn an_update_without_meaning_yields_nothing() {
    let mut mapper = mapper();
    base(&mut mapper);
    let mut touched = environment(3, 2, "Production", false);
    touched.cells[5] = Cell::TimestampUs(99);
    assert!(mapper.catalog(&[update(ENVIRONMENT, touched)], &[]).is_empty());
}

#[test]
fn a_segment_created_row_by_row_appears_once_and_whole() {
    let mut mapper = mapper();
    base(&mut mapper);
    let data = Cell::Json(r#"[{"type":"ALL","rules":[],"conditions":[]}]"#.into());
    let made = mapper.catalog(
        &[
            insert(SEGMENT, segment(5, 2, None, data.clone(), false)),
            update(SEGMENT, segment(5, 2, Some(5), data, false)),
        ],
        &[],
    );
    assert_eq!(the_segment(&made).rules.len(), 1);
    for change in
        [insert(RULE, rule(6, Some(5), None, false)), insert(CONDITION, condition(7, 6, text("x"), false))]
    {
        let delta = mapper.catalog(&[change], &[]);
        assert_eq!(delta.docs, []);
        assert_eq!(delta.rows.len(), 1);
    }
}

#[test]
fn revisions_and_half_made_segments_are_no_segments() {
    let mut mapper = mapper();
    base(&mut mapper);
    mapper.catalog(&[insert(SEGMENT, segment(5, 2, Some(5), Cell::Null, false))], &[]);
    let revision = mapper.catalog(&[insert(SEGMENT, segment(8, 2, None, Cell::Null, false))], &[]);
    assert_eq!(revision.docs, []);
    let linked = mapper.catalog(&[update(SEGMENT, segment(8, 2, Some(5), Cell::Null, false))], &[]);
    assert_eq!(linked.docs, []);
}

#[test]
fn unchanged_toast_is_filled_from_the_kept_row_and_unknown_is_said() {
    let mut mapper = mapper();
    base(&mut mapper);
    let data = Cell::Json(r#"[{"type":"ANY"}]"#.into());
    mapper.catalog(&[insert(SEGMENT, segment(5, 2, Some(5), data, false))], &[]);
    assert!(
        mapper.catalog(&[update(SEGMENT, segment(5, 2, Some(5), Cell::Unchanged, false))], &[]).is_empty()
    );
    let gone = mapper.catalog(&[update(SEGMENT, segment(5, 2, Some(5), Cell::Unchanged, true))], &[]);
    let doc = the_segment(&gone);
    assert!(doc.deleted && doc.rules.len() == 1 && doc.invalid.is_none());

    let unknown = mapper.catalog(&[update(SEGMENT, segment(9, 2, Some(9), Cell::Unchanged, false))], &[]);
    assert!(the_segment(&unknown).invalid.as_ref().unwrap().contains("rollcall backfill"));
    let value = [
        insert(SEGMENT, segment(10, 2, Some(10), Cell::Null, false)),
        insert(RULE, rule(11, Some(10), None, false)),
        update(CONDITION, condition(12, 11, Cell::Unchanged, false)),
    ];
    assert!(the_segment(&mapper.catalog(&value, &[])).invalid.is_some());
}

#[test]
fn rows_make_the_tree_in_order_of_id_without_what_is_deleted() {
    let mut mapper = mapper();
    base(&mut mapper);
    let delta = mapper.catalog(
        &[
            insert(CONDITION, condition(22, 12, text("b"), false)),
            insert(CONDITION, condition(21, 12, Cell::Null, false)),
            insert(CONDITION, condition(23, 12, text("c"), true)),
            insert(RULE, rule(12, None, Some(11), false)),
            insert(RULE, rule(13, None, Some(11), true)),
            insert(RULE, rule(11, Some(5), None, false)),
            insert(SEGMENT, segment(5, 2, Some(5), Cell::Null, false)),
        ],
        &[],
    );
    let doc = the_segment(&delta);
    assert_eq!((doc.rules.len(), doc.rules[0].rules.len()), (1, 1));
    let values: Vec<_> = doc.rules[0].rules[0].conditions.iter().map(|c| c.value.as_deref()).collect();
    // SQL NULL is the empty text, as the platform's mapper gives it to the engine.
    assert_eq!(values, [Some(""), Some("b")]);
}

#[test]
fn a_ring_of_rules_makes_the_segment_invalid_and_ends() {
    let mut mapper = mapper();
    base(&mut mapper);
    let delta = mapper.catalog(
        &[
            insert(SEGMENT, segment(5, 2, Some(5), Cell::Null, false)),
            insert(RULE, rule(11, Some(5), Some(12), false)),
            insert(RULE, rule(12, None, Some(11), false)),
        ],
        &[],
    );
    assert!(the_segment(&delta).invalid.as_ref().unwrap().contains("nested"));
}

#[test]
fn the_deepest_segment_survives_the_topic_and_a_deeper_one_is_invalid() {
    let mut mapper = mapper();
    base(&mut mapper);
    let deepest = documents::DEPTH_MAX as i64;
    let mut rows = vec![insert(SEGMENT, segment(5, 2, Some(5), Cell::Null, false))];
    rows.push(insert(RULE, rule(1, Some(5), None, false)));
    rows.extend((2..=deepest).map(|id| insert(RULE, rule(id, None, Some(id - 1), false))));
    rows.push(insert(CONDITION, condition(1, deepest, text("x"), false)));
    let delta = mapper.catalog(&rows, &[]);
    assert!(the_segment(&delta).invalid.is_none());
    let entry = CatalogEntry { writer: "core".into(), number: 1, doc: delta.docs[0].clone() };
    let json = serde_json::to_vec(&entry).unwrap();
    assert_eq!(serde_json::from_slice::<CatalogEntry>(&json).unwrap(), entry);

    let deeper = mapper.catalog(&[insert(RULE, rule(deepest + 1, None, Some(deepest), false))], &[]);
    assert!(the_segment(&deeper).invalid.as_ref().unwrap().contains("nested"));
}

#[test]
fn a_truncated_catalog_table_empties_what_hangs_on_it() {
    let mut mapper = mapper();
    base(&mut mapper);
    let delta = mapper.catalog(&[], &["projects_project".into()]);
    let [CatalogDoc::Environment(doc)] = delta.docs.as_slice() else { panic!("one environment") };
    assert!(doc.deleted && doc.organisation_id == OrganisationId::from(1));
    assert_eq!(mapper.organisation_of(&EnvironmentId::from(3)), None);
}

#[test]
fn an_unreadable_row_is_rejected_and_the_rest_goes_on() {
    let mut mapper = mapper();
    let bad = row(&[("id", text("x"))]);
    let delta = mapper.catalog(&[insert(PROJECT, bad), insert(ORGANISATION, organisation(1, false))], &[]);
    assert_eq!((delta.rows.len(), delta.rejected.len()), (1, 1));
    assert_eq!(&*delta.rejected[0].table, PROJECT);
}

// ---- identities -------------------------------------------------------------------------------------------------

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

// ---- any history converges --------------------------------------------------------------------------------------

/// A write of one row of a small world, by table, key and a few bits of content.
#[derive(Clone, Debug)]
struct Write {
    table: Table,
    id: i64,
    parent: i64,
    bits: u8,
    gone: bool,
}

fn write() -> impl Strategy<Value = Write> {
    (0..6_usize, 1..5_i64, 1..5_i64, any::<u8>(), prop::bool::weighted(0.2)).prop_map(
        |(table, id, parent, bits, gone)| Write { table: Table::ALL[table], id, parent, bits, gone },
    )
}

impl Write {
    fn row(&self) -> Row {
        let (id, parent, deleted) = (self.id, self.parent, self.bits & 7 == 0);
        match self.table {
            Table::Organisation => organisation(id, deleted),
            Table::Project => project(id, parent, deleted, self.bits & 8 != 0),
            Table::Environment => {
                environment(id, parent, if self.bits & 8 != 0 { "a" } else { "b" }, deleted)
            }
            Table::Segment => {
                let version_of = [Some(id), Some(id), Some(parent), None][usize::from(self.bits >> 6)];
                let data = [
                    Cell::Null,
                    Cell::Null,
                    Cell::Json(r#"[{"type":"ANY"}]"#.into()),
                    Cell::Json("5".into()),
                ];
                segment(id, parent, version_of, data[usize::from(self.bits >> 4 & 3)].clone(), deleted)
            }
            Table::Rule if self.bits & 8 != 0 => rule(id, Some(parent), None, deleted),
            Table::Rule => rule(id, None, Some(parent), deleted),
            Table::Condition => condition(id, parent, text(&self.bits.to_string()), deleted),
        }
    }
}

/// What the topic holds after everything emitted, deleted documents left out.
fn fold(topic: &mut BTreeMap<String, CatalogDoc>, docs: &[CatalogDoc]) {
    for doc in docs {
        let gone = match doc {
            CatalogDoc::Segment(doc) => doc.deleted,
            CatalogDoc::Environment(doc) => doc.deleted,
            CatalogDoc::Gate(_) => panic!("no gate comes from rows"),
        };
        let before = if gone { topic.remove(&doc.key()) } else { topic.insert(doc.key(), doc.clone()) };
        assert!(before.as_ref() != Some(doc), "emitted though it doesn't differ: {doc:?}");
        assert!(before.is_some() || !gone, "deleted though it was never there: {doc:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_converges_to_a_recompute_from_the_final_rows(
        transactions in prop::collection::vec((prop::collection::vec(write(), 1..8), 0..10_u8), 1..12),
    ) {
        let mut mapper = mapper();
        let mut topic = BTreeMap::new();
        let mut kept: BTreeMap<String, Row> = BTreeMap::new();
        let mut database: BTreeMap<(Table, i64), Row> = BTreeMap::new();
        for (writes, then) in &transactions {
            let mut changes = Vec::new();
            for write in writes {
                let key = (write.table, write.id);
                let known = database.contains_key(&key);
                changes.push(match (write.gone, known) {
                    (true, false) => continue,
                    (true, true) => {
                        database.remove(&key);
                        delete(write.table.name(), write.id)
                    }
                    (false, false) => {
                        database.insert(key, write.row());
                        insert(write.table.name(), write.row())
                    }
                    (false, true) => {
                        database.insert(key, write.row());
                        update(write.table.name(), write.row())
                    }
                });
            }
            let delta = mapper.catalog(&changes, &[]);
            prop_assert!(mapper.catalog(&changes, &[]).is_empty(), "a replay differs");
            fold(&mut topic, &delta.docs);
            for CatalogRow { key, row } in delta.rows {
                match row {
                    Some(row) => prop_assert!(kept.insert(key, row.clone()) != Some(row)),
                    None => prop_assert!(kept.remove(&key).is_some()),
                }
            }
            if *then == 0 {
                mapper = Mapper::new("core".into());
                for (key, row) in &kept {
                    let (table, id) = key.split_once('/').unwrap();
                    mapper.restore(table, id, row.clone());
                }
            }
        }
        let mut tables: BTreeMap<Arc<str>, Vec<Row>> =
            Table::ALL.into_iter().map(|table| (Arc::from(table.name()), Vec::new())).collect();
        for ((table, _), row) in database {
            tables.get_mut(table.name()).unwrap().push(row);
        }
        prop_assert!(mapper.catalog_snapshot(&tables).is_empty(), "the final rows differ from the history");
        let mut recomputed = Mapper::new("core".into());
        let whole = recomputed.catalog_snapshot(&tables);
        prop_assert_eq!(topic.into_values().collect::<Vec<_>>(), {
            let mut docs = whole.docs;
            docs.sort_by_key(CatalogDoc::key);
            docs
        });
        prop_assert_eq!(
            kept.into_keys().collect::<Vec<_>>(),
            whole.rows.into_iter().map(|row| row.key).collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
    }
}
