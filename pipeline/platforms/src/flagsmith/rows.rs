//! The kept catalog rows: by key, with the links between them, and which documents a row has a part in.
//!
//! A child may come before its parent and a parent may go before its children: links are held by the child's row
//! alone, so neither order loses anything. A document is marked both by where a row hung before it changed and by
//! where it hangs after.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use rollcall_model::Row;

use super::cells;
use super::tables::{Link, Table};

/// A document that rows make up. Environments come first, so that segments find them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum DocId {
    Environment(i64),
    Segment(i64),
}

/// The rows, their links and the documents to look at again.
#[derive(Debug, Default)]
pub(super) struct Rows {
    tables: BTreeMap<Table, BTreeMap<i64, Row>>,
    children: BTreeMap<(Link, i64), BTreeSet<i64>>,
    dirty: BTreeSet<DocId>,
}

impl Rows {
    pub(super) fn get(&self, table: Table, id: i64) -> Option<&Row> {
        self.tables.get(&table)?.get(&id)
    }

    pub(super) fn ids(&self, table: Table) -> BTreeSet<i64> {
        self.tables.get(&table).map(|rows| rows.keys().copied().collect()).unwrap_or_default()
    }

    /// The rows that point at a row, in order of id.
    pub(super) fn children(&self, link: Link, parent: i64) -> impl Iterator<Item = i64> {
        self.children.get(&(link, parent)).into_iter().flatten().copied()
    }

    /// The documents touched since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<DocId> {
        mem::take(&mut self.dirty)
    }

    /// Puts or removes a row and returns the one before.
    pub(super) fn put(&mut self, table: Table, id: i64, row: Option<Row>) -> Option<Row> {
        let rows = self.tables.entry(table).or_default();
        if rows.get(&id) == row.as_ref() {
            return row;
        }
        self.mark(table, id);
        let rows = self.tables.entry(table).or_default();
        let before = match row {
            Some(row) => rows.insert(id, row),
            None => rows.remove(&id),
        };
        if let Some(before) = &before {
            for (link, parent) in links(table, before) {
                if let Some(children) = self.children.get_mut(&(link, parent)) {
                    children.remove(&id);
                    if children.is_empty() {
                        self.children.remove(&(link, parent));
                    }
                }
            }
        }
        let after = self.tables.get(&table).and_then(|rows| rows.get(&id));
        for key in after.map(|row| links(table, row)).unwrap_or_default() {
            self.children.entry(key).or_default().insert(id);
        }
        self.mark(table, id);
        before
    }

    /// Marks the documents that a row has a part in, as the rows stand now.
    fn mark(&mut self, table: Table, id: i64) {
        match table {
            Table::Organisation => {
                for project in self.children(Link::ProjectsOfOrganisation, id).collect::<Vec<_>>() {
                    self.mark(Table::Project, project);
                }
            }
            Table::Project => {
                let environments = self.children(Link::EnvironmentsOfProject, id).map(DocId::Environment);
                let segments = self.children(Link::SegmentsOfProject, id).map(DocId::Segment);
                let docs: Vec<_> = environments.chain(segments).collect();
                self.dirty.extend(docs);
            }
            Table::Environment => {
                self.dirty.insert(DocId::Environment(id));
            }
            Table::Segment => {
                self.dirty.insert(DocId::Segment(id));
            }
            Table::Rule => self.mark_segments_above(id),
            Table::Condition => {
                if let Some(rule) = self.get(table, id).and_then(|row| cells::int(row, "rule_id")) {
                    self.mark_segments_above(rule);
                }
            }
        }
    }

    /// Walks up from a rule. No constraint forbids a rule with two parents, or a ring of rules.
    fn mark_segments_above(&mut self, rule: i64) {
        let mut seen = BTreeSet::new();
        let mut next = Some(rule);
        while let Some(id) = next.filter(|id| seen.insert(*id)) {
            let row = self.get(Table::Rule, id);
            let segment = row.and_then(|row| cells::int(row, "segment_id"));
            next = row.and_then(|row| cells::int(row, "rule_id"));
            self.dirty.extend(segment.map(DocId::Segment));
        }
    }
}

fn links(table: Table, row: &Row) -> Vec<(Link, i64)> {
    table.links().iter().filter_map(|(link, column)| Some((*link, cells::int(row, column)?))).collect()
}
