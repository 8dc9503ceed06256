//! What databases hold and platforms do that nobody would expect: everything stays exact.

use rollcall_e2e::Failure;

use crate::stage::Stage;

/// Both tables truncated and filled again in one transaction; an environment deleted softly while its identities go hard;
/// deletes and re-creations under one identifier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wholesale_deletes_and_rebirths() {
    let mut stage = Stage::running(10).await.unwrap();
    stage.assert_exact().await.unwrap();

    // Deleted and made anew under the same identifier, in one transaction and in two; moved; renamed onto the freed name.
    let identity = |id: i64| {
        format!(
            "DELETE FROM environments_trait WHERE identity_id = {id}; DELETE FROM environments_identity WHERE id = {id};"
        )
    };
    let again = |identifier: &str, environment: i64| {
        format!(
            "WITH made AS (INSERT INTO environments_identity (identifier, created_date, environment_id, system_traits) \
             VALUES ('{identifier}', now(), {environment}, '{{}}') RETURNING id) \
             INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id) \
             SELECT 'plan', 'unicode', 'growth', now(), id FROM made;"
        )
    };
    stage.sql(&format!("BEGIN; {} {} COMMIT", identity(1), again("user-1", 1))).await.unwrap();
    stage.sql(&identity(2)).await.unwrap();
    stage.sql(&again("user-2", 2)).await.unwrap();
    stage
        .sql(&format!("BEGIN; {} {} {} COMMIT", again("brief", 1), identity(5), again("user-5", 1)))
        .await
        .unwrap();
    stage.sql("UPDATE environments_identity SET environment_id = 3 WHERE id = 9").await.unwrap();
    stage.sql(&identity(13)).await.unwrap();
    stage.sql("UPDATE environments_identity SET identifier = 'user-13' WHERE id = 17").await.unwrap();
    stage.assert_exact().await.unwrap();

    // A migration of the platform's in the middle of it all.
    stage.sql("ALTER TABLE environments_identity ADD COLUMN nickname text DEFAULT 'none'").await.unwrap();
    stage.churn(40).await.unwrap();
    stage.assert_exact().await.unwrap();

    // Hard, with its count rows, while counts of it are still on their way.
    stage.ask(&["pause", "sink/counts"]).await.unwrap();
    stage.churn(40).await.unwrap();
    stage
        .sql(
            "BEGIN; DELETE FROM segment_membership_segmentmembershipcount WHERE environment_id = 2;
             DELETE FROM environments_trait t USING environments_identity i WHERE t.identity_id = i.id AND i.environment_id = 2;
             DELETE FROM environments_identity WHERE environment_id = 2;
             DELETE FROM environments_environment WHERE id = 2; COMMIT",
        )
        .await
        .unwrap();
    stage.settle().await.unwrap();
    stage.ask(&["resume", "sink/counts"]).await.unwrap();
    let rest = stage.assert_exact().await.unwrap();
    assert!(rest.keys().all(|(_, environment)| *environment != 2));

    // The environment's row is kept, marked deleted; what is in it goes.
    stage
        .sql(
            "BEGIN; UPDATE environments_environment SET deleted_at = now() WHERE id = 4;
             DELETE FROM environments_trait t USING environments_identity i WHERE t.identity_id = i.id AND i.environment_id = 4;
             DELETE FROM environments_identity WHERE environment_id = 4; COMMIT",
        )
        .await
        .unwrap();
    let rest = stage.assert_exact().await.unwrap();
    assert!(rest.keys().all(|(_, environment)| *environment != 4));

    stage
        .sql(&format!(
            "BEGIN; TRUNCATE environments_identity, environments_trait; {} {} COMMIT",
            again("user-3", 3),
            again("phoenix", 1)
        ))
        .await
        .unwrap();
    stage.assert_exact().await.unwrap();
    let live = "SELECT count() FROM rollcall.IDENTITIES FINAL";
    assert_eq!(stage.clickhouse(live).await.unwrap().trim(), "2");
    stage
        .sql(&format!(
            "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; {} TRUNCATE environments_trait; {} COMMIT",
            again("lost", 1),
            again("last", 1)
        ))
        .await
        .unwrap();
    stage.assert_exact().await.unwrap();
}

