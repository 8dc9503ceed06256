//! Servers that go away, rows that they will not take.

use rollcall_model::{Delivery, FaultKind, Sink, Traits, Value};
use rollcall_sink_clickhouse::{ClickHouseSink, ClickHouseSinkConfig};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

fn batch(from: i64, to: i64) -> Vec<Delivery> {
    let one = |id| {
        let traits = Traits::from([("n".to_owned(), Value::Int(id))]);
        [of_identity(live(id, "env1", id, traits)), of_change(change(id, "env1", id, &["1"], &[]))]
    };
    (from..to).flat_map(one).collect()
}

async fn held(server: &ClickHouse) -> (u64, u64) {
    let found: Vec<(u64, u64)> = rows(
        server,
        "SELECT images, members FROM (SELECT count() AS images FROM default.IDENTITIES) AS i \
         CROSS JOIN (SELECT count() AS members FROM rollcall.segment_members) AS m",
    )
    .await;
    found[0]
}

#[tokio::test]
async fn nothing_is_lost_while_the_server_is_away() {
    let mut server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&batch(0, 500)).await.unwrap();
    server.kill9();
    for _ in 0..2 {
        let fault = sink.write(&batch(500, 900)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
        assert!(fault.to_string().contains("127.0.0.1"), "{fault}");
    }
    let mut other = crate::kit::sink(&server);
    assert_eq!(other.prepare(&log_id(), PARTITIONS).await.unwrap_err().kind, FaultKind::Retry);
    server.start_again();
    // What was acknowledged before the crash is there; what was not goes in now, some of it a second time.
    assert_eq!(held(&server).await, (500, 500));
    sink.write(&batch(400, 900)).await.unwrap();
    assert_eq!(held(&server).await, (900, 900));
}

#[tokio::test]
async fn a_wrong_password_stops_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let server = ClickHouse::start_with(
        folder.path(),
        &["--user", "rollcall"],
        &[("ROLLCALL_CLICKHOUSE_PASSWORD", "right")],
    );
    let mut config = ClickHouseSinkConfig::new("clickhouse", server.url());
    config.user = Some("rollcall".into());
    config.password = Some("wrong-secret".into());
    let fault =
        ClickHouseSink::connect(config.clone()).unwrap().prepare(&log_id(), PARTITIONS).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config, "{fault}");
    assert!(!fault.to_string().contains("wrong-secret"), "{fault}");
    config.password = Some("right".into());
    ClickHouseSink::connect(config).unwrap().prepare(&log_id(), PARTITIONS).await.unwrap();
}

#[tokio::test]
async fn a_poisoned_row_is_named_and_the_rest_goes_in() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    run(
        &server,
        "ALTER TABLE rollcall.IDENTITIES ADD CONSTRAINT no_poison CHECK identifier NOT IN ('user77', 'user600')",
    )
    .await;
    let records = batch(0, 1_000);
    let written = sink.write(&records).await.unwrap();
    let named: Vec<usize> = written.rejected.iter().map(|r| r.index).collect();
    assert_eq!(named, [2 * 77, 2 * 600]);
    assert!(written.rejected.iter().all(|r| r.reason.contains("no_poison")), "{:?}", written.rejected);
    assert_eq!(held(&server).await, (998, 1_000));
    // Once the store takes it, the record alone goes in.
    run(&server, "ALTER TABLE rollcall.IDENTITIES DROP CONSTRAINT no_poison").await;
    sink.write(&records[2 * 77..=2 * 77]).await.unwrap();
    assert_eq!(held(&server).await, (999, 1_000));
}

#[tokio::test]
async fn a_table_that_takes_nothing_is_not_a_thousand_bad_rows() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    run(&server, "ALTER TABLE rollcall.IDENTITIES ADD CONSTRAINT nothing CHECK identifier = ''").await;
    let fault = sink.write(&batch(0, 300)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert!(fault.to_string().contains("rollcall rebuild clickhouse"), "{fault}");
}

#[tokio::test]
async fn a_table_dropped_under_way_is_refused() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    run(&server, "DROP TABLE rollcall.members_by_identity SYNC").await;
    let fault = sink.write(&batch(0, 3)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert!(fault.to_string().contains("rollcall rebuild clickhouse"), "{fault}");
}

#[tokio::test]
async fn a_lost_half_of_the_mirror_is_seen_by_a_check() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&batch(0, 40)).await.unwrap();
    run(&server, "TRUNCATE TABLE rollcall.members_by_identity").await;
    let request = rollcall_model::sink::CheckRequest {
        id: "c".into(),
        partition: rollcall_model::Partition(0),
        scope: rollcall_model::CheckScope::Totals,
    };
    let report = sink.check(&request).await.unwrap();
    assert_eq!(report.differences.len(), 1);
    assert!(report.differences[0].contains("members_by_identity differs"), "{:?}", report.differences);
}

#[tokio::test]
async fn an_empty_batch_is_written() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    assert_eq!(sink.write(&[]).await.unwrap(), rollcall_model::Written::default());
    assert_eq!(sink.reconcile().await.unwrap(), Vec::<String>::new());
}
