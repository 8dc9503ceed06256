//! One failure after the other that PROTOCOL.md §5 speaks of.

use rollcall_model::sink::CheckRequest;
use rollcall_model::{CheckScope, CountState, FaultKind, LogId, Partition, Sink};
use rollcall_sink_counts::Preset;

use crate::support::{
    FLAGSMITH_TABLES, Rows, Server, count_record, flagsmith, flagsmith_rows, live, log, native_rows,
    watermark,
};

fn check(partition: u16) -> CheckRequest {
    CheckRequest { id: "c".into(), partition: Partition(partition), scope: CheckScope::Totals }
}

#[tokio::test]
async fn a_replay_changes_nothing_and_parts_add_up() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 2, 1).await;
    let mut sink = server.sink(Preset::Flagsmith, 2).await;
    let batch = [live(1, 1, 0, 1, 5), live(1, 1, 1, 1, 7), live(2, 1, 0, 2, 1)];
    for _ in 0..3 {
        assert_eq!(sink.write(&batch).await.expect("writes").rows, 3);
        assert_eq!(flagsmith_rows(&client).await, Rows::from([((1, 1), 12), ((2, 1), 1)]));
    }
    // Down to zero: no row. A stale seq brings nothing back.
    sink.write(&[live(2, 1, 0, 3, 0), live(1, 1, 0, 3, 4)]).await.expect("writes");
    sink.write(&batch).await.expect("writes");
    assert_eq!(flagsmith_rows(&client).await, Rows::from([((1, 1), 11)]));
    let report = sink.check(&check(0)).await.expect("checks");
    assert_eq!(report.differences, Vec::<String>::new());
    let totals: Vec<_> = report.totals.iter().map(|t| (t.segment_id.as_str(), t.count)).collect();
    assert_eq!(totals, [("1", 4)]);
    assert_eq!(sink.reconcile().await.expect("reconciles"), Vec::<String>::new());
}

#[tokio::test]
async fn c09_two_sinks_at_once_on_the_same_rows_add_up() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 100, 1).await;
    let mut one = server.sink(Preset::Flagsmith, 2).await;
    let mut two = server.sink(Preset::Flagsmith, 2).await;
    for n in 1..=100_i32 {
        // A busy part in two commits, and the first parts of a row that isn't there yet.
        let seq = u64::from(n.unsigned_abs()) * 2;
        let (a, b) =
            ([live(1, 1, 0, seq, seq % 7), live(n, 1, 1, 1, 5)], [live(1, 1, 0, seq + 1, seq % 5 + 1)]);
        let (a, b) = tokio::join!(one.write(&a), two.write(&b));
        a.and(b).expect("both write");
        let next = n.min(99) + 1;
        let (a, b) = ([live(next, 1, 0, 1, 2)], [live(next, 1, 1, 1, 5)]);
        let (a, b) = tokio::join!(one.write(&a), two.write(&b));
        a.and(b).expect("both write");
        assert_eq!(
            one.check(&check(0)).await.expect("checks").differences,
            Vec::<String>::new(),
            "round {n}"
        );
    }
    let rows = flagsmith_rows(&client).await;
    // The last commit of each part: 1 of the busy one, 5 of the other.
    assert_eq!(rows[&(1, 1)], 6);
    assert!(rows.iter().all(|((segment, _), count)| *segment == 1 || *count == 7), "{rows:?}");
}

#[tokio::test]
async fn another_writer_is_found_repaired_and_named() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 4, 1).await;
    // A row of Flagsmith's own from before is replaced, not added to.
    let foreign = "INSERT INTO segment_membership_segmentmembershipcount
                   (segment_id, environment_id, count, last_synced_at) VALUES (1, 1, 500, now()), (4, 1, 9, now())";
    client.batch_execute(foreign).await.expect("inserts");
    let mut sink = server.sink(Preset::Flagsmith, 1).await;
    sink.write(&[live(1, 1, 0, 1, 5), live(2, 1, 0, 1, 6), live(3, 1, 0, 1, 7)]).await.expect("writes");
    let expected = Rows::from([((1, 1), 5), ((2, 1), 6), ((3, 1), 7)]);
    let changes = "UPDATE segment_membership_segmentmembershipcount SET count = 1 WHERE segment_id = 1;
                   DELETE FROM segment_membership_segmentmembershipcount WHERE segment_id = 2;";
    client.batch_execute(changes).await.expect("changes");
    let differences = sink.check(&check(0)).await.expect("checks").differences;
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert!(differences[0].contains("segment 1, environment 1"), "{differences:?}");
    assert!(differences[0].contains("says 1, the ledger rollcall_count says 5"), "{differences:?}");
    let lines = sink.reconcile().await.expect("reconciles");
    assert!(lines[0].contains("segment 1, environment 1 said 1 and says 5 now"), "{lines:?}");
    assert!(lines[1].contains("segment 2, environment 1 said absent and says 6 now"), "{lines:?}");
    assert!(lines[2].contains("segment 4, environment 1 said 9 and says absent now"), "{lines:?}");
    assert_eq!(flagsmith_rows(&client).await, expected);
    assert_eq!(sink.reconcile().await.expect("reconciles"), Vec::<String>::new());
    // A difference that would bring a lowered row below zero gives the ledger's sum.
    client
        .batch_execute("UPDATE segment_membership_segmentmembershipcount SET count = 0 WHERE segment_id = 3")
        .await
        .expect("changes");
    sink.write(&[live(3, 1, 0, 2, 6)]).await.expect("never negative");
    assert_eq!(flagsmith_rows(&client).await[&(3, 1)], 6);
}

