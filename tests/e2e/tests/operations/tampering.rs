//! Other hands in our stores: verify names what they did, and the stores are mended.

use std::collections::BTreeSet;

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::stage::Stage;

/// Rows taken from, given to and invented in ClickHouse; a count row changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_what_others_changed_and_repairs_it() {
    let mut stage = Stage::running(3).await.unwrap();
    let truth = stage.assert_exact().await.unwrap();
    // Half of the 50 of an environment, so that there are members to lose and strangers to add.
    let half = |members: &BTreeSet<i64>| members.len().abs_diff(25);
    let ((segment, environment), members) = truth.iter().min_by_key(|(_, members)| half(members)).unwrap();
    let (segment, environment) = (*segment, *environment);
    let lost: Vec<i64> = members.iter().copied().take(2).collect();
    let of_environment = stage.world.identities.iter().filter(|(_, of)| i64::from(*of) == environment);
    let stranger = of_environment.map(|(id, _)| i64::from(*id)).find(|id| !members.contains(id)).unwrap();
    tamper(&stage, segment, environment, &lost, stranger).await.unwrap();

    let (code, said) = verify(&stage, &["verify"]).await.unwrap();
    assert_eq!(code, 1, "{said:?}");
    for id in &lost {
        assert!(names(&said, "clickhouse lacks", *id), "{id} is not named: {said:?}");
    }
    for id in [stranger, 987_654_321] {
        assert!(names(&said, "clickhouse should not have", id), "{id} is not named: {said:?}");
    }
    let of = format!("segment {segment} in environment {environment}");
    assert!(said.iter().any(|line| line.contains(&of)), "{said:?}");

    let (code, _) = verify(&stage, &["verify", "--repair"]).await.unwrap();
    assert_eq!(code, 1, "it says what it found, repaired or not");
    let found = stage.assert_exact().await.unwrap();
    assert_eq!(found, truth);
    let changes = stage.ask(&["topic", "tail", "membership-changes"]).await.unwrap();
    let repaired = changes.iter().filter(|record| record["value"]["cause"] == "repair");
    let repaired: BTreeSet<i64> = repaired.filter_map(|record| record["value"]["id"].as_i64()).collect();
    assert!(lost.iter().all(|id| repaired.contains(id)) && repaired.contains(&stranger), "{repaired:?}");

    // The platform's own refresh writes what it thinks: reconcile takes it back within its second.
    let pair = format!("segment_id = {segment} AND environment_id = {environment}");
    let table = "segment_membership_segmentmembershipcount";
    stage.ask(&["pause", "sink/counts"]).await.unwrap();
    stage.until("sink/counts", "paused").await.unwrap();
    stage.sql(&format!("UPDATE {table} SET count = 77777 WHERE {pair}")).await.unwrap();
    stage.ask(&["resume", "sink/counts"]).await.unwrap();
    let count = format!("SELECT count FROM {table} WHERE {pair}");
    stage.until_number(&count, truth[&(segment, environment)].len() as i64).await.unwrap();
    stage.sql(&format!("DELETE FROM {table} WHERE {pair}")).await.unwrap();
    let count = format!("SELECT coalesce(sum(count), 0) FROM {table} WHERE {pair}");
    stage.until_number(&count, truth[&(segment, environment)].len() as i64).await.unwrap();
    assert_eq!(stage.assert_exact().await.unwrap(), truth);
}

/// Deletes the rows of `lost`, adds one of an identity that is there and no member, and one that was never there.
async fn tamper(
    stage: &Stage,
    segment: i64,
    environment: i64,
    lost: &[i64],
    stranger: i64,
) -> Result<(), Failure> {
    let table = "rollcall.members_by_segment";
    let of = format!("segment_id = '{segment}' AND platform_environment_id = '{environment}'");
    for id in lost {
        stage.clickhouse(&format!("DELETE FROM {table} WHERE {of} AND id = '{id}'")).await?;
    }
    let columns = "segment_id, environment_id, platform_environment_id, id, since, inserted_at, is_deleted, source, \
                   partition, seq, log_id";
    let partition = format!("(SELECT partition FROM rollcall.IDENTITIES FINAL WHERE id = '{stranger}')");
    for (id, partition) in [(stranger, partition.as_str()), (987_654_321, "partition")] {
        stage
            .clickhouse(&format!(
                "INSERT INTO {table} ({columns}) SELECT segment_id, environment_id, platform_environment_id, '{id}', \
                 since, inserted_at, 0, source, {partition}, seq, log_id FROM {table} FINAL WHERE {of} LIMIT 1"
            ))
            .await?;
    }
    Ok(())
}

async fn verify(stage: &Stage, arguments: &[&str]) -> Result<(i32, Vec<String>), Failure> {
    let (code, lines) = stage.worker.ask(arguments).await?;
    let differences = lines.iter().filter(|line| line["kind"] == "difference");
    let said = differences.filter_map(|line: &Value| line["text"].as_str().map(str::to_owned)).collect();
    Ok((code, said))
}

/// Whether a line says `what` of the identity.
fn names(said: &[String], what: &str, id: i64) -> bool {
    let id = id.to_string();
    said.iter()
        .filter_map(|line| line.split_once(what))
        .any(|(_, rest)| rest.split(';').next().unwrap_or_default().split(", ").any(|one| one.trim() == id))
}
