//! Any history of catalog rows converges to a recompute from the final rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::CatalogRow;
use super::*;

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