#[tokio::test]
async fn a_hard_deleted_environment_does_not_stop_the_sink_at_commit() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 2, 2).await;
    let mut sink = server.sink(Preset::Flagsmith, 1).await;
    let mut other = server.client().await;
    // The platform is in the middle of the delete: we wait a little, give way, and come again.
    let tx = other.transaction().await.expect("begins");
    tx.batch_execute("DELETE FROM environments_environment WHERE id = 1").await.expect("deletes");
    let batch = [live(1, 1, 0, 1, 5), live(1, 2, 0, 1, 6)];
    let fault = sink.write(&batch).await.expect_err("waits for the platform's lock, not for ever");
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert_eq!(flagsmith_rows(&client).await, Rows::new());
    tx.commit().await.expect("the delete goes through");
    sink.write(&batch).await.expect("writes");
    assert_eq!(flagsmith_rows(&client).await, Rows::from([((1, 2), 6)]));
    // Counts that still come for it change the ledger alone.
    sink.write(&[live(1, 1, 0, 2, 8)]).await.expect("writes");
    assert_eq!(sink.check(&check(0)).await.expect("checks").differences, Vec::<String>::new());
}

#[tokio::test]
async fn rows_of_what_is_deleted_go_and_stay_away() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 3, 2).await;
    let mut sink = server.sink(Preset::Flagsmith, 2).await;
    let all: Vec<_> = (1..=3).flat_map(|s| (1..=2).map(move |e| live(s, e, 0, 1, 5))).collect();
    sink.write(&all).await.expect("writes");
    client
        .batch_execute(
            "UPDATE segments_segment SET deleted_at = now() WHERE id = 1;
             UPDATE environments_environment SET deleted_at = now() WHERE id = 2;",
        )
        .await
        .expect("deletes softly");
    // The records are on their way: nothing to be alarmed by.
    assert_eq!(sink.check(&check(0)).await.expect("checks").differences, Vec::<String>::new());
    // By its own record, by a count that still comes, or by reconcile.
    sink.write(&[count_record(1, 1, 0, 2, 0, CountState::Removed), live(2, 2, 0, 2, 6)])
        .await
        .expect("writes");
    assert_eq!(
        flagsmith_rows(&client).await.keys().copied().collect::<Vec<_>>(),
        [(1, 2), (2, 1), (3, 1), (3, 2)]
    );
    let lines = sink.reconcile().await.expect("reconciles");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(flagsmith_rows(&client).await, Rows::from([((2, 1), 5), ((3, 1), 5)]));
    sink.write(&[live(1, 1, 1, 1, 3), live(3, 2, 1, 1, 3)]).await.expect("writes");
    assert_eq!(flagsmith_rows(&client).await, Rows::from([((2, 1), 5), ((3, 1), 5)]));
}

