//! What a read found and rows that it could not see in; what is true at the place of its mark out.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{Cell, Row, RowChange, RowOp, TableRole, TableSpec};

/// An identity as a read found it and later rows changed it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Found {
    /// `None` while only its parts are there.
    pub(crate) identity: Option<Row>,
    pub(crate) parts: BTreeMap<Arc<str>, Vec<Row>>,
    /// Why its rows can't be put together.
    pub(crate) broken: Option<String>,
}

/// Fills what did not change from the row before. Tells the first column that stays unknown.
fn fill(new: &mut Row, old: Option<&Row>) -> Option<Arc<str>> {
    let mut unknown = None;
    for (name, cell) in new.columns.iter().zip(&mut new.cells) {
        if *cell == Cell::Unchanged {
            match old.and_then(|old| old.get(name)) {
                Some(known) if *known != Cell::Unchanged => *cell = known.clone(),
                _ => unknown = unknown.or_else(|| Some(Arc::clone(name))),
            }
        }
    }
    unknown
}

fn same(a: &Row, b: &Row, key: &[&str]) -> bool {
    key.iter().all(|column| a.get(column).is_some() && a.get(column) == b.get(column))
}

fn broken(table: &str, column: &str) -> String {
    format!(
        "column {column} of {table} did not change and its value is not known: ALTER TABLE {table} REPLICA IDENTITY FULL"
    )
}

impl Found {
    /// Applies a row of this identity.
    pub(crate) fn apply(&mut self, spec: &TableSpec, change: &RowChange) {
        match &spec.role {
            TableRole::Catalog { .. } => {}
            TableRole::Identity { .. } => self.apply_identity(&change.table, &change.op),
            TableRole::IdentityPart { key, .. } => self.apply_part(&change.table, key, &change.op),
        }
    }

    fn apply_identity(&mut self, table: &str, op: &RowOp) {
        match op {
            RowOp::Insert(new) | RowOp::Update { new, .. } => {
                let mut new = new.clone();
                if let Some(column) = fill(&mut new, self.identity.as_ref()) {
                    self.broken = Some(broken(table, &column));
                }
                self.identity = Some(new);
            }
            RowOp::Delete(_) => {
                self.identity = None;
                self.broken = None;
            }
        }
    }

    fn apply_part(&mut self, table: &Arc<str>, key: &[&str], op: &RowOp) {
        let rows = self.parts.entry(Arc::clone(table)).or_default();
        let before = match op {
            RowOp::Insert(row) | RowOp::Delete(row) => row,
            RowOp::Update { old, new } => old.as_ref().unwrap_or(new),
        };
        let at = rows.iter().position(|row| same(row, before, key));
        let old = at.map(|at| rows.swap_remove(at));
        match op {
            RowOp::Insert(new) | RowOp::Update { new, .. } => {
                let mut new = new.clone();
                if let Some(column) = fill(&mut new, old.as_ref()) {
                    self.broken = Some(broken(table, &column));
                }
                rows.push(new);
            }
            RowOp::Delete(_) => {}
        }
    }

    /// Applies a TRUNCATE.
    pub(crate) fn truncate(&mut self, spec: &TableSpec) {
        match spec.role {
            TableRole::Catalog { .. } => {}
            TableRole::Identity { .. } => self.identity = None,
            TableRole::IdentityPart { .. } => {
                self.parts.remove(spec.name);
            }
        }
    }
}

/// The rows of a catalog table by their key.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    key: &'static str,
    rows: BTreeMap<String, Row>,
}

impl CatalogTable {
    pub(crate) fn new(key: &'static str, rows: Vec<Row>) -> Self {
        let rows = rows.into_iter().map(|row| (Self::text(&row, key), row)).collect();
        Self { key, rows }
    }

    fn text(row: &Row, key: &str) -> String {
        match row.get(key) {
            Some(Cell::Int(n)) => n.to_string(),
            Some(Cell::Text(text) | Cell::Uuid(text) | Cell::Json(text)) => text.clone(),
            Some(Cell::Null | Cell::Bool(_) | Cell::Float(_) | Cell::TimestampUs(_) | Cell::Unchanged)
            | None => {
                format!("{:?}", row.get(key))
            }
        }
    }

    /// Applies a row.
    pub(crate) fn apply(&mut self, op: &RowOp) {
        let before = match op {
            RowOp::Insert(row) | RowOp::Delete(row) => row,
            RowOp::Update { old, new } => old.as_ref().unwrap_or(new),
        };
        let old = self.rows.remove(&Self::text(before, self.key));
        match op {
            RowOp::Insert(new) | RowOp::Update { new, .. } => {
                let mut new = new.clone();
                // What stays unknown stands as unchanged: the platform knows whether it needs it.
                fill(&mut new, old.as_ref());
                self.rows.insert(Self::text(&new, self.key), new);
            }
            RowOp::Delete(_) => {}
        }
    }

    /// Applies a TRUNCATE.
    pub(crate) fn truncate(&mut self) {
        self.rows.clear();
    }

    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows.into_values().collect()
    }
}
