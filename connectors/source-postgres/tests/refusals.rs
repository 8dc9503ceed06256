//! What a source refuses on a real Postgres 15, and the repair it names; setup and teardown.

mod support;

use std::fs;

use rollcall_model::{Fault, FaultKind, Lsn, Point, Position, TableRole, TableSpec};
use rollcall_source_postgres::{apply_setup, preflight, setup_sql, teardown};
use support::{Server, transaction};

fn says(fault: &Fault, kind: FaultKind, words: &[&str]) {
    let shown = fault.to_string();
    assert_eq!(fault.kind, kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "'{word}' is not in: {shown}");
    }
}

/// Starts a source, lets a transaction through, and gives the position after it.
async fn position(server: &Server) -> Position {
    let mut source = server.source(None).await;
    server.sql("INSERT INTO identity VALUES (1, 'one')").await;
    transaction(&mut source).await.position
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_lost_what_comes_after_our_position_is_refused() {
    let server = Server::start("").await;
    let at = position(&server).await;
    // nothing was lost: it goes on
    drop(server.source(Some(at.clone())).await);
    // another read the slot past our position: Postgres itself would start later, without an error
    server.sql("INSERT INTO identity VALUES (2, 'two')").await;
    let advance = "SELECT pg_replication_slot_advance('rollcall', pg_current_wal_lsn())";
    while server.client().await.batch_execute(advance).await.is_err() {} // until our connection is gone
    let fault = server.refusal(server.config(), Some(at.clone())).await;
    says(&fault, FaultKind::Refused, &["\"rollcall\"", "past our position", "rollcall backfill core"]);
    // recreated
    server.sql("SELECT pg_drop_replication_slot('rollcall'); SELECT pg_create_logical_replication_slot('rollcall', 'pgoutput')").await;
    let fault = server.refusal(server.config(), Some(at.clone())).await;
    says(&fault, FaultKind::Refused, &["past our position", "rollcall backfill core"]);
    // dropped
    server.sql("SELECT pg_drop_replication_slot('rollcall')").await;
    let fault = server.refusal(server.config(), Some(at)).await;
    says(&fault, FaultKind::Refused, &["is gone", "rollcall backfill core"]);
    // of another plugin
    server.sql("SELECT pg_create_logical_replication_slot('rollcall', 'test_decoding')").await;
    let fault = server.refusal(server.config(), None).await;
    says(&fault, FaultKind::Refused, &["pgoutput", "another slot name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_an_older_state_and_another_slot_are_refused() {
    let (server, other) = tokio::join!(Server::start(""), Server::start(""));
    let at = position(&server).await;
    drop(other.source(None).await);
    let fault = other.refusal(other.config(), Some(at.clone())).await;
    says(&fault, FaultKind::Refused, &["another Postgres cluster", "correct the url"]);
    let mut ahead = at.clone();
    ahead.point = Point::Postgres { commit: Lsn(u64::MAX >> 8), done: None };
    let fault = server.refusal(server.config(), Some(ahead)).await;
    says(&fault, FaultKind::Refused, &["restored from an older state", "rollcall backfill core"]);
    let mut config = server.config();
    config.slot = "elsewhere".to_owned();
    let fault = server.refusal(config, Some(at)).await;
    says(&fault, FaultKind::Refused, &["belongs to core/rollcall@"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_refused_only_behind_our_position() {
    let server = Server::start("").await;
    let before = position(&server).await;
    // the cluster comes up again as its own standby, and is promoted
    server.down();
    let data = server.path("data");
    fs::write(server.path("draft"), "").expect("a file");
    server.as_postgres(&format!("touch '{data}/standby.signal'"));
    server.up();
    server.promote();
    let source = server.source(Some(before.clone())).await;
    let after = source.beginning().clone();
    assert_ne!(after.lane, before.lane, "a new timeline is a new lane");
    drop(source);
    drop(server.source(Some(after)).await);
    // what we hold of the old timeline past the fork is not in its history
    let past: String = server.text("SELECT pg_current_wal_lsn()::text").await;
    let mut lost = before;
    lost.point = Point::Postgres { commit: past.parse().expect("a position"), done: None };
    let fault = server.refusal(server.config(), Some(lost)).await;
    says(&fault, FaultKind::Refused, &["timeline 1 to 2", "rollcall backfill core"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_names_its_reader_and_an_invalidated_one_its_setting() {
    let server =
        Server::start("max_slot_wal_keep_size=1MB\nmin_wal_size=32MB\nmax_wal_size=32MB\nwal_keep_size=0")
            .await;
    let mut source = server.source(None).await;
    let pid = server.text("SELECT active_pid::text FROM pg_replication_slots").await;
    let fault = server.refusal(server.config(), None).await;
    says(&fault, FaultKind::Retry, &[&format!("process {pid}"), "pg_terminate_backend"]);
    server.sql("INSERT INTO identity VALUES (1, 'one')").await;
    let at = transaction(&mut source).await.position;
    drop(source);
    let lost = "SELECT wal_status FROM pg_replication_slots";
    while server.text(lost).await != "lost" {
        server.sql("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 40)").await;
        server.sql("SELECT pg_switch_wal()").await;
        server.sql("CHECKPOINT").await;
    }
    let fault = server.refusal(server.config(), Some(at)).await;
    says(
        &fault,
        FaultKind::Refused,
        &["max_slot_wal_keep_size", "pg_drop_replication_slot", "rollcall backfill core"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_not_set_up_is_told_at_once_and_setup_does_it() {
    let server = Server::start("").await;
    server
        .sql(
            "DROP PUBLICATION rollcall;
             ALTER TABLE trait REPLICA IDENTITY DEFAULT;
             ALTER TABLE identity REPLICA IDENTITY NOTHING;
             CREATE ROLE poor LOGIN PASSWORD 'x'; CREATE ROLE least LOGIN REPLICATION;
             CREATE TABLE keyless (id int, name text);",
        )
        .await;
    let mut config = server.config();
    config.url = server.url_as("poor");
    config.tables.push(TableSpec {
        name: "keyless",
        role: TableRole::Catalog { key: "id" },
        columns: &["id", "gone"],
        optional: &[],
    });
    let fault = server.refusal(config.clone(), None).await;
    says(
        &fault,
        FaultKind::Config,
        &[
            "ALTER ROLE \"poor\" REPLICATION;",
            "GRANT SELECT ON TABLE \"public\".\"trait\" TO \"poor\";",
            "ALTER TABLE \"public\".\"trait\" REPLICA IDENTITY USING INDEX \"trait_trait_key_identity_id_key\";",
            "ALTER TABLE \"public\".\"identity\" REPLICA IDENTITY DEFAULT;",
            "no column gone",
            "\"keyless\" has no primary key",
            "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;",
            "CREATE PUBLICATION \"rollcall\" FOR TABLE",
        ],
    );
    assert!(apply_setup(&config).await.is_err(), "a role without rights can't set up");
    config.tables.pop();
    // what is printed is what the owner runs
    for sql in setup_sql(&config).await.expect("asks") {
        server.sql(&sql).await;
    }
    assert_eq!(preflight(&config).await.expect("asks"), []);
    // as the owner, by itself; then with a role of least privilege
    server.sql("ALTER PUBLICATION rollcall DROP TABLE trait; ALTER PUBLICATION rollcall SET (publish = 'insert')").await;
    assert_eq!(apply_setup(&server.config()).await.expect("sets up"), []);
    server.sql("ALTER PUBLICATION rollcall SET TABLE trait WHERE (value <> ''), identity (id, identifier), project").await;
    assert_eq!(apply_setup(&server.config()).await.expect("sets up"), []);
    server.sql("GRANT SELECT ON project, identity, trait TO least").await;
    config.url = server.url_as("least");
    let mut source = server.source_with(config.clone(), None, None).await;
    server.sql("INSERT INTO identity VALUES (7, 'seven')").await;
    assert_eq!(transaction(&mut source).await.groups.len(), 1);
    says(&teardown(&config).await.expect_err("in use"), FaultKind::Retry, &["in use"]);
    drop(source);
    while teardown(&server.config()).await.is_err() {}
    assert_eq!(server.text("SELECT count(*)::text FROM pg_replication_slots").await, "0");
    teardown(&server.config()).await.expect("what is not there is no fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_level_a_missing_table_and_a_wrong_kind_of_id_are_told() {
    let server = Server::start("wal_level=replica").await;
    let fault = server.refusal(server.config(), None).await;
    says(
        &fault,
        FaultKind::Config,
        &[
            "wal_level is replica",
            "ALTER SYSTEM SET wal_level = logical;",
            "restart Postgres",
            "no table public.trait",
        ],
    );
    server.sql("CREATE TABLE identity (id uuid PRIMARY KEY, identifier text)").await;
    let fault = server.refusal(server.config(), None).await;
    says(&fault, FaultKind::Config, &["is no integer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_goes_while_the_stream_runs_is_named() {
    let server = Server::start("").await;
    let mut source = server.source(None).await;
    for sql in [
        "INSERT INTO identity VALUES (1, 'one', 'x')",
        "ALTER TABLE identity DROP COLUMN note; ALTER TABLE identity ADD COLUMN other int DEFAULT 5",
        "INSERT INTO identity VALUES (2, 'two')",
        "ALTER TABLE identity ADD COLUMN note int",
        "INSERT INTO identity VALUES (3, 'three', 6, 7)",
        "ALTER TABLE identity DROP COLUMN identifier",
        "INSERT INTO identity (id) VALUES (4)",
    ] {
        server.sql(sql).await;
    }
    let mut columns = Vec::new();
    for _ in 0..3 {
        let rows = transaction(&mut source).await.groups.remove(0).rows;
        let rollcall_model::RowOp::Insert(row) = &rows[0].op else { panic!("{rows:?}") };
        columns.push(row.columns.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    assert_eq!(
        columns,
        [vec!["id", "identifier", "note"], vec!["id", "identifier"], vec!["id", "identifier", "note"]]
    );
    let fault = loop {
        match rollcall_model::Source::next(&mut source).await {
            Ok(rollcall_model::SourceEvent::Idle { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(fault) => break fault,
        }
    };
    says(&fault, FaultKind::Refused, &["public.identity", "identifier"]);
}