#[tokio::test]
async fn unsupported_and_filling_are_shown_as_such() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 3, 1).await;
    let mut native = server.sink(Preset::Native, 2).await;
    let unsupported = || CountState::Unsupported { reason: "regex".into() };
    let first = [live(1, 1, 0, 1, 4), live(1, 1, 1, 1, 5), live(2, 1, 0, 1, 0)];
    native.write(&first).await.expect("writes");
    let second =
        [count_record(1, 1, 0, 2, 0, unsupported()), count_record(2, 1, 0, 2, 3, CountState::Filling)];
    native.write(&second).await.expect("writes");
    let rows = native_rows(&client).await;
    assert_eq!(rows[&(1, 1)], (None, "unsupported".to_owned()));
    assert_eq!(rows[&(2, 1)], (Some(3), "filling".to_owned()));
    // The other part moves on, and the segment stays unsupported until its last part is supported again.
    native.write(&[live(1, 1, 1, 2, 6)]).await.expect("writes");
    assert_eq!(native_rows(&client).await[&(1, 1)], (None, "unsupported".to_owned()));
    native.write(&[live(1, 1, 0, 3, 1), live(2, 1, 0, 3, 3)]).await.expect("writes");
    let rows = native_rows(&client).await;
    assert_eq!(rows[&(1, 1)], (Some(7), "live".to_owned()));
    assert_eq!(rows[&(2, 1)], (Some(3), "live".to_owned()));
    assert_eq!(native.check(&check(0)).await.expect("checks").differences, Vec::<String>::new());
    native.write(&[count_record(2, 1, 0, 4, 0, CountState::Removed)]).await.expect("writes");
    assert!(!native_rows(&client).await.contains_key(&(2, 1)));
}

#[tokio::test]
async fn as_of_is_the_lowest_watermark_and_never_in_the_future() {
    let server = Server::start();
    let client = server.client().await;
    let as_of = async |client: &tokio_postgres::Client| -> Option<i64> {
        let sql = "SELECT (extract(epoch FROM as_of) * 1000000)::bigint FROM segment_membership";
        client.query_one(sql, &[]).await.expect("reads").get(0)
    };
    let mut sink = server.sink(Preset::Native, 2).await;
    sink.write(&[live(1, 1, 0, 1, 1), watermark("core", 0, 1, 1_000_001)]).await.expect("writes");
    assert_eq!(as_of(&client).await, None, "partition 1 has not spoken");
    sink.write(&[watermark("core", 1, 1, 2_000_000)]).await.expect("writes");
    assert_eq!(as_of(&client).await, Some(1_000_001));
    sink.write(&[watermark("core", 0, 2, 3_000_000)]).await.expect("writes");
    assert_eq!(as_of(&client).await, Some(2_000_000));
    sink.write(&[watermark("core", 1, 1, 9_000_000), watermark("core", 0, 1, 1)]).await.expect("writes");
    assert_eq!(as_of(&client).await, Some(2_000_000), "stale seqs change nothing");
    sink.write(&[watermark("edge", 0, 3, 4_000_000)]).await.expect("writes");
    assert_eq!(as_of(&client).await, None, "a second source has spoken in one partition only");
    let ahead = i64::MAX;
    let batch: Vec<_> =
        ["core", "edge"].iter().flat_map(|s| (0..2).map(|p| watermark(s, p, 9, ahead))).collect();
    sink.write(&batch).await.expect("writes");
    let past: bool = client
        .query_one(
            "SELECT as_of <= now() AND as_of > now() - interval '1 minute' FROM segment_membership",
            &[],
        )
        .await
        .expect("reads")
        .get(0);
    assert!(past, "a source whose clock is ahead");
}

#[tokio::test]
async fn flagsmith_shows_the_sources_time() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 1, 1).await;
    let mut sink = server.sink(Preset::Flagsmith, 1).await;
    sink.write(&[live(1, 1, 0, 1, 1), watermark("core", 0, 1, 1_700_000_000_000_000)]).await.expect("writes");
    let synced =
        "SELECT extract(epoch FROM last_synced_at)::bigint FROM segment_membership_segmentmembershipcount";
    let at: i64 = client.query_one(synced, &[]).await.expect("reads").get(0);
    assert_eq!(at, 1_700_000_000);
    sink.write(&[live(1, 1, 0, 2, 2), watermark("core", 0, 2, 1_700_000_001_000_000)]).await.expect("writes");
    let at: i64 = client.query_one(synced, &[]).await.expect("reads").get(0);
    assert_eq!(at, 1_700_000_001);
}

