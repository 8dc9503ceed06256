//! Who owns an environment, and what the edge calls it.

use rollcall_model::{EnvironmentId, OrganisationId, SourceName};

use super::*;

fn with_edge() -> Mapper {
    let mut mapper = Mapper::new("core".into()).with_edge(Some("edge".into()));
    two_projects(&mut mapper);
    mapper
}

/// Environments 3 and 4 and segment 5 in project 2 of organisation 1, environment 30 in project 20 of organisation 10,
/// which lives at the edge.
fn two_projects(mapper: &mut Mapper) {
    mapper.catalog(
        &[
            insert(ORGANISATION, organisation(1, false)),
            insert(ORGANISATION, organisation(10, false)),
            insert(PROJECT, project(2, 1, false, false)),
            insert(PROJECT, project(20, 10, false, true)),
            insert(ENVIRONMENT, environment(3, 2, "Production", false)),
            insert(ENVIRONMENT, environment(4, 2, "Staging", false)),
            insert(ENVIRONMENT, environment(30, 20, "Other", false)),
            insert(SEGMENT, segment(5, 2, Some(5), Cell::Null, false)),
        ],
        &[],
    );
}

/// Id, owner, and the name at the edge.
fn summary<'a>(docs: &[&'a EnvironmentDoc]) -> Vec<(&'a str, &'a str, Option<&'a str>)> {
    let edge = SourceName::from("edge");
    docs.iter()
        .map(|doc| (doc.id.as_str(), doc.owner.as_str(), doc.called.get(&edge).map(EnvironmentId::as_str)))
        .collect()
}

#[test]
fn a_flip_hands_every_environment_of_the_project_over_and_back() {
    let mut mapper = with_edge();
    let on = mapper.catalog(&[update(PROJECT, project(2, 1, false, true))], &[]);
    // The environments alone: the segment says the same as before.
    assert_eq!(summary(&the_environments(&on)), [("3", "edge", Some("env3")), ("4", "edge", Some("env4"))]);
    assert_eq!(on.rows.len(), 1);
    assert!(mapper.catalog(&[update(PROJECT, project(2, 1, false, true))], &[]).is_empty());

    let off = mapper.catalog(&[update(PROJECT, project(2, 1, false, false))], &[]);
    assert_eq!(summary(&the_environments(&off)), [("3", "core", Some("env3")), ("4", "core", Some("env4"))]);
}

#[test]
fn a_flip_in_the_transaction_that_makes_an_environment_is_said_once() {
    let mut mapper = with_edge();
    let delta = mapper.catalog(
        &[
            insert(ENVIRONMENT, environment(6, 2, "New", false)),
            update(PROJECT, project(2, 1, false, true)),
            update(ENVIRONMENT, environment(4, 2, "Staging", true)),
        ],
        &[],
    );
    let docs = the_environments(&delta);
    assert_eq!(
        summary(&docs),
        // The deleted one is as it was last said.
        [("3", "edge", Some("env3")), ("4", "core", Some("env4")), ("6", "edge", Some("env6"))]
    );
    assert_eq!(docs.iter().map(|doc| doc.deleted).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_new_api_key_is_the_new_name_at_the_edge() {
    let mut mapper = with_edge();
    let mut renamed = environment(30, 20, "Other", false);
    renamed.cells[3] = text("rotated");
    let delta = mapper.catalog(&[update(ENVIRONMENT, renamed)], &[]);
    let docs = the_environments(&delta);
    assert_eq!(summary(&docs), [("30", "edge", Some("rotated"))]);
    assert_eq!(docs[0].key, "rotated");
}

#[test]
fn what_moves_takes_the_owner_of_where_it_is_now() {
    let mut mapper = with_edge();
    // An environment to another project.
    let delta = mapper.catalog(&[update(ENVIRONMENT, environment(3, 20, "Production", false))], &[]);
    let docs = the_environments(&delta);
    assert_eq!(summary(&docs), [("3", "edge", Some("env3"))]);
    assert_eq!(docs[0].organisation_id, OrganisationId::from(10));
    // A project to another organisation, with all its environments.
    let delta = mapper.catalog(&[update(PROJECT, project(20, 1, false, true))], &[]);
    let docs = the_environments(&delta);
    assert_eq!(summary(&docs), [("3", "edge", Some("env3")), ("30", "edge", Some("env30"))]);
    assert!(docs.iter().all(|doc| doc.organisation_id == OrganisationId::from(1)));
}

#[test]
fn without_an_edge_source_nobody_owns_what_lives_there_and_it_has_no_name() {
    let mut mapper = mapper();
    two_projects(&mut mapper);
    let delta = mapper.catalog(&[update(PROJECT, project(2, 1, false, true))], &[]);
    assert_eq!(
        summary(&the_environments(&delta)),
        [("3", EDGE_PLACEHOLDER, None), ("4", EDGE_PLACEHOLDER, None)]
    );
    for doc in mapper.documents() {
        let CatalogDoc::Environment(doc) = doc else { continue };
        assert!(doc.called.is_empty());
        assert_eq!(doc.owner.as_str(), EDGE_PLACEHOLDER);
    }
}

#[test]
fn a_restart_with_an_edge_source_says_the_same_and_nothing_again() {
    let mut mapper = with_edge();
    let flip = update(PROJECT, project(2, 1, false, true));
    mapper.catalog(std::slice::from_ref(&flip), &[]);
    let before = mapper.documents();

    let mut restarted = Mapper::new("core".into()).with_edge(Some("edge".into()));
    for (table, id, row) in [
        (ORGANISATION, "1", organisation(1, false)),
        (ORGANISATION, "10", organisation(10, false)),
        (PROJECT, "2", project(2, 1, false, true)),
        (PROJECT, "20", project(20, 10, false, true)),
        (ENVIRONMENT, "3", environment(3, 2, "Production", false)),
        (ENVIRONMENT, "4", environment(4, 2, "Staging", false)),
        (ENVIRONMENT, "30", environment(30, 20, "Other", false)),
        (SEGMENT, "5", segment(5, 2, Some(5), Cell::Null, false)),
    ] {
        restarted.restore(table, id, row);
    }
    assert_eq!(restarted.documents(), before);
    assert!(restarted.catalog(&[flip], &[]).is_empty());
}
