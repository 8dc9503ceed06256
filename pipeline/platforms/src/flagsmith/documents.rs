//! Kept rows → documents. Pure: a document is a function of the rows that are there.

use rollcall_model::{
    CatalogDoc, Cell, Condition, EnvironmentDoc, EnvironmentId, OrganisationId, ProjectId, Row, Rule,
    RuleType, SegmentDoc, SegmentId, SourceName,
};

use super::EDGE_PLACEHOLDER;
use super::cells;
use super::rows::{DocId, Rows};
use super::rules_data;
use super::tables::{Link, Table};

/// The greatest depth of a rule tree. A document is JSON inside JSON records, whose readers stop at 128 levels, and
/// a rule takes two; the platform's own API allows 2 and its oldest segments stay far below.
pub(super) const DEPTH_MAX: usize = 60;

/// Which source an environment belongs to.
#[derive(Debug)]
pub(super) struct Owners {
    /// This source.
    pub(super) core: SourceName,
    /// The owner of projects with `enable_dynamo_db`, where the topology has it.
    pub(super) edge: Option<SourceName>,
}

/// The document as the rows make it; `None` when it isn't there, is deleted, or hangs under something deleted.
pub(super) fn live(rows: &Rows, owners: &Owners, doc: DocId) -> Option<CatalogDoc> {
    match doc {
        DocId::Environment(id) => environment(rows, owners, id).map(CatalogDoc::Environment),
        DocId::Segment(id) => segment(rows, id).map(CatalogDoc::Segment),
    }
}

/// The same document, gone.
pub(super) fn deleted(doc: CatalogDoc) -> CatalogDoc {
    match doc {
        CatalogDoc::Segment(doc) => CatalogDoc::Segment(SegmentDoc { deleted: true, ..doc }),
        CatalogDoc::Environment(doc) => CatalogDoc::Environment(EnvironmentDoc { deleted: true, ..doc }),
        CatalogDoc::Gate(doc) => CatalogDoc::Gate(doc),
    }
}

/// The organisation above an environment, deleted or not.
pub(super) fn organisation_of(rows: &Rows, environment: i64) -> Option<i64> {
    let project = cells::int(rows.get(Table::Environment, environment)?, "project_id")?;
    cells::int(rows.get(Table::Project, project)?, "organisation_id")
}

fn undeleted(rows: &Rows, table: Table, id: i64) -> Option<&Row> {
    rows.get(table, id).filter(|row| cells::is_null(row, "deleted_at"))
}

/// A project that is there, with its organisation.
fn live_project(rows: &Rows, id: i64) -> Option<(&Row, i64)> {
    let project = undeleted(rows, Table::Project, id)?;
    let organisation = cells::int(project, "organisation_id")?;
    undeleted(rows, Table::Organisation, organisation)?;
    Some((project, organisation))
}

fn environment(rows: &Rows, owners: &Owners, id: i64) -> Option<EnvironmentDoc> {
    let row = undeleted(rows, Table::Environment, id)?;
    let project_id = cells::int(row, "project_id")?;
    let (project, organisation_id) = live_project(rows, project_id)?;
    let is_edge = cells::bool(project, "enable_dynamo_db").unwrap_or(false);
    let key = cells::text(row, "api_key")?;
    let edge_owner = || owners.edge.clone().unwrap_or_else(|| SourceName::from(EDGE_PLACEHOLDER));
    Some(EnvironmentDoc {
        id: EnvironmentId::from(id),
        key: key.to_owned(),
        name: cells::text(row, "name").unwrap_or_default().to_owned(),
        project_id: ProjectId::from(project_id),
        organisation_id: OrganisationId::from(organisation_id),
        owner: if is_edge { edge_owner() } else { owners.core.clone() },
        // Items at the edge carry the key alone.
        called: owners.edge.iter().map(|edge| (edge.clone(), EnvironmentId::from(key))).collect(),
        composite_identity_key: cells::bool(row, "use_mv_v2_evaluation").unwrap_or(true),
        deleted: false,
    })
}

fn segment(rows: &Rows, id: i64) -> Option<SegmentDoc> {
    let row = undeleted(rows, Table::Segment, id)?;
    // A revision points at its original; a row that points nowhere is one that is still being made.
    if cells::int(row, "version_of_id") != Some(id) {
        return None;
    }
    let project_id = cells::int(row, "project_id")?;
    live_project(rows, project_id)?;
    let (tree, invalid) = match rule_tree(rows, id, row) {
        Ok(tree) => (tree, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    Some(SegmentDoc {
        id: SegmentId::from(id),
        project_id: ProjectId::from(project_id),
        name: cells::text(row, "name").unwrap_or_default().to_owned(),
        rules: tree,
        invalid,
        deleted: false,
    })
}

/// `rules_data` where there is any (from the first commit on it is whole), else the rule and condition rows.
fn rule_tree(rows: &Rows, segment: i64, row: &Row) -> Result<Vec<Rule>, String> {
    match row.get("rules_data") {
        Some(Cell::Json(text) | Cell::Text(text)) if text.trim() != "null" => rules_data::parse(text),
        Some(Cell::Unchanged) => Err(
            "its rules_data was not sent, because it did not change, and is not known yet: run `rollcall backfill`"
                .to_owned(),
        ),
        Some(Cell::Json(_) | Cell::Text(_) | Cell::Null) | None => {
            rules(rows, rows.children(Link::RulesOfSegment, segment), 1)
        }
        Some(Cell::Bool(_) | Cell::Int(_) | Cell::Float(_) | Cell::Uuid(_) | Cell::TimestampUs(_)) => {
            Err("its rules_data is no JSON".to_owned())
        }
    }
}

fn rules(rows: &Rows, ids: impl Iterator<Item = i64>, depth: usize) -> Result<Vec<Rule>, String> {
    let live = ids.filter_map(|id| Some((id, undeleted(rows, Table::Rule, id)?)));
    live.map(|(id, row)| {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(Rule {
            rule_type: rule_type(cells::text(row, "type").unwrap_or_default()),
            conditions: conditions(rows, id)?,
            rules: rules(rows, rows.children(Link::RulesOfRule, id), depth + 1)?,
        })
    })
    .collect()
}

fn conditions(rows: &Rows, rule: i64) -> Result<Vec<Condition>, String> {
    let ids = rows.children(Link::ConditionsOfRule, rule);
    ids.filter_map(|id| undeleted(rows, Table::Condition, id))
        .map(|row| {
            if row.cells.contains(&Cell::Unchanged) {
                return Err(
                    "a condition of it was not sent whole, because it did not change, and is not known yet: run \
                     `rollcall backfill`"
                        .to_owned(),
                );
            }
            Ok(Condition {
                operator: cells::text(row, "operator").unwrap_or_default().to_owned(),
                // SQL NULL is the empty text: the platform's mapper says `property or ""` and `value or ""`.
                property: Some(cells::text(row, "property").unwrap_or_default().to_owned()),
                value: Some(cells::text(row, "value").unwrap_or_default().to_owned()),
            })
        })
        .collect()
}

/// The type as the platform spells it; no constraint keeps other text out.
pub(super) fn rule_type(text: &str) -> RuleType {
    match text {
        "ALL" => RuleType::All,
        "ANY" => RuleType::Any,
        "NONE" => RuleType::None,
        other => RuleType::Unknown(other.to_owned()),
    }
}

/// Why a tree below [`DEPTH_MAX`] is not judged.
pub(super) fn too_deep() -> String {
    format!("its rules are nested more than {DEPTH_MAX} deep")
}