#[tokio::test]
async fn another_log_is_refused_until_the_rebuild() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 1, 1).await;
    let mut old = server.sink(Preset::Flagsmith, 1).await;
    old.write(&[live(1, 1, 0, 900, 5)]).await.expect("writes");
    let other = LogId("log-b".into());
    let mut new = server.bare_sink(Preset::Flagsmith, "postgres").await;
    let fault = new.prepare(&other, 1).await.expect_err("refuses");
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("rollcall rebuild counts"), "{fault}");
    assert!(fault.to_string().contains("log-a"), "{fault}");
    let fault = new.prepare(&log(), 2).await.expect_err("refuses another number of partitions");
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    new.reset(&other).await.expect("resets");
    new.prepare(&other, 4).await.expect("prepares");
    assert_eq!(flagsmith_rows(&client).await, Rows::new());
    // The old log's sink is still running somewhere.
    let fault = old.write(&[live(1, 1, 0, 901, 6)]).await.expect_err("refuses");
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert_eq!(old.reconcile().await.expect_err("refuses").kind, FaultKind::Refused);
    assert_eq!(old.check(&check(0)).await.expect_err("refuses").kind, FaultKind::Refused);
    assert_eq!(flagsmith_rows(&client).await, Rows::new());
}

#[tokio::test]
async fn a_rebuild_from_the_same_log_arrives_at_the_same_rows() {
    let server = Server::start();
    let client = server.client().await;
    let mut sink = server.sink(Preset::Native, 2).await;
    let batch = [live(1, 1, 0, 4, 3), live(1, 1, 1, 2, 4), live(2, 1, 0, 3, 1)];
    sink.write(&batch).await.expect("writes");
    let before = native_rows(&client).await;
    sink.reset(&log()).await.expect("resets");
    assert!(native_rows(&client).await.is_empty());
    assert_eq!(sink.write(&batch).await.expect_err("not prepared").kind, FaultKind::Bug);
    sink.prepare(&log(), 2).await.expect("prepares");
    sink.write(&batch).await.expect("writes");
    assert_eq!(native_rows(&client).await, before);
}

#[tokio::test]
async fn a_platform_without_its_tables_or_constraint_is_refused() {
    let server = Server::start();
    let client = server.client().await;
    let mut sink = server.bare_sink(Preset::Flagsmith, "postgres").await;
    let fault = sink.prepare(&log(), 1).await.expect_err("refuses");
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("no table segments_segment"), "{fault}");
    client.batch_execute(FLAGSMITH_TABLES).await.expect("makes tables");
    client
        .batch_execute(
            "ALTER TABLE segment_membership_segmentmembershipcount
             DROP CONSTRAINT segment_membership_count_unique_segment_environment",
        )
        .await
        .expect("drops");
    let fault = sink.prepare(&log(), 1).await.expect_err("refuses");
    assert!(fault.to_string().contains("ADD CONSTRAINT segment_membership_count_unique"), "{fault}");
    client
        .batch_execute("ALTER TABLE segment_membership_segmentmembershipcount RENAME COLUMN count TO members")
        .await
        .expect("renames");
    let fault = sink.prepare(&log(), 1).await.expect_err("refuses");
    let named = "no column segment_membership_segmentmembershipcount.count";
    assert!(fault.to_string().contains(named), "{fault}");
}

#[tokio::test]
async fn a_server_that_died_in_mid_batch_has_all_of_it_or_nothing() {
    let mut server = Server::start();
    let mut sink = server.sink(Preset::Native, 1).await;
    sink.write(&(1..=500).map(|s| live(s, 1, 0, 1, 1)).collect::<Vec<_>>()).await.expect("writes");
    let batch: Vec<_> = (1..=500).map(|s| live(s, 1, 0, 2, 3)).collect();
    {
        let mut writing = sink.write(&batch);
        // Far enough that the batch is on its way.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), &mut writing).await;
        server.0.kill9();
        if let Err(fault) = writing.await {
            assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
        }
    }
    assert_eq!(sink.write(&batch).await.expect_err("nobody is there").kind, FaultKind::Retry);
    server.0.start_again();
    let client = server.client().await;
    let counts: Vec<_> = native_rows(&client).await.into_values().map(|(count, _)| count).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "a half batch");
    sink.write(&batch).await.expect("writes");
    assert!(native_rows(&client).await.into_values().all(|(count, _)| count == Some(3)));
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    let server = Server::start();
    let client = server.client().await;
    let mut sink = server.sink(Preset::Native, 1).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'rollcall' AND pid <> pg_backend_pid()";
    client.execute(cut, &[]).await.expect("cuts");
    let mut kinds = Vec::new();
    while let Err(fault) = sink.write(&[live(1, 1, 0, 1, 1)]).await {
        kinds.push(fault.kind);
        assert!(kinds.len() < 5, "{fault}");
    }
    assert!(kinds.iter().all(|kind| *kind == FaultKind::Retry), "{kinds:?}");
    assert_eq!(native_rows(&client).await[&(1, 1)], (Some(1), "live".to_owned()));
}
