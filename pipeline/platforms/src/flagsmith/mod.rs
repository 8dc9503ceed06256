//! Flagsmith: its core Postgres schema, and the identities that it keeps in DynamoDB (the edge).
//!
//! | file | what goes through it |
//! |---|---|
//! | `tables` | which tables and columns are read, and how rows point at each other |
//! | `rows` | the kept catalog rows, their links, and which documents a row touches |
//! | `documents` | kept rows → environment and segment documents |
//! | `rules_data` | the JSON form of a segment's rules |
//! | `identity` | the rows of one identity → one change |
//! | `edge` | one item of the edge's table → one change |
//! | `number` | a number as DynamoDB keeps it → a value as the platform reads it |
//!
//! What the platform does that this has to bear:
//! - It UPDATEs every environment row of a project at each edit: only columns with a meaning are kept and compared.
//! - It creates a segment in many commits and edits it in one: a document is what the rows say at each COMMIT, and
//!   `rules_data`, which is right from the first commit on, wins over the rule and condition rows.
//! - A revision of a segment is a row of its own: only `id = version_of_id` with `deleted_at` NULL is a segment.
//! - Deletes are soft for the catalog, hard for identities, and come in any order: a document is live while its row
//!   and every row above it is there and not deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{
    CatalogDoc, Change, EnvironmentId, Group, OrganisationId, PageGroup, Row, RowChange, RowOp, SourceName,
};

use crate::{CatalogDelta, CatalogRow, RejectedRow};

mod cells;
mod documents;
mod edge;
mod identity;
mod number;
mod rows;
mod rules_data;
mod tables;
#[cfg(test)]
mod tests;

pub use edge::{EDGE_ENVIRONMENT, EDGE_ENVIRONMENT_INDEX, EDGE_KEY, item_change};
pub use rules_data::{Draft, RulesFault, read_draft};
pub use tables::{IDENTITY, TRAIT, tables};

use documents::Owners;
use rows::{DocId, Rows};
use tables::Table;

/// The owner of environments whose project lives in DynamoDB, where the topology has no such source: no source's
/// identities are judged there.
pub const EDGE_PLACEHOLDER: &str = "dynamodb";

/// Turns the rows of one source into changes and documents, from the catalog rows that it keeps.
#[derive(Debug)]
pub struct Mapper {
    owners: Owners,
    rows: Rows,
    /// The live documents as last emitted. A function of `rows` once settled: that is what makes a restart exact.
    live: BTreeMap<DocId, CatalogDoc>,
}

impl Mapper {
    /// A mapper that knows nothing yet.
    #[must_use]
    pub fn new(source: SourceName) -> Self {
        Self { owners: Owners { core: source, edge: None }, rows: Rows::default(), live: BTreeMap::new() }
    }

    /// Names the source that owns environments of projects with `enable_dynamo_db`.
    #[must_use]
    pub fn with_edge(mut self, edge: Option<SourceName>) -> Self {
        self.owners.edge = edge;
        self
    }

    /// Takes back one record of `catalog-rows`, whose key is `table/key`; emits nothing. Records of tables or with
    /// keys that this version doesn't read are left alone.
    pub fn restore(&mut self, table: &str, key: &str, row: Row) {
        if let (Some(table), Ok(id)) = (Table::by_name(table), key.parse()) {
            self.rows.put(table, id, Some(table.meaning_of(&row)));
        }
    }

    /// What a transaction changes in the catalog: the state at COMMIT against the state before, so that what is built
    /// in steps appears once and what comes out as it was appears not at all.
    pub fn catalog(&mut self, rows: &[RowChange], truncated: &[Arc<str>]) -> CatalogDelta {
        if rows.is_empty() && truncated.is_empty() {
            return CatalogDelta::default();
        }
        self.settle();
        let mut touched = Touched::default();
        for table in truncated.iter().filter_map(|name| Table::by_name(name)) {
            for id in self.rows.ids(table) {
                touched.put(&mut self.rows, table, id, None);
            }
        }
        for change in rows {
            if let Some(table) = Table::by_name(&change.table)
                && let Err(reason) = self.apply(table, &change.op, &mut touched)
            {
                touched.rejected.push(rejected(&change.table, reason, change));
            }
        }
        self.delta(touched)
    }

