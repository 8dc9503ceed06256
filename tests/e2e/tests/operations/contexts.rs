//! Rules on `$.environment`: one segment, other members in each environment of its project, in every store.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_e2e::Failure;
use serde_json::json;

use crate::stage::{Members, Stage};

/// A segment on the environment's name and one on its key: resolved for each environment by the evaluator, by SQL and in
/// the counts; a rename judges everybody in it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_are_resolved_each_for_itself() {
    let mut stage = Stage::running(24).await.unwrap();
    let by_name = add_segment(&stage, "$.environment.name", "Environment 1").await.unwrap();
    let by_key = add_segment(&stage, "$.environment.key", "env-key-3").await.unwrap();
    stands(&mut stage, by_name, &[1], by_key, &[3]).await.unwrap();

    stage.sql("UPDATE environments_environment SET name = 'Environment 1' WHERE id = 3").await.unwrap();
    stands(&mut stage, by_name, &[1, 3], by_key, &[3]).await.unwrap();
    stage.sql("UPDATE environments_environment SET name = 'Renamed' WHERE id = 1").await.unwrap();
    stands(&mut stage, by_name, &[3], by_key, &[3]).await.unwrap();
    stage
        .sql(
            "BEGIN; UPDATE environments_environment SET name = 'Environment 1' WHERE id = 1;
             UPDATE environments_environment SET name = 'Environment 3' WHERE id = 3; COMMIT",
        )
        .await
        .unwrap();
    stands(&mut stage, by_name, &[1], by_key, &[3]).await.unwrap();
}

/// Both segments have everybody of these environments and nobody else: by the reference, ClickHouse, the platform's
/// count rows (`assert_exact` compares them), `rollcall counts`, `members`, and a preview of the same rule.
async fn stands(
    stage: &mut Stage,
    by_name: i64,
    named: &[i64],
    by_key: i64,
    keyed: &[i64],
) -> Result<(), Failure> {
    let truth = stage.assert_exact().await?;
    let all: BTreeMap<i64, BTreeSet<i64>> =
        stage.world.identities.iter().fold(BTreeMap::new(), |mut all, (id, environment)| {
            all.entry(i64::from(*environment)).or_default().insert(i64::from(*id));
            all
        });
    let own = |members: &Members| -> Members {
        let own = members.iter().filter(|((segment, _), _)| [by_name, by_key].contains(segment));
        own.map(|(pair, ids)| (*pair, ids.clone())).collect()
    };
    let of = |segment: i64, environments: &[i64]| -> Members {
        environments.iter().map(|environment| ((segment, *environment), all[environment].clone())).collect()
    };
    let expected: Members = of(by_name, named).into_iter().chain(of(by_key, keyed)).collect();
    assert_eq!(own(&truth), expected, "the reference");
    assert_eq!(own(&stage.clickhouse_members().await?), expected, "ClickHouse");
    for (segment, environments) in [(by_name, named), (by_key, keyed)] {
        for environment in [1, 3] {
            let count = if environments.contains(&environment) { all[&environment].len() } else { 0 };
            let (segment, place) = (segment.to_string(), environment.to_string());
            let shown = stage.ask(&["counts", "--segment", &segment, "--environment", &place]).await?;
            assert_eq!((shown.len(), &shown[0]["count"]), (1, &json!(count)), "{shown:#?}");
            let draft = stage.worker.folder().join("draft.json");
            let (property, value) = if segment == by_name.to_string() {
                ("$.environment.name", "Environment 1")
            } else {
                ("$.environment.key", "env-key-3")
            };
            std::fs::write(&draft, rules(property, value))?;
            let draft = draft.display().to_string();
            let said = stage
                .ask(&["preview", "--rule", &draft, "--environment", &place, "--segment", &segment])
                .await?;
            let head = &said[0];
            assert_eq!(
                (&head["class"], &head["matching"], &head["staying"]),
                (&json!("exact"), &json!(count), &json!(count)),
                "{segment} in {place}: {head:#}"
            );
            assert_eq!(
                (said.len(), &head["entering"], &head["leaving"]),
                (1, &json!(0), &json!(0)),
                "{head:#}"
            );
        }
    }
    Ok(())
}

fn rules(property: &str, value: &str) -> String {
    json!([{"type": "ALL", "conditions": [{"operator": "EQUAL", "property": property, "value": value}], "rules": []}])
        .to_string()
}

async fn add_segment(stage: &Stage, property: &str, value: &str) -> Result<i64, Failure> {
    stage.add_segment("context", &rules(property, value)).await
}
