//! `rollcall preview`: what it says of a draft is what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_e2e::Failure;
use rollcall_kit::flagsmith::Rule;
use serde_json::{Value, json};

use crate::stage::Stage;

/// A draft of rules that are in the catalog already matches exactly the members, and nobody enters or leaves: for every
/// segment and environment, counted by ClickHouse or decided one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_equal_to_a_segment_matches_its_members() {
    let mut stage = Stage::running(21).await.unwrap();
    let truth = stage.assert_exact().await.unwrap();
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    // What stands in the catalog without rules is of a shape that no draft has.
    for (id, segment) in stage.world.segments.iter().filter(|(_, segment)| !segment.rules.is_empty()) {
        let draft = json!({"key": id.to_string(), "name": "draft", "rules": rules_json(&segment.rules)});
        for environment in stage.world.environments.iter().filter(|e| e.project == segment.project) {
            let pair = (i64::from(*id), i64::from(environment.id));
            let members = truth.get(&pair).cloned().unwrap_or_default();
            let (name, place) = (id.to_string(), environment.id.to_string());
            let (code, alone) =
                preview(&stage, &draft, &["--environment", &place, "--limit", "7"]).await.unwrap();
            *classes.entry(alone.class()).or_default() += 1;
            if stage.unsupported.contains(&pair.0) {
                assert_eq!((code, alone.class().as_str()), (1, "unsupported"), "{pair:?}");
                assert!(alone.head["matching"].is_null() && alone.ids.is_empty(), "{:#}", alone.head);
                continue;
            }
            assert_eq!(code, 0, "{pair:?}: {:#}", alone.head);
            assert_eq!(alone.head["matching"], members.len(), "{pair:?}: {:#}", alone.head);
            assert_eq!(alone.ids, members, "{pair:?}: {:#}", alone.head);
            // By api key, and with another key in the file: the segment's own is hashed.
            let place = ["--environment", environment.api_key.as_str(), "--segment", &name];
            let draft = json!({"key": "another", "rules": draft["rules"]});
            let (_, beside) = preview(&stage, &draft, &place).await.unwrap();
            assert_eq!(beside.moves(), (0, 0, members.len() as u64), "{pair:?}: {:#}", beside.head);
            assert!(beside.enter.is_empty() && beside.leave.is_empty(), "{pair:?}: {:#}", beside.head);
            assert_eq!(
                (&beside.head["key"], &beside.head["segment"]["state"]),
                (&json!(name), &json!("live"))
            );
        }
    }
    assert!(classes.get("unsupported").is_some_and(|n| *n > 0) && classes.len() > 1, "{classes:?}");
}

