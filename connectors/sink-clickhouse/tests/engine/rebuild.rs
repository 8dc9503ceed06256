//! A rebuild fills new tables and exchanges them; it repairs what `prepare` refuses.

use rollcall_model::{Delivery, LogId, Sink, Traits};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

type Line = (String, String, String, i64);

async fn members(server: &ClickHouse) -> Vec<Line> {
    rows(
        server,
        "SELECT segment_id, environment_id, id, toUnixTimestamp64Micro(since) FROM rollcall.segment_members \
         ORDER BY segment_id, environment_id, id",
    )
    .await
}

fn changes() -> Vec<Delivery> {
    vec![
        of_identity(live(1, "env1", 10, Traits::new())),
        of_change(change(1, "env1", 10, &["1", "2"], &[])),
        of_identity(live(2, "env1", 20, Traits::new())),
        of_change(change(2, "env1", 20, &["1"], &[])),
        of_change(change(1, "env1", 30, &["3"], &["2"])),
    ]
}

/// The same, as the compacted topics hold it.
fn compacted() -> Vec<Delivery> {
    vec![
        of_identity(live(1, "env1", 10, Traits::new())),
        of_identity(live(2, "env1", 20, Traits::new())),
        of_membership(membership(1, "env1", 30, &[("1", 100), ("3", 300)])),
        of_membership(membership(2, "env1", 20, &[("1", 200)])),
    ]
}

#[tokio::test]
async fn readers_see_the_old_tables_until_the_new_ones_are_full() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&changes()).await.unwrap();
    let before = members(&server).await;
    assert_eq!(before.len(), 3);
    // A ghost that no record speaks of: a rebuild must not keep it.
    run(
        &server,
        "INSERT INTO rollcall.members_by_segment (segment_id, environment_id, id, inserted_at) VALUES ('9', 'env1', 'ghost', 1)",
    )
    .await;
    sink.reset(&log_id()).await.unwrap();
    assert_eq!(members(&server).await.len(), 4);
    sink.write(&compacted()).await.unwrap();
    assert_eq!(members(&server).await.len(), 4);
    // Changes read again beside the compacted sets bring nothing back.
    sink.write(&changes()).await.unwrap();
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await, before);
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await, before);
    let left: Vec<u64> =
        rows(&server, "SELECT count() FROM system.tables WHERE database = 'rollcall_rebuild'").await;
    assert_eq!(left, [0]);
    // And it goes on as usual.
    sink.write(&[of_change(change(2, "env1", 40, &[], &["1"]))]).await.unwrap();
    assert_eq!(members(&server).await.len(), 2);
    drop(prepared(&server).await);
}

#[tokio::test]
async fn a_rebuild_cut_short_goes_on_where_it_was() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&changes()).await.unwrap();
    let before = members(&server).await;
    sink.reset(&log_id()).await.unwrap();
    sink.write(&compacted()[..2]).await.unwrap();
    let mut again = prepared(&server).await;
    again.write(&compacted()[2..]).await.unwrap();
    // One of the three was exchanged when it was cut short once more.
    run(&server, "EXCHANGE TABLES rollcall.IDENTITIES AND rollcall_rebuild.IDENTITIES").await;
    let mut last = prepared(&server).await;
    last.rebuilt().await.unwrap();
    assert_eq!(members(&server).await, before);
    let images: Vec<u64> = rows(&server, "SELECT count() FROM rollcall.IDENTITIES FINAL").await;
    assert_eq!(images, [2]);
    assert_eq!(totals(&mut last).await.len(), 3);
}

#[tokio::test]
async fn a_rebuild_given_up_is_begun_anew() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.reset(&log_id()).await.unwrap();
    sink.write(&changes()).await.unwrap();
    sink.reset(&log_id()).await.unwrap();
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await, []);
}

#[tokio::test]
async fn it_takes_tables_over_from_another_log_and_another_shape() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&changes()).await.unwrap();
    run(&server, "DROP TABLE rollcall.members_by_identity SYNC").await;
    run(&server, "CREATE TABLE rollcall.members_by_identity (id String) ENGINE = MergeTree ORDER BY id")
        .await;
    let other = LogId("log-b".into());
    let mut sink = crate::kit::sink(&server);
    assert!(sink.prepare(&other, PARTITIONS).await.is_err());
    sink.reset(&other).await.unwrap();
    sink.write(&compacted()[2..]).await.unwrap();
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await.len(), 3);
    crate::kit::sink(&server).prepare(&other, PARTITIONS).await.unwrap();
}

#[tokio::test]
async fn it_makes_everything_where_there_was_nothing() {
    let server = ClickHouse::temporary();
    let mut sink = crate::kit::sink(&server);
    sink.reset(&log_id()).await.unwrap();
    sink.write(&compacted()).await.unwrap();
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await.len(), 3);
    drop(prepared(&server).await);
}

/// A log that has not compacted delivers every set an identity ever had; only the last one holds.
#[tokio::test]
async fn an_earlier_set_leaves_no_ghost() {
    let server = ClickHouse::temporary();
    let mut sink = crate::kit::sink(&server);
    sink.reset(&log_id()).await.unwrap();
    let sets = [
        of_membership(membership(1, "env1", 10, &[("1", 100), ("2", 100)])),
        of_membership(membership(2, "env1", 10, &[("1", 100)])),
        of_membership(membership(3, "env1", 10, &[("1", 100)])),
        of_membership(membership(1, "env1", 20, &[("2", 100), ("3", 200)])),
        // It moved, and one that lost everything.
        of_membership(membership(2, "env2", 30, &[("1", 300)])),
        of_membership(membership(3, "env1", 30, &[])),
    ];
    // In one batch, one by one, and an earlier one again at the end.
    let expected = [("1", "env2", "2", 300), ("2", "env1", "1", 100), ("3", "env1", "1", 200)];
    let expected: Vec<Line> = expected.map(|(s, e, i, at)| (s.into(), e.into(), i.into(), at)).into();
    sink.write(&sets).await.unwrap();
    sink.rebuilt().await.unwrap();
    assert_eq!(members(&server).await, expected);
    sink.reset(&log_id()).await.unwrap();
    for set in sets.iter().chain(&sets[..3]) {
        sink.write(std::slice::from_ref(set)).await.unwrap();
    }
    // A change after the set stands above it.
    sink.write(&[of_change(change(3, "env1", 40, &["1"], &[])), sets[5].clone()]).await.unwrap();
    sink.rebuilt().await.unwrap();
    let mut expected = expected;
    expected.insert(0, ("1".into(), "env1".into(), "3".into(), 400));
    assert_eq!(members(&server).await, expected);
    assert_eq!(totals(&mut sink).await.len(), 4);
}
