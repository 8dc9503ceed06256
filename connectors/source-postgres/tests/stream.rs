//! The stream of a real Postgres 15: what comes, in which form and order.

#![allow(clippy::wildcard_enum_match_arm)]

mod support;

use rollcall_model::{Cell, NativeId, RowChange, RowOp};
use support::{Server, transaction};

fn said(row: &RowChange) -> String {
    let show = |row: &rollcall_model::Row| {
        let cells = row.columns.iter().zip(&row.cells).map(|(name, cell)| match cell {
            Cell::Text(text) if text.len() > 20 => format!("{name}=long"),
            Cell::Text(text) => format!("{name}={text}"),
            Cell::Int(n) => format!("{name}={n}"),
            _ => format!("{name}={cell:?}"),
        });
        cells.collect::<Vec<_>>().join(",")
    };
    let table = &row.table;
    match &row.op {
        RowOp::Insert(new) => format!("+{table} {}", show(new)),
        RowOp::Update { old: None, new } => format!("~{table} {}", show(new)),
        RowOp::Update { old: Some(old), new } => format!("~{table} {} <- {}", show(new), show(old)),
        RowOp::Delete(old) => format!("-{table} {}", show(old)),
    }
}

fn groups(transaction: &rollcall_model::Transaction) -> Vec<(i64, Vec<String>)> {
    let id = |id: &NativeId| match id {
        NativeId::Int(id) => *id,
        NativeId::Text(text) => panic!("{text}"),
    };
    transaction.groups.iter().map(|group| (id(&group.id), group.rows.iter().map(said).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_folded_by_identity_and_what_is_rolled_back_never_comes() {
    let server = Server::start("").await;
    let mut source = server.source(None).await;
    server
        .sql(
            "BEGIN;
             INSERT INTO project VALUES (1, 'p');
             INSERT INTO identity VALUES (2, 'two'), (1, 'one');
             INSERT INTO trait (identity_id, trait_key, value) VALUES (2, 'a', 'x'), (1, 'a', 'y');
             SAVEPOINT s; INSERT INTO identity VALUES (3, 'three'); ROLLBACK TO s;
             SAVEPOINT t; UPDATE trait SET value = 'z' WHERE identity_id = 2; RELEASE t;
             COMMIT;
             BEGIN; DELETE FROM trait; ROLLBACK;
             BEGIN; DELETE FROM trait WHERE identity_id = 1; DELETE FROM identity WHERE id = 1; COMMIT;",
        )
        .await;
    let first = transaction(&mut source).await;
    assert_eq!(first.catalog.iter().map(said).collect::<Vec<_>>(), ["+project id=1,name=p,doc=Null"]);
    assert!(first.complete && first.truncated.is_empty());
    let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    let one = ["+identity id=1,identifier=one,note=Null", "+trait identity_id=1,trait_key=a,value=y"];
    let two = [
        "+identity id=2,identifier=two,note=Null",
        "+trait identity_id=2,trait_key=a,value=x",
        "~trait identity_id=2,trait_key=a,value=z",
    ];
    assert_eq!(groups(&first), [(1, rows(&one)), (2, rows(&two))]);
    let second = transaction(&mut source).await;
    let gone = ["-trait identity_id=1,trait_key=a", "-identity id=1"];
    assert_eq!(groups(&second), [(1, rows(&gone))]);
    assert_eq!(first.position.compare(&second.position).ok(), Some(std::cmp::Ordering::Less));
}