/// What an edited draft is said to change is what changes when it is saved, by members, changes and the reference;
/// both for rules that SQL can say and for those that it can't.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_moves_those_that_its_preview_named() {
    let mut stage = Stage::running(22).await.unwrap();
    let mut before = stage.assert_exact().await.unwrap();
    let judged = stage.world.segments.iter().filter(|(id, _)| !stage.unsupported.contains(&i64::from(**id)));
    let own: Vec<_> = judged
        .filter(|(_, segment)| segment.project == 1)
        .map(|(id, segment)| (*id, segment.rules.clone()))
        .collect();
    let (id, rules) =
        own.iter().max_by_key(|(id, _)| before.get(&(i64::from(*id), 1)).map(BTreeSet::len)).unwrap();
    let (id, rules) = (i64::from(*id), rules_json(rules));
    let plain = json!([{"type": "ALL", "conditions": [
        {"operator": "IS_SET", "property": "plan", "value": ""},
        {"operator": "PERCENTAGE_SPLIT", "property": null, "value": 60},
    ], "rules": []}]);
    let edits = [
        (json!([{"type": "NONE", "conditions": [], "rules": rules}]), None),
        (plain, Some("exact")),
        // ClickHouse's regular expressions have no references to groups.
        (
            json!([{"type": "ANY", "conditions": [
                {"operator": "REGEX", "property": "$.identity.identifier", "value": "(u)ser-(?:\\1|).*[159]$"},
            ]}]),
            Some("superset"),
        ),
        (rules.clone(), None),
    ];
    let mut moved = 0;
    for (edit, class) in edits {
        let mut said = Vec::new();
        for environment in [1_i64, 3] {
            let (name, place) = (id.to_string(), environment.to_string());
            let place = ["--environment", place.as_str(), "--segment", &name, "--limit", "6"];
            let (code, found) = preview(&stage, &edit, &place).await.unwrap();
            assert_eq!(code, 0, "{:#}", found.head);
            assert!(class.is_none_or(|class| found.class() == class), "{:#}", found.head);
            for (only, ids) in [("enter", &found.enter), ("leave", &found.leave)] {
                let arguments: Vec<_> = place.iter().copied().chain(["--only", only]).collect();
                let (_, alone) = preview(&stage, &edit, &arguments).await.unwrap();
                assert_eq!(&alone.ids, ids, "--only {only}");
            }
            let path = stage.worker.folder().join("draft.json").display().to_string();
            let line: Vec<_> = ["preview", "--rule", &path].into_iter().chain(place).collect();
            let (_, shown, _) = stage.worker.say(&line).await.unwrap();
            let (enter, leave, stay) = found.moves();
            let counted = format!("{enter} would enter, {leave} would leave, {stay} would stay");
            assert!(shown.contains(&counted) && shown.contains("as of 20"), "{shown}");
            assert_eq!(shown.contains("more: --cursor '"), enter + leave > 6, "{shown}");
            said.push((environment, found));
        }
        let seen = stage.ask(&["topic", "tail", "membership-changes"]).await.unwrap().len();
        save(&stage, id, &edit).await.unwrap();
        let after = stage.assert_exact().await.unwrap();
        let changes = stage.ask(&["topic", "tail", "membership-changes"]).await.unwrap();
        // Partitions are read one after the other: what is new is told by its event.
        assert!(changes.len() >= seen);
        for (environment, found) in said {
            let members =
                |of: &crate::stage::Members| of.get(&(id, environment)).cloned().unwrap_or_default();
            let (old, new) = (members(&before), members(&after));
            let (entered, left): (BTreeSet<_>, BTreeSet<_>) =
                (new.difference(&old).copied().collect(), old.difference(&new).copied().collect());
            assert_eq!(found.enter, entered, "{:#}", found.head);
            assert_eq!(found.leave, left, "{:#}", found.head);
            let staying = old.intersection(&new).count() as u64;
            assert_eq!(found.moves(), (entered.len() as u64, left.len() as u64, staying), "{:#}", found.head);
            assert_eq!(found.head["matching"], new.len());
            moved += entered.len() + left.len();
            // The last event of each identity about this segment agrees.
            let last = last_moves(&changes, id, environment);
            for (ids, what) in [(&entered, "entered"), (&left, "left")] {
                let wrong: Vec<_> =
                    ids.iter().filter(|id| last.get(id).map(String::as_str) != Some(what)).collect();
                assert!(wrong.is_empty(), "membership-changes don't say {what} of {wrong:?}");
            }
        }
        before = after;
    }
    assert!(moved > 50, "the edits move {moved}: they show little");
}