/// Long texts, thousands of traits, quotes, backslashes, unicode; a regex that doesn't compile; rules nested 50 deep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_values_and_rules() {
    let mut stage = Stage::running(11).await.unwrap();
    stage.assert_exact().await.unwrap();
    let long = "\u{10ffff}".repeat(2_000);
    let texts =
        ["it's \"quoted\"", "back\\slash\\", "\u{1}\t\r\n", "naïve ☃ ﷽ \u{202e}rtl", "", long.as_str()];
    for (number, text) in texts.iter().enumerate() {
        stage
            .sql(&format!(
                "INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id) \
                 VALUES ($key$odd \"'\\ {number}.x$key$, 'unicode', $text${text}$text$, now(), 21)"
            ))
            .await
            .unwrap();
    }
    stage
        .sql(
            "INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id) \
             SELECT 'key-' || n, 'unicode', 'value-' || n, now(), 25 FROM generate_series(1, 5000) n; \
             UPDATE environments_identity SET identifier = $$o'brien \\ \"☃\" %_$$ WHERE id = 23",
        )
        .await
        .unwrap();
    for (number, text) in texts.iter().enumerate() {
        let property = format!("odd \"'\\ {number}.x");
        add_segment(&stage, &[("EQUAL", property.as_str(), text)], 1).await.unwrap();
    }
    add_segment(&stage, &[("EQUAL", "key-4999", "value-4999")], 50).await.unwrap();
    add_segment(&stage, &[("EQUAL", "$.identity.identifier", "o'brien \\ \"☃\" %_")], 50).await.unwrap();
    for regex in ["(unclosed", "*", "[z-a]", "(?P<n>a)(?P<n>b)"] {
        let id = add_segment(&stage, &[("REGEX", "plan", regex)], 1).await.unwrap();
        stage.unsupported.insert(id);
    }
    let truth = stage.assert_exact().await.unwrap();
    let last = truth
        .iter()
        .filter(|((segment, _), _)| *segment > i64::from(*stage.world.segments.keys().next_back().unwrap()));
    let found: Vec<i64> = last.flat_map(|(_, members)| members.iter().copied()).collect();
    for id in [21, 23, 25] {
        assert!(found.contains(&id), "{id} is in none of the new segments: they show nothing");
    }

    let counts = stage.ask(&["counts"]).await.unwrap();
    let reason = counts.iter().find(|line| {
        line["state"] == "unsupported"
            && line["reason"].as_str().is_some_and(|reason| {
                reason.contains("REGEX on 'plan'") && reason.contains("unterminated subpattern")
            })
    });
    assert!(reason.is_some(), "the reason names condition and fault: {counts:#?}");
    // Mended, it is judged.
    let broken = *stage.unsupported.iter().next_back().unwrap();
    let regex = "regexp_replace(rules_data::text, '[(][?].*[)]', 'growth')::jsonb";
    stage
        .sql(&format!("UPDATE segments_segment SET rules_data = {regex} WHERE id = {broken}"))
        .await
        .unwrap();
    stage.unsupported.remove(&broken);
    let truth = stage.assert_exact().await.unwrap();
    assert!(truth.keys().any(|(segment, _)| *segment == broken), "the mended segment has members");
}

/// A segment of project 1 and its rules, as the platform writes them: `depth` rules around the conditions.
async fn add_segment(stage: &Stage, conditions: &[(&str, &str, &str)], depth: usize) -> Result<i64, Failure> {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(operator, property, value)| {
            serde_json::json!({"operator": operator, "property": property, "value": value, "description": null})
        })
        .collect();
    let mut rule = serde_json::json!({"type": "ALL", "conditions": conditions, "rules": []});
    for _ in 1..depth {
        rule = serde_json::json!({"type": "ALL", "conditions": [], "rules": [rule]});
    }
    stage.add_segment("odd", &serde_json::json!([rule]).to_string()).await
}