    /// What a snapshot of the whole catalog changes: a row of a table in `tables` that isn't there is gone.
    pub fn catalog_snapshot(&mut self, tables: &BTreeMap<Arc<str>, Vec<Row>>) -> CatalogDelta {
        self.settle();
        let mut touched = Touched::default();
        for (name, rows) in tables {
            let Some(table) = Table::by_name(name) else { continue };
            let mut gone = self.rows.ids(table);
            for row in rows {
                match cells::id(row) {
                    Ok(id) => {
                        gone.remove(&id);
                        touched.put(&mut self.rows, table, id, Some(table.meaning_of(row)));
                    }
                    Err(reason) => touched.rejected.push(rejected(name, reason, row)),
                }
            }
            for id in gone {
                touched.put(&mut self.rows, table, id, None);
            }
        }
        self.delta(touched)
    }

    /// What a transaction says of one identity; `None` when it says nothing.
    #[must_use]
    pub fn change(&self, group: &Group) -> Option<Change> {
        identity::change(group)
    }

    /// What a page says of one identity: the whole image.
    #[must_use]
    pub fn page_change(&self, group: &PageGroup) -> Change {
        identity::page_change(group)
    }

    /// The organisation of an environment, deleted or not: where its gate stands.
    #[must_use]
    pub fn organisation_of(&self, environment: &EnvironmentId) -> Option<OrganisationId> {
        documents::organisation_of(&self.rows, environment.as_str().parse().ok()?).map(OrganisationId::from)
    }

    /// The live documents, as last emitted: a fold of everything emitted gives the same.
    pub fn documents(&mut self) -> Vec<CatalogDoc> {
        self.settle();
        self.live.values().cloned().collect()
    }

    /// Computes what restored rows say, without emitting it: the mapper before us has.
    fn settle(&mut self) {
        for doc in self.rows.take_dirty() {
            if let Some(live) = documents::live(&self.rows, &self.owners, doc) {
                self.live.insert(doc, live);
            }
        }
    }

    fn apply(&mut self, table: Table, op: &RowOp, touched: &mut Touched) -> Result<(), String> {
        match op {
            RowOp::Insert(row) => {
                touched.put(&mut self.rows, table, cells::id(row)?, Some(table.meaning_of(row)));
            }
            RowOp::Update { old, new } => {
                let id = cells::id(new)?;
                let old_id = old.as_ref().map_or(Ok(id), cells::id)?;
                let mut row = table.meaning_of(new);
                cells::fill_unchanged(&mut row, old.as_ref());
                cells::fill_unchanged(&mut row, self.rows.get(table, old_id));
                if old_id != id {
                    touched.put(&mut self.rows, table, old_id, None);
                }
                touched.put(&mut self.rows, table, id, Some(row));
            }
            RowOp::Delete(row) => touched.put(&mut self.rows, table, cells::id(row)?, None),
        }
        Ok(())
    }

    fn delta(&mut self, touched: Touched) -> CatalogDelta {
        let rows = touched
            .before
            .into_iter()
            .filter_map(|((table, id), before)| {
                let row = self.rows.get(table, id).cloned();
                (row != before).then(|| CatalogRow { key: format!("{}/{id}", table.name()), row })
            })
            .collect();
        let mut docs = Vec::new();
        for id in self.rows.take_dirty() {
            match documents::live(&self.rows, &self.owners, id) {
                Some(doc) if self.live.get(&id) == Some(&doc) => {}
                Some(doc) => {
                    self.live.insert(id, doc.clone());
                    docs.push(doc);
                }
                None => docs.extend(self.live.remove(&id).map(documents::deleted)),
            }
        }
        CatalogDelta { rows, docs, rejected: touched.rejected }
    }
}

/// The rows a transaction or snapshot wrote, as they were before it.
#[derive(Default)]
struct Touched {
    before: BTreeMap<(Table, i64), Option<Row>>,
    rejected: Vec<RejectedRow>,
}

impl Touched {
    fn put(&mut self, rows: &mut Rows, table: Table, id: i64, row: Option<Row>) {
        let before = rows.put(table, id, row);
        self.before.entry((table, id)).or_insert(before);
    }
}

fn rejected(table: &Arc<str>, reason: String, raw: &impl serde::Serialize) -> RejectedRow {
    let raw = serde_json::to_string(raw).unwrap_or_default();
    RejectedRow { table: Arc::clone(table), reason, raw }
}