/// Wrong drafts, places and stores: each is named, with what to do, and no number is shown that means nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_previewed_says_why() {
    let mut stage = Stage::running(23).await.unwrap();
    stage.assert_exact().await.unwrap();
    let file = stage.worker.folder().join("draft.json");
    let path = file.display().to_string();
    let everybody = r#"[{"type": "ALL", "conditions": []}]"#;
    let of_project_2 =
        stage.world.segments.iter().find(|(_, segment)| segment.project == 2).unwrap().0.to_string();
    for (text, arguments, code, words) in [
        (
            "{\"rules\": [\n  {\"type\": \"ALL\",}]}",
            vec!["--environment", "1"],
            2,
            "draft.json: line 2, column 18: trailing comma",
        ),
        ("{\"name\": \"x\"}", vec!["--environment", "1"], 2, "missing field `rules`"),
        (
            r#"[{"type":"ALL","conditions":[{"operator":"IN","value":{}}]}]"#,
            vec!["--environment", "1"],
            2,
            "draft.json: rules[0].conditions[0].value is an object",
        ),
        (everybody, vec!["--environment", "nowhere"], 1, "there is no environment 'nowhere'"),
        (everybody, vec!["--environment", "1", "--segment", "9999"], 1, "there is no segment '9999'"),
        (
            everybody,
            vec!["--environment", "1", "--segment", &of_project_2],
            1,
            "is of project 2, environment 1 of project 1",
        ),
        (everybody, vec!["--environment", "1", "--only", "enter"], 2, "--segment"),
        (everybody, vec!["--environment", "1", "--limit", "1001"], 2, "1001"),
    ] {
        std::fs::write(&file, text).unwrap();
        let arguments: Vec<_> = ["preview", "--rule", &path].into_iter().chain(arguments).collect();
        let (exit, shown, said) = stage.worker.say(&arguments).await.unwrap();
        assert!(exit == code && said.contains(words) && shown.is_empty(), "{exit} {shown}{said}");
    }
    let (exit, _, said) = stage.worker.say(&["preview", "--rule", "-", "--environment", "1"]).await.unwrap();
    assert!(exit == 2 && said.contains("the standard input: line 1"), "{exit} {said}");
    let arguments = ["preview", "--rule", "no such file", "--environment", "1"];
    let (exit, _, said) = stage.worker.say(&arguments).await.unwrap();
    assert!(exit == 2 && said.contains("can't read the draft from no such file"), "{exit} {said}");

    let here = ["--environment", "1"];
    let draft =
        json!([{"type": "ALL", "conditions": [{"operator": "REGEX", "property": "plan", "value": "*"}]}]);
    let (code, found) = preview(&stage, &draft, &here).await.unwrap();
    assert_eq!((code, found.class().as_str()), (1, "unsupported"));
    assert!(found.head["reason"].as_str().unwrap().contains("REGEX on 'plan'"), "{:#}", found.head);
    assert!(found.head["matching"].is_null() && found.ids.is_empty(), "{:#}", found.head);

    // Half of everybody, whoever they are: without a key the share is right, and that is said.
    let draft = json!([{"type": "ALL", "conditions": [{"operator": "PERCENTAGE_SPLIT", "property": "", "value": "50"}]}]);
    let (_, found) = preview(&stage, &draft, &here).await.unwrap();
    assert!(found.notes().contains("with the key 'draft'"), "{:#}", found.head);
    let (_, found) = preview(&stage, &json!({"id": 12, "rules": draft}), &here).await.unwrap();
    assert!(found.notes().contains("with the key '12': the draft's"), "{:#}", found.head);

    raising(&stage).await.unwrap();

    stage.ask(&["pause", "sink/clickhouse"]).await.unwrap();
    let everybody = json!([{"type": "ALL"}]);
    let (_, found) = preview(&stage, &everybody, &here).await.unwrap();
    assert!(found.notes().contains("sink/clickhouse is not running"), "{:#}", found.head);
    stage.ask(&["resume", "sink/clickhouse"]).await.unwrap();
    stage.until("sink/clickhouse", "running").await.unwrap();

    let config = stage.worker.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("organisations: { }", "organisations: { 1: off }")).unwrap();
    stage.ask(&["apply"]).await.unwrap();
    stage.gated.insert(1);
    stage.assert_exact().await.unwrap();
    let (code, found) = preview(&stage, &everybody, &here).await.unwrap();
    assert!(found.notes().contains("the gate of organisation 1 is off"), "{:#}", found.head);
    assert_eq!((code, &found.head["matching"]), (0, &json!(50)), "images flow on: {:#}", found.head);
}

/// A regular expression that takes more steps than allowed on one identity: the others are counted, and it is named.
async fn raising(stage: &Stage) -> Result<(), Failure> {
    stage
        .sql(&format!(
            "INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id) VALUES \
             ('slow', 'unicode', '{}!', now(), 1), ('slow', 'unicode', 'aa', now(), 5)",
            "a".repeat(60)
        ))
        .await?;
    stage.settle().await?;
    let (code, _) = stage.worker.ask(&["verify"]).await?;
    assert_eq!(code, 0);
    let draft = json!([{"type": "ALL", "conditions": [
        {"operator": "REGEX", "property": "slow", "value": "(a)(?:\\1|a|a)*$"},
    ]}]);
    let (code, found) = preview(stage, &draft, &["--environment", "1"]).await?;
    let raised = &found.head["raised"];
    assert_eq!(code, 1, "{:#}", found.head);
    assert_eq!(
        (&raised["identities"], &raised["identifier"]),
        (&json!(1), &json!("user-1")),
        "{:#}",
        found.head
    );
    assert_eq!((&found.head["matching"], &found.ids), (&json!(1), &BTreeSet::from([5])), "{:#}", found.head);
    let (_, shown, _) = stage
        .worker
        .say(&[
            "preview",
            "--environment",
            "1",
            "--rule",
            &stage.worker.folder().join("draft.json").display().to_string(),
        ])
        .await?;
    assert!(shown.contains("raises on 1 of them, for example on user-1 (1)"), "{shown}");
    Ok(())
}

