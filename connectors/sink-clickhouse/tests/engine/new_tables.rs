//! Tables in a database of their own: the same rows, resumed, and nobody else's.

use rollcall_model::{FaultKind, Sink, Traits};
use rollcall_sink_clickhouse::{NewTables, Preset};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

const JOB: &str = r#"{"environments":["env1"]}"#;

async fn members(server: &ClickHouse, database: &str) -> Vec<(String, String, String)> {
    rows(
        server,
        &format!(
            "SELECT segment_id, environment_id, id FROM {database}.segment_members ORDER BY segment_id, id"
        ),
    )
    .await
}

/// Sets come older first, twice over, in batches cut anywhere: who left stays away.
#[tokio::test]
async fn new_tables_hold_what_they_were_given_and_go_on_where_they_stood() {
    let server = ClickHouse::temporary();
    let records = [
        of_identity(live(1, "env1", 10, Traits::new())),
        of_identity(live(2, "env1", 10, Traits::new())),
        of_membership(membership(1, "env1", 10, &[("1", 1), ("2", 1)])),
        of_membership(membership(2, "env1", 10, &[("1", 1)])),
        of_membership(membership(1, "env1", 20, &[("1", 1), ("3", 2)])),
        of_membership(membership(2, "env1", 20, &[])),
    ];
    let (tables, state) = NewTables::open(config(&server, Preset::Native), "then", JOB).await.unwrap();
    assert_eq!(state, None);
    for record in &records {
        tables.write(std::slice::from_ref(record)).await.unwrap();
    }
    tables.note("half").await.unwrap();
    // Killed: the same job goes on, and reads some of it again.
    let (tables, state) = NewTables::open(config(&server, Preset::Native), "then", JOB).await.unwrap();
    assert_eq!(state.as_deref(), Some("half"));
    for from in [0, 2, 4] {
        tables.write(&records[from..from + 1]).await.unwrap();
        tables.write(&records[from..]).await.unwrap();
        tables.finish().await.unwrap();
        let of = |segment: &str| (segment.to_owned(), "env1".to_owned(), "1".to_owned());
        assert_eq!(members(&server, "then").await, [of("1"), of("3")], "from {from}");
    }
    let images: Vec<String> = rows(&server, "SELECT id FROM then.IDENTITIES FINAL ORDER BY id").await;
    assert_eq!(images.len(), 2);

    let mut sink = prepared(&server).await;
    sink.write(&records[..1]).await.unwrap();
    let own: Vec<u64> = rows(&server, "SELECT count() FROM rollcall.members_by_segment").await;
    assert_eq!(own, [0], "the sink's own tables know nothing of it");
}

#[tokio::test]
async fn a_database_that_holds_something_else_is_left_alone() {
    let server = ClickHouse::temporary();
    let (_tables, _) = NewTables::open(config(&server, Preset::Native), "then", JOB).await.unwrap();
    let other = NewTables::open(config(&server, Preset::Native), "then", "{}").await.unwrap_err();
    run(&server, "CREATE DATABASE theirs").await;
    run(&server, "CREATE TABLE theirs.t (a String) ENGINE = MergeTree ORDER BY a").await;
    let theirs = NewTables::open(config(&server, Preset::Native), "theirs", JOB).await.unwrap_err();
    for (fault, name) in [(other, "then"), (theirs, "theirs")] {
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
        assert!(fault.to_string().contains(&format!("DROP DATABASE {name}")), "{fault}");
    }
    let left: Vec<u64> = rows(&server, "SELECT count() FROM system.tables WHERE database = 'theirs'").await;
    assert_eq!(left, [1]);
    let bad = NewTables::open(config(&server, Preset::Native), "rollcall", JOB).await.unwrap_err();
    assert_eq!(bad.kind, FaultKind::Config, "{bad}");
}
