#![allow(clippy::unwrap_used)]
//! The rows that all tests of the mapper are made of.

use std::sync::Arc;

use rollcall_model::{CatalogDoc, Cell, EnvironmentDoc, Row, RowChange, RowOp, SegmentDoc};

use super::tables::Table;
use super::{CatalogDelta, EDGE_PLACEHOLDER, Mapper};

mod catalog;
mod edge;
mod history;
mod identities;
mod numbers;
mod owners;

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
fn the_environments(delta: &CatalogDelta) -> Vec<&EnvironmentDoc> {
    let docs = delta.docs.iter().map(|doc| {
        let CatalogDoc::Environment(doc) = doc else { panic!("expected environments alone, got {doc:?}") };
        doc
    });
    docs.collect()
}
