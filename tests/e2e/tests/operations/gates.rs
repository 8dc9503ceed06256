//! An organisation's gate turned by `rollcall apply`.

use rollcall_e2e::Failure;

use crate::stage::Stage;

/// On → off → exclude → on: members and counts leave, come back after a fill, and after an exclusion by a backfill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_is_turned_by_apply_alone() {
    let mut stage = Stage::running(4).await.unwrap();
    let all = stage.assert_exact().await.unwrap();

    // A worker with another file than the log agreed to does not start.
    stage.stop().await.unwrap();
    gate(&stage, "2: off").unwrap();
    let (code, _, said) = stage.worker.say(&["run"]).await.unwrap();
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("gates.organisations.2: default → off") && said.contains("rollcall apply"),
        "{said}"
    );
    gate(&stage, "").unwrap();
    stage.start().await.unwrap();
    stage.settle().await.unwrap();

    // What a log can't change is refused, and nothing of the file is applied.
    let file = stage.worker.config();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("partitions: 2", "partitions: 3")).unwrap();
    let (code, shown, said) = stage.worker.say(&["apply"]).await.unwrap();
    assert_eq!(code, 1, "{shown}{said}");
    assert!(format!("{shown}{said}").contains("fixed when the log was made"), "{shown}{said}");
    std::fs::write(&file, text).unwrap();

    gate(&stage, "2: off").unwrap();
    let planned = stage.ask(&["apply", "--plan"]).await.unwrap();
    assert_eq!(planned.len(), 1);
    assert_eq!(planned[0]["key"], "gates.organisations.2");
    assert_eq!(stage.assert_exact().await.unwrap(), all, "a plan changes nothing");
    stage.ask(&["apply"]).await.unwrap();
    stage.gated.insert(2);
    let rest = stage.assert_exact().await.unwrap();
    assert!(rest.keys().all(|(_, environment)| environment % 2 == 1) && !rest.is_empty());

    // Images flow on behind a closed gate: whoever changes meanwhile is judged as he is when it opens.
    stage.churn(60).await.unwrap();
    gate(&stage, "2: on").unwrap();
    stage.ask(&["apply"]).await.unwrap();
    stage.gated.clear();
    stage.assert_exact().await.unwrap();

    gate(&stage, "2: exclude").unwrap();
    stage.ask(&["apply"]).await.unwrap();
    stage.gated.insert(2);
    stage.assert_exact().await.unwrap();
    assert_eq!(images_of_2(&stage).await.unwrap(), 0, "images of an excluded organisation");
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();

    // What an exclusion threw away comes back by a backfill, not before.
    gate(&stage, "").unwrap();
    stage.ask(&["apply"]).await.unwrap();
    stage.settle().await.unwrap();
    stage.ask(&["backfill", "core"]).await.unwrap();
    stage.gated.clear();
    let back = stage.assert_exact().await.unwrap();
    assert!(back.keys().any(|(_, environment)| environment % 2 == 0));
    let sql = "SELECT count(*) FROM environments_identity WHERE environment_id IN (2, 4)";
    assert_eq!(images_of_2(&stage).await.unwrap(), stage.number(sql).await.unwrap());
}

/// Writes what the file says of organisations.
fn gate(stage: &Stage, organisations: &str) -> Result<(), Failure> {
    let file = stage.worker.config();
    let text = std::fs::read_to_string(&file)?;
    let lines = text.lines().map(|line| match line.strip_prefix("gates:") {
        Some(_) => format!("gates: {{ default: on, organisations: {{ {organisations} }} }}\n"),
        None => format!("{line}\n"),
    });
    Ok(std::fs::write(&file, lines.collect::<String>())?)
}

/// How many identities of organisation 2 the columnar mirror shows.
async fn images_of_2(stage: &Stage) -> Result<i64, Failure> {
    let query =
        "SELECT count() FROM rollcall.IDENTITIES FINAL WHERE environment_id IN ('env-key-2', 'env-key-4')";
    Ok(stage.clickhouse(query).await?.trim().parse()?)
}
