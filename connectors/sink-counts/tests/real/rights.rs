//! What a role of least privilege is told, and that what it is told is enough.

use rollcall_model::{FaultKind, Sink};
use rollcall_sink_counts::{Preset, setup_sql};

use crate::support::{Rows, Server, flagsmith, flagsmith_rows, live, log};

#[tokio::test]
async fn the_printed_setup_is_enough_and_every_lack_is_named() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 2, 1).await;
    client.batch_execute("CREATE ROLE sync LOGIN").await.expect("a role");
    let mut sink = server.bare_sink(Preset::Flagsmith, "sync").await;
    let fault = sink.prepare(&log(), 1).await.expect_err("may not make tables");
    assert_eq!(fault.kind, FaultKind::Config);
    let text = fault.to_string();
    assert!(text.contains("CREATE TABLE IF NOT EXISTS rollcall_count ("), "{text}");

    // The tables are there, the rights are not.
    client.batch_execute(&setup_sql(Preset::Flagsmith, "public", None)).await.expect("makes tables");
    let fault = sink.prepare(&log(), 1).await.expect_err("lacks rights");
    assert_eq!(fault.kind, FaultKind::Config);
    let text = fault.to_string();
    for grant in [
        "GRANT SELECT, INSERT, UPDATE, DELETE ON rollcall_count TO \"sync\";",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON segment_membership_segmentmembershipcount TO \"sync\";",
        "GRANT SELECT (id, deleted_at), UPDATE (id) ON environments_environment TO \"sync\";",
    ] {
        assert!(text.contains(grant), "{grant} is not in {text}");
    }
    // What the message says is what helps.
    let (_, sql) = text.split_once("run:\n").expect("SQL to run");
    client.batch_execute(sql).await.expect("grants");
    sink.prepare(&log(), 1).await.expect("prepares");
    sink.write(&[live(1, 1, 0, 1, 5), live(2, 1, 0, 1, 1)]).await.expect("writes");
    sink.write(&[live(1, 1, 0, 2, 6), live(2, 1, 0, 2, 0)]).await.expect("writes");
    assert_eq!(sink.reconcile().await.expect("reconciles"), Vec::<String>::new());
    assert_eq!(flagsmith_rows(&client).await, Rows::from([((1, 1), 6)]));
    sink.reset(&log()).await.expect("resets");
}

#[tokio::test]
async fn setup_for_a_role_is_all_it_needs_and_may_run_twice() {
    let server = Server::start();
    let client = server.client().await;
    client.batch_execute("CREATE ROLE \"odd role\" LOGIN").await.expect("a role");
    for _ in 0..2 {
        client.batch_execute(&setup_sql(Preset::Native, "public", Some("odd role"))).await.expect("sets up");
    }
    let mut sink = server.bare_sink(Preset::Native, "odd%20role").await;
    sink.prepare(&log(), 1).await.expect("prepares");
    sink.write(&[live(1, 1, 0, 1, 5)]).await.expect("writes");
    sink.reset(&log()).await.expect("resets");
}

#[tokio::test]
async fn an_old_installation_numbers_its_rows_from_a_sequence() {
    let server = Server::start();
    let client = server.client().await;
    flagsmith(&client, 1, 1).await;
    client
        .batch_execute(
            "ALTER TABLE segment_membership_segmentmembershipcount ALTER COLUMN id DROP IDENTITY;
             CREATE SEQUENCE segment_membership_segmentmembershipcount_id_seq
                 OWNED BY segment_membership_segmentmembershipcount.id;
             ALTER TABLE segment_membership_segmentmembershipcount ALTER COLUMN id
                 SET DEFAULT nextval('segment_membership_segmentmembershipcount_id_seq');
             CREATE ROLE sync LOGIN;",
        )
        .await
        .expect("as serial makes it");
    client.batch_execute(&setup_sql(Preset::Flagsmith, "public", Some("sync"))).await.expect("sets up");
    let mut sink = server.bare_sink(Preset::Flagsmith, "sync").await;
    sink.prepare(&log(), 1).await.expect("prepares");
    sink.write(&[live(1, 1, 0, 1, 5)]).await.expect("writes");
    let revoke = "REVOKE ALL ON SEQUENCE segment_membership_segmentmembershipcount_id_seq FROM sync";
    client.batch_execute(revoke).await.expect("revokes");
    let fault = sink.prepare(&log(), 1).await.expect_err("lacks the sequence");
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(fault.to_string().contains("GRANT USAGE ON SEQUENCE"), "{fault}");
}
