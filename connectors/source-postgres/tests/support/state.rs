//! A state rebuilt from events, and the true one.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{CatalogSnapshot, Cell, NativeId, Page, Row, RowChange, RowOp, Transaction};
use tokio_postgres::Client;

/// Values by column.
pub(crate) type Values = BTreeMap<String, Cell>;

/// An identity with its traits.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Person {
    pub(crate) row: Values,
    pub(crate) traits: BTreeMap<String, Values>,
}

/// All that the tables hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct State {
    pub(crate) projects: BTreeMap<i64, Values>,
    pub(crate) people: BTreeMap<i64, Person>,
}

pub(crate) fn int(id: &NativeId) -> i64 {
    match id {
        NativeId::Int(id) => *id,
        NativeId::Text(text) => panic!("{text} is no integer"),
    }
}

fn values(row: &Row, before: Option<&Values>) -> Values {
    let cells = row.columns.iter().zip(&row.cells).map(|(name, cell)| {
        let cell = if *cell == Cell::Unchanged {
            before.and_then(|before| before.get(&**name)).cloned().unwrap_or(Cell::Unchanged)
        } else {
            cell.clone()
        };
        (name.to_string(), cell)
    });
    cells.collect()
}

fn number(row: &Row, column: &str) -> i64 {
    match row.get(column) {
        Some(Cell::Int(n)) => *n,
        other => panic!("{column} is {other:?}"),
    }
}

fn key(row: &Row) -> String {
    match row.get("trait_key") {
        Some(Cell::Text(text)) => text.clone(),
        other => panic!("trait_key is {other:?}"),
    }
}

impl State {
    /// Applies a transaction or a piece. What belongs to an identity that is not here stays away, but its INSERT.
    pub(crate) fn apply(&mut self, transaction: &Transaction) {
        for table in &transaction.truncated {
            match &**table {
                "project" => self.projects.clear(),
                "identity" => self.people.clear(),
                "trait" => self.people.values_mut().for_each(|person| person.traits.clear()),
                other => panic!("{other}"),
            }
        }
        transaction.catalog.iter().for_each(|change| self.catalog(change));
        for group in &transaction.groups {
            group.rows.iter().for_each(|change| self.row(int(&group.id), change));
        }
    }

    fn catalog(&mut self, change: &RowChange) {
        match &change.op {
            RowOp::Insert(new) | RowOp::Update { new, .. } => {
                let id = number(new, "id");
                let new = values(new, self.projects.get(&id));
                self.projects.insert(id, new);
            }
            RowOp::Delete(old) => drop(self.projects.remove(&number(old, "id"))),
        }
    }

    fn row(&mut self, id: i64, change: &RowChange) {
        match (&*change.table, &change.op) {
            ("identity", RowOp::Insert(new)) => {
                self.people.insert(id, Person { row: values(new, None), traits: BTreeMap::new() });
            }
            ("identity", RowOp::Update { new, .. }) => {
                if let Some(person) = self.people.get_mut(&id) {
                    person.row = values(new, Some(&person.row));
                }
            }
            ("identity", RowOp::Delete(_)) => drop(self.people.remove(&id)),
            ("trait", op) => {
                let Some(person) = self.people.get_mut(&id) else { return };
                match op {
                    RowOp::Insert(new) => drop(person.traits.insert(key(new), values(new, None))),
                    RowOp::Update { old, new } => {
                        let before = person.traits.remove(&key(old.as_ref().unwrap_or(new)));
                        person.traits.insert(key(new), values(new, before.as_ref()));
                    }
                    RowOp::Delete(old) => drop(person.traits.remove(&key(old))),
                }
            }
            (other, _) => panic!("{other}"),
        }
    }

    /// Puts a page in: the whole truth of its range.
    pub(crate) fn page(&mut self, page: &Page) {
        assert!(page.broken.is_empty(), "{:?}", page.broken);
        let inside = |id: &i64| {
            page.from.as_ref().is_none_or(|from| *id >= int(from))
                && page.to.as_ref().is_none_or(|to| *id < int(to))
        };
        self.people.retain(|id, _| !inside(id));
        for group in &page.groups {
            let id = int(&group.id);
            assert!(inside(&id), "{id} is outside of its page");
            let traits = group
                .parts
                .get("trait")
                .map(|rows| rows.iter().map(|row| (key(row), values(row, None))).collect());
            let person = Person { row: values(&group.identity, None), traits: traits.unwrap_or_default() };
            assert!(self.people.insert(id, person).is_none(), "{id} comes twice");
        }
    }

    /// Puts a catalog in.
    pub(crate) fn snapshot(&mut self, catalog: &CatalogSnapshot) {
        let rows = catalog.tables.get(&Arc::<str>::from("project")).expect("the catalog table");
        self.projects = rows.iter().map(|row| (number(row, "id"), values(row, None))).collect();
    }

    /// What the tables hold.
    pub(crate) async fn read(client: &Client) -> Self {
        let mut state = Self::default();
        let text = |cell: Option<String>| cell.map_or(Cell::Null, Cell::Text);
        let named = |cells: Vec<(&str, Cell)>| {
            cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
        };
        for row in client.query("SELECT id, name, doc FROM project", &[]).await.expect("reads") {
            let id = i64::from(row.get::<_, i32>(0));
            let cells = vec![("id", Cell::Int(id)), ("name", text(row.get(1))), ("doc", text(row.get(2)))];
            state.projects.insert(id, named(cells));
        }
        for row in client.query("SELECT id, identifier, note FROM identity", &[]).await.expect("reads") {
            let id = i64::from(row.get::<_, i32>(0));
            let cells =
                vec![("id", Cell::Int(id)), ("identifier", text(row.get(1))), ("note", text(row.get(2)))];
            state.people.insert(id, Person { row: named(cells), traits: BTreeMap::new() });
        }
        for row in client.query("SELECT identity_id, trait_key, value FROM trait", &[]).await.expect("reads")
        {
            let (id, key) = (i64::from(row.get::<_, i32>(0)), row.get::<_, String>(1));
            let cells = vec![
                ("identity_id", Cell::Int(id)),
                ("trait_key", text(Some(key.clone()))),
                ("value", text(row.get(2))),
            ];
            let person = state.people.get_mut(&id).expect("the identity of a trait");
            person.traits.insert(key, named(cells));
        }
        state
    }
}
