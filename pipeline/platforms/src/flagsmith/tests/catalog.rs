//! What the catalog's rows make of environments and segments.

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{EnvironmentId, OrganisationId};

use super::super::documents;
use super::*;

#[test]
fn an_environment_has_its_facts_and_its_owner() {
    let mut mapper = mapper();
    base(&mut mapper);
    let CatalogDoc::Environment(doc) = &mapper.documents()[0] else { panic!("an environment") };
    assert_eq!((doc.key.as_str(), doc.name.as_str(), doc.owner.as_str()), ("env3", "Production", "core"));
    assert!(!doc.composite_identity_key);
    let environment_id = EnvironmentId::from(3);
    assert_eq!(mapper.organisation_of(&environment_id), Some(OrganisationId::from(1)));
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