/// What `rollcall preview` said, all pages of it.
struct Found {
    head: Value,
    ids: BTreeSet<i64>,
    enter: BTreeSet<i64>,
    leave: BTreeSet<i64>,
}

impl Found {
    fn class(&self) -> String {
        self.head["class"].as_str().unwrap_or_default().to_owned()
    }
    fn moves(&self) -> (u64, u64, u64) {
        let number = |name: &str| self.head[name].as_u64().unwrap();
        (number("entering"), number("leaving"), number("staying"))
    }
    fn notes(&self) -> String {
        self.head["notes"].to_string()
    }
}

/// Previews a draft, page by page, and the exit code of the first page.
async fn preview(stage: &Stage, draft: &Value, arguments: &[&str]) -> Result<(i32, Found), Failure> {
    let file = stage.worker.folder().join("draft.json");
    std::fs::write(&file, serde_json::to_string_pretty(draft)?)?;
    let path = file.display().to_string();
    let mut first: Option<(i32, Found)> = None;
    let mut cursor: Option<String> = None;
    loop {
        let mut line = vec!["preview", "--rule", &path];
        line.extend(arguments);
        line.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let (code, lines) = stage.worker.ask(&line).await?;
        let kind = |name: &'static str| lines.iter().filter(move |line| line["kind"] == name);
        let head = kind("preview").next().cloned().ok_or_else(|| format!("no answer: {lines:#?}"))?;
        let (_, found) = first.get_or_insert_with(|| {
            (
                code,
                Found {
                    head: head.clone(),
                    ids: BTreeSet::new(),
                    enter: BTreeSet::new(),
                    leave: BTreeSet::new(),
                },
            )
        });
        assert_eq!(cursor.is_some(), head["matching"].is_null() && head["class"] != "unsupported");
        for identity in kind("identity") {
            let id: i64 = identity["id"].as_str().ok_or("no id")?.parse()?;
            assert_eq!(identity["identifier"], format!("user-{id}"));
            assert!(found.ids.insert(id), "{id} is listed twice");
            match identity["change"].as_str() {
                Some("enter") => assert!(found.enter.insert(id)),
                Some("leave") => assert!(found.leave.insert(id)),
                other => assert_eq!(other, None),
            }
        }
        cursor = kind("more").next().and_then(|line| line["cursor"].as_str()).map(str::to_owned);
        if cursor.is_none() {
            return first.ok_or_else(|| "no answer".into());
        }
    }
}

/// Rules as the platform's API gives them.
fn rules_json(rules: &[Rule]) -> Value {
    let rules = rules.iter().map(|rule| {
        let conditions: Vec<_> = rule
            .conditions
            .iter()
            .map(|c| json!({"operator": c.operator, "property": c.property, "value": c.value, "description": null}))
            .collect();
        json!({"type": rule.rule_type, "conditions": conditions, "rules": rules_json(&rule.rules)})
    });
    rules.collect()
}

async fn save(stage: &Stage, segment: i64, rules: &Value) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE segments_segment SET rules_data = $rules${rules}$rules$, version = version + 1 WHERE id = {segment}"
    );
    stage.sql(&sql).await
}

/// By identity, whether the last event about a segment says `entered` or `left`.
fn last_moves(changes: &[Value], segment: i64, environment: i64) -> BTreeMap<i64, String> {
    let mut last: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    let (segment, environment) = (json!(segment.to_string()), json!(environment.to_string()));
    for change in changes.iter().map(|record| &record["value"]).filter(|c| c["environment_id"] == environment)
    {
        let (Some(id), Some(version)) = (change["id"].as_i64(), change["version"].as_i64()) else { continue };
        for what in ["entered", "left"] {
            let is_about = change[what].as_array().is_some_and(|ids| ids.contains(&segment));
            if is_about && last.get(&id).is_none_or(|(known, _)| *known < version) {
                last.insert(id, (version, what.to_owned()));
            }
        }
    }
    last.into_iter().map(|(id, (_, what))| (id, what)).collect()
}
