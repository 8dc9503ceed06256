//! The stream of a real Postgres 15: what comes, in which form and order.

#![allow(clippy::wildcard_enum_match_arm)]

mod support;

use rollcall_model::source::BackfillPlan;
use rollcall_model::{BackfillId, Cell, Lsn, Point, RowChange, RowOp, SourceEvent};
use support::state::int;
use support::{Server, next, saved, transaction};

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
    transaction.groups.iter().map(|group| (int(&group.id), group.rows.iter().map(said).collect())).collect()
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

fn rows(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_move_keys_that_change_and_values_out_of_line() {
    let server = Server::start("").await;
    server
        .sql(
            "ALTER TABLE identity ALTER note SET STORAGE EXTERNAL;
             INSERT INTO identity VALUES (1, 'one', repeat('x', 5000)), (2, 'two', 'short');
             INSERT INTO trait (identity_id, trait_key, value) VALUES (1, 'a', 'x'), (1, 'b', 'y')",
        )
        .await;
    let mut source = server.source(None).await;
    server.sql("UPDATE trait SET identity_id = 2 WHERE trait_key = 'a'").await;
    assert_eq!(
        groups(&transaction(&mut source).await),
        [
            (1, rows(&["-trait identity_id=1,trait_key=a"])),
            (2, rows(&["+trait identity_id=2,trait_key=a,value=x"])),
        ]
    );
    server.sql("UPDATE trait SET trait_key = 'c' WHERE trait_key = 'b'").await;
    let renamed = "~trait identity_id=1,trait_key=c,value=y <- identity_id=1,trait_key=b";
    assert_eq!(groups(&transaction(&mut source).await), [(1, rows(&[renamed]))]);
    server.sql("UPDATE identity SET identifier = 'eins' WHERE id = 1").await;
    let kept = "~identity id=1,identifier=eins,note=Unchanged";
    assert_eq!(groups(&transaction(&mut source).await), [(1, rows(&[kept]))]);
    server.sql("INSERT INTO identity VALUES (4, 'four'); UPDATE identity SET id = 3 WHERE id = 4").await;
    let (left, came) = (
        rows(&["+identity id=4,identifier=four,note=Null", "-identity id=4"]),
        "+identity id=3,identifier=four,note=Null",
    );
    assert_eq!(groups(&transaction(&mut source).await), [(3, rows(&[came])), (4, left)]);
    // with a full replica identity the value is known even where it did not change
    server.sql("ALTER TABLE identity REPLICA IDENTITY FULL").await;
    server.sql("UPDATE identity SET identifier = 'uno' WHERE id = 1").await;
    let known = "~identity id=1,identifier=uno,note=long <- id=1,identifier=eins,note=long";
    assert_eq!(groups(&transaction(&mut source).await), [(1, rows(&[known]))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_stands_before_what_follows_it_and_leaves_out_what_came_before() {
    let server = Server::start("").await;
    let mut source = server.source(None).await;
    let mut config = server.config();
    (config.slot, config.large_transaction_rows, config.piece_rows) = ("spilled".to_owned(), 1, 100);
    let mut spilled = server.source_with(config, None, None).await;
    server
        .sql(
            "SET CONSTRAINTS ALL IMMEDIATE;
             INSERT INTO identity VALUES (1, 'one');
             INSERT INTO trait (identity_id, trait_key, value) VALUES (1, 'before', 'x');
             INSERT INTO project VALUES (1, 'before');
             TRUNCATE project, trait;
             INSERT INTO trait (identity_id, trait_key, value) VALUES (1, 'after', 'y');
             INSERT INTO project VALUES (2, 'after');",
        )
        .await;
    for source in [&mut source, &mut spilled] {
        let one = transaction(source).await;
        assert_eq!(one.truncated.iter().map(ToString::to_string).collect::<Vec<_>>(), ["project", "trait"]);
        assert_eq!(one.catalog.iter().map(said).collect::<Vec<_>>(), ["+project id=2,name=after,doc=Null"]);
        let left =
            ["+identity id=1,identifier=one,note=Null", "+trait identity_id=1,trait_key=after,value=y"];
        assert_eq!(groups(&one), [(1, rows(&left))]);
        assert!(one.complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_in_pieces_and_goes_on_in_its_middle() {
    let server = Server::start("").await;
    let config = || {
        let mut config = server.config();
        (config.large_transaction_rows, config.piece_rows) = (100, 70);
        config
    };
    let mut source = server.source_with(config(), None, None).await;
    server
        .sql(
            "INSERT INTO project VALUES (1, 'p');
             INSERT INTO identity SELECT n, 'n' || n FROM generate_series(1000, 1, -1) n;
             INSERT INTO trait (identity_id, trait_key, value) SELECT n, k, 'v' FROM generate_series(1, 1000) n, unnest('{a,b}'::text[]) k;
             UPDATE trait SET value = 'w' WHERE identity_id % 2 = 0 AND trait_key = 'a'",
        )
        .await;
    server.sql("INSERT INTO identity VALUES (2000, 'after')").await;
    let (mut pieces, mut all) = (Vec::new(), Vec::new());
    loop {
        let piece = transaction(&mut source).await;
        assert_eq!(
            piece.catalog.len(),
            usize::from(pieces.is_empty()),
            "the catalog comes with the first piece"
        );
        let size: usize = piece.groups.iter().map(|group| group.rows.len()).sum();
        assert!(size <= 70 + 3, "{size} rows");
        all.extend(groups(&piece));
        pieces.push(piece);
        if pieces.last().is_some_and(|piece| piece.complete) {
            break;
        }
    }
    assert!(pieces.len() > 40);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "each identity once, in order");
    assert_eq!(all.iter().map(|(_, rows)| rows.len()).sum::<usize>(), 3_500);
    assert_eq!(all[1].1[3], "~trait identity_id=2,trait_key=a,value=w");
    let after = transaction(&mut source).await.position;
    // what is saved of it never lets the server forget it; a restart goes on after the last saved identity
    for cut in [0, 20, pieces.len() - 2] {
        let part = saved(&pieces[cut].position);
        rollcall_model::Source::release(&mut source, &part).await.expect("releases");
        drop(source);
        source = server.source_with(config(), Some(pieces[cut].position.clone()), None).await;
        for piece in &pieces[cut + 1..] {
            let again = transaction(&mut source).await;
            assert!(again.catalog.is_empty());
            assert_eq!(groups(&again), groups(piece));
            assert_eq!((again.position, again.complete), (piece.position.clone(), piece.complete));
        }
        assert_eq!(transaction(&mut source).await.position, after);
    }
    // and one that no longer counts as large goes on there too
    drop(source);
    let mut source = server.source(Some(pieces[20].position.clone())).await;
    let rest = transaction(&mut source).await;
    assert!(rest.complete && rest.catalog.is_empty());
    assert_eq!(groups(&rest), all[all.len() - rest.groups.len()..]);
    assert_eq!(rest.groups.first().map(|group| &group.id), pieces[21].groups.first().map(|group| &group.id));
    assert_eq!(transaction(&mut source).await.position, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_yields_what_was_not_saved_and_nothing_that_was() {
    let server = Server::start("").await;
    let mut source = server.source(None).await;
    let mut positions = vec![source.beginning().clone()];
    for n in 1..=4 {
        server.sql(&format!("INSERT INTO identity VALUES ({n}, 'n')")).await;
        positions.push(transaction(&mut source).await.position);
    }
    for (saved_rows, position) in positions.iter().enumerate() {
        drop(source);
        source = server.source(Some(position.clone())).await;
        for (n, position) in (0_i64..).zip(&positions).skip(saved_rows + 1) {
            let next = transaction(&mut source).await;
            assert_eq!((int(&next.groups[0].id), &next.position), (n, position));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_table_pins_no_wal_and_a_slow_consumer_is_not_taken_for_dead() {
    let server = Server::start("wal_sender_timeout=2s").await;
    server.sql("CREATE TABLE busy (t text)").await;
    let mut source = server.source(None).await;
    let slot = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots";
    let begin: Lsn = server.text(slot).await.parse().expect("a position");
    server.sql("INSERT INTO busy SELECT repeat('x', 100) FROM generate_series(1, 1000)").await;
    let end: Lsn = server.text("SELECT pg_current_wal_lsn()::text").await.parse().expect("a position");
    assert!(begin < end);
    // other tables, then only heartbeats: the position moves past both
    let position = loop {
        let SourceEvent::Idle { position, .. } = next(&mut source).await else {
            panic!("rows of a table nobody reads")
        };
        let Point::Postgres { commit, .. } = position.point else { panic!("{position}") };
        if commit > end {
            break position;
        }
    };
    assert!(server.text(slot).await.parse::<Lsn>().expect("a position") < end, "not before it is saved");
    let proof = saved(&position);
    rollcall_model::Source::release(&mut source, &proof).await.expect("releases");
    while server.text(slot).await.parse::<Lsn>().expect("a position") < end {}
    // more than all queues hold, not taken for longer than the server waits
    server
        .sql("INSERT INTO identity SELECT n, 'n', repeat('y', 1500) FROM generate_series(1, 40000) n")
        .await;
    for n in 0..40 {
        let values = format!(
            "INSERT INTO trait (identity_id, trait_key, value) SELECT n, 'k', repeat('z', 500) FROM generate_series({n} * 1000 + 1, {n} * 1000 + 1000) n"
        );
        server.sql(&values).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let mut rows = 0;
    while rows < 80_000 {
        rows += transaction(&mut source).await.groups.iter().map(|group| group.rows.len()).sum::<usize>();
    }
    assert_eq!(rows, 80_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_as_they_are_by_stream_and_by_page() {
    let server = Server::start("timezone='Asia/Kathmandu'\nextra_float_digits=0\ndatestyle='SQL, DMY'").await;
    server
        .sql(
            "CREATE TABLE odd (id bigint PRIMARY KEY, small int2, real float4, double float8, yes bool, name varchar(9), fixed char(4),
                key uuid, doc json, docb jsonb, at timestamptz, local timestamp, n numeric, raw bytea, list int[], day date, span interval);
             ALTER PUBLICATION rollcall ADD TABLE odd",
        )
        .await;
    let spec = rollcall_model::TableSpec {
        name: "odd",
        role: rollcall_model::TableRole::Catalog { key: "id" },
        columns: &[
            "id", "small", "real", "double", "yes", "name", "fixed", "key", "doc", "docb", "at", "local",
            "n", "raw", "list", "day", "span",
        ],
        optional: &[],
    };
    let mut config = server.config();
    config.tables.push(spec);
    let mut source = server.source_with(config, None, None).await;
    server
        .sql(
            "INSERT INTO odd VALUES
             (9223372036854775807, -32768, 'NaN', 'NaN', true, 'äöü☃', 'ab', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\" : 1}',
              '{\"b\":1e3}', '2024-02-29 12:34:56.789012+05:45', '2024-02-29 12:34:56', 'NaN', '\\x00ff', '{1,NULL}', '2024-02-29', '1 day'),
             (-9223372036854775808, 32767, 0.1, 0.30000000000000004, false, '', '', NULL, 'null', '[]', 'infinity', '-infinity',
              123456789012345678901234567890.5, '', '{}', 'infinity', '-1 mon'),
             (0, 0, '-Infinity', 'Infinity', NULL, E'\\\\''\"\\n', NULL, NULL, NULL, '\"\\u0001\"', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999',
              -0.0, NULL, NULL, '0044-03-15 BC', NULL),
             (1, 1, 3.4028235e38, 5e-324, NULL, NULL, NULL, NULL, NULL, NULL, '1969-12-31 23:59:59.999999Z', '12024-01-01 00:00:00', 1, NULL, NULL, NULL, NULL)",
        )
        .await;
    let by_stream = transaction(&mut source).await.catalog;
    let of_insert = |change: &RowChange| match &change.op {
        RowOp::Insert(row) => row.clone(),
        other => panic!("{other:?}"),
    };
    let by_stream: Vec<_> = by_stream.iter().map(of_insert).collect();
    let text = |text: &str| Cell::Text(text.to_owned());
    let first = [
        Cell::Int(i64::MAX),
        Cell::Int(-32768),
        Cell::Float(f64::NAN),
        Cell::Float(f64::NAN),
        Cell::Bool(true),
        text("äöü☃"),
        text("ab  "),
        Cell::Uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned()),
        Cell::Json("{\"a\" : 1}".to_owned()),
        Cell::Json("{\"b\": 1000}".to_owned()),
        Cell::TimestampUs(1_709_189_396_789_012),
        Cell::TimestampUs(1_709_210_096_000_000),
        text("NaN"),
        text("\\x00ff"),
        text("{1,NULL}"),
        text("2024-02-29"),
        text("1 day"),
    ];
    // NaN is not equal to itself
    assert_eq!(format!("{:?}", by_stream[0].cells), format!("{first:?}"));
    assert_eq!(by_stream[1].get("double"), Some(&Cell::Float(0.300_000_000_000_000_04)));
    assert_eq!(by_stream[1].get("real"), Some(&Cell::Float(0.1)));
    assert_eq!(by_stream[1].get("at"), Some(&Cell::TimestampUs(i64::MAX)));
    assert_eq!(by_stream[1].get("local"), Some(&Cell::TimestampUs(i64::MIN)));
    assert_eq!(by_stream[1].get("n"), Some(&text("123456789012345678901234567890.5")));
    let oracle =
        server.text("SELECT (extract(epoch FROM at) * 1000000)::bigint::text FROM odd WHERE id = 0").await;
    assert_eq!(by_stream[2].get("at"), Some(&Cell::TimestampUs(oracle.parse().expect("a number"))));
    assert_eq!(by_stream[2].get("name"), Some(&text("\\'\"\n")));
    assert_eq!(by_stream[3].get("double"), Some(&Cell::Float(5e-324)));
    assert_eq!(by_stream[3].get("at"), Some(&Cell::TimestampUs(-1)));
    assert_eq!(by_stream[3].get("local"), Some(&Cell::TimestampUs(317_273_587_200_000_000)));
    // a page reads the same
    let plan = BackfillPlan { id: BackfillId("b".to_owned()), catalog: true, next_from: None };
    rollcall_model::Source::backfill(&mut source, Some(plan)).expect("starts");
    let catalog = loop {
        if let SourceEvent::Catalog(catalog) = next(&mut source).await {
            break catalog;
        }
    };
    let mut by_page = catalog.tables.get("odd").cloned().unwrap_or_default();
    let mut by_stream = by_stream;
    let key = |row: &rollcall_model::Row| format!("{:?}", row.get("id"));
    by_page.sort_by_key(key);
    by_stream.sort_by_key(key);
    assert_eq!(format!("{by_page:?}"), format!("{by_stream:?}"));
}
