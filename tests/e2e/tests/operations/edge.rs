//! A source of type dynamodb as operators meet it.

use std::collections::BTreeSet;

use rollcall_e2e::edge::key_of;
use rollcall_e2e::{Failure, TABLE, Table, Worker};
use rollcall_kit::Proxy;
use rollcall_model::Attribute;
use rollcall_test_servers::Ministack;
use serde_json::Value;

use crate::edge_stage::{EdgeStage, ITEMS, emulator};
use crate::stage::start;

/// Status, plans, members with their records, explain and verify, of both sources.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_show_what_lives_at_the_edge() {
    let dynamodb = emulator();
    let mut stage = EdgeStage::running(61, Table::new(&dynamodb.url())).await.unwrap();
    stage.churn(60).await.unwrap();
    let truth = stage.assert_exact().await.unwrap();

    let status = stage.ask(&["status"]).await.unwrap();
    let mut tasks: Vec<_> = status.iter().filter_map(|line| line["task"].as_str()).collect();
    tasks.sort_unstable();
    let sources = ["source/core", "source/edge", "source/edge/0", "source/edge/1"];
    assert_eq!(tasks[tasks.len() - 4..], sources, "{tasks:?}");
    let owner = stage.until("source/edge", "running").await.unwrap();
    assert!(owner["position"].as_str().is_some_and(|position| position.contains("stream")), "{owner:#}");

    let plan = stage.ask(&["backfill", "edge", "--plan"]).await.unwrap().remove(0);
    assert!(plan["items"].as_u64().is_some() && plan["read_units"].as_f64().is_some(), "{plan:#}");

    let at_edge = truth.iter().filter(|((_, environment), _)| *environment == 2);
    let ((segment, _), members) = at_edge.max_by_key(|(_, members)| members.len()).unwrap();
    let segment = segment.to_string();
    let listed = ["members", "--segment", &segment, "--environment", "2", "--limit", "1000"];
    let lines = stage.ask(&[&listed[..], &["--enrich"]].concat()).await.unwrap();
    let ids: BTreeSet<String> =
        lines.iter().filter_map(|line| line["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids, *members);
    let first = lines.first().unwrap();
    let item = stage.item(first["id"].as_str().unwrap()).await.unwrap();
    assert_eq!(first["item"], serde_json::to_value(item).unwrap(), "the record as it stands in the table");

    for item in stage.table.items().await.unwrap().iter().filter(|item| is_at_home(item)).take(12) {
        let Some(Attribute::S(identifier)) = item.get("identifier") else { panic!("{item:?}") };
        let asked = ["explain", "--segment", &segment, "--environment", "2", "--identity", identifier];
        let answer = stage.ask(&asked).await.unwrap().remove(0);
        let member = members.contains(&key_of(item));
        assert_eq!(
            (&answer["member"], &answer["judged"]["verdict"]),
            (&member.into(), &member.into()),
            "{answer:#}"
        );
    }
    // Of those in Postgres there is no item to add.
    let ((segment, environment), _) =
        truth.iter().find(|((_, environment), _)| environment % 2 == 1).unwrap();
    let (segment, environment) = (segment.to_string(), environment.to_string());
    let asked = ["members", "--segment", &segment, "--environment", &environment, "--enrich"];
    let (code, _, said) = stage.worker.say(&asked).await.unwrap();
    assert_ne!(code, 0);
    assert!(said.contains("source 'core'") && said.contains("rollcall explain"), "{said}");
}

fn is_at_home(item: &rollcall_model::Item) -> bool {
    item.get("environment_api_key") == Some(&Attribute::S("env-key-2".to_owned()))
}

/// A backfill that stands still outlives the worker, and goes on where it was. One of an environment is a part of the
/// table, and deletes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_is_paused_and_goes_on() {
    // It takes as long as the slack at least: time to pause it.
    let dynamodb = emulator();
    let mut stage = EdgeStage::set(62, Table::new(&dynamodb.url()), "scan_segments: 2").await.unwrap();
    let config = std::fs::read_to_string(stage.worker.config()).unwrap();
    std::fs::write(stage.worker.config(), config.replace("clock_slack_ms: 1000", "clock_slack_ms: 6000"))
        .unwrap();
    start(&mut stage.worker).await.unwrap();
    stage.assert_exact().await.unwrap();

    let started = stage.ask(&["backfill", "edge", "--detach"]).await.unwrap().remove(0);
    stage.ask(&["pause", "backfill/edge"]).await.unwrap();
    let edge = stage.edge().await.unwrap();
    assert_eq!((&edge["backfill"]["id"], &edge["backfill"]["state"]), (&started["id"], &"paused".into()));
    let (code, _, said) = stage.worker.say(&["backfill", "edge"]).await.unwrap();
    assert!(code == 1 && said.contains("still under way"), "{said}");
    stage.churn(40).await.unwrap();
    stage.worker.kill9().await.unwrap();
    start(&mut stage.worker).await.unwrap();
    stage.until("source/edge", "running").await.unwrap();
    assert_eq!(stage.edge().await.unwrap()["backfill"]["state"], "paused");
    stage.ask(&["resume", "backfill/edge"]).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert_eq!(stage.edge().await.unwrap()["backfill_done"], started["id"]);

    stage.ask(&["backfill", "edge", "--environment", "env-key-2"]).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// An item that can't be read waits in quarantine and parks its identity; a good one frees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_item_is_parked_until_a_good_one_comes() {
    let dynamodb = emulator();
    let mut stage = EdgeStage::running(63, Table::new(&dynamodb.url())).await.unwrap();
    let items = stage.table.items().await.unwrap();
    let good = items.iter().find(|item| is_at_home(item)).unwrap().clone();
    let key = key_of(&good);
    let mut bad = good.clone();
    bad.remove("identifier");
    stage.table.put(&bad).await.unwrap();
    stage.assert_exact_but_parked(&key).await.unwrap();
    let waiting = stage.ask(&["quarantine", "list"]).await.unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    assert_eq!(waiting[0]["key"], format!("edge/{key}"));
    assert!(waiting[0]["reason"].as_str().unwrap().contains("identifier"), "{waiting:#?}");

    stage.table.put(&good).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert_eq!(stage.ask(&["quarantine", "list"]).await.unwrap(), Vec::<Value>::new());
}

impl EdgeStage {
    /// The others go on; this one is named as parked.
    async fn assert_exact_but_parked(&mut self, key: &str) -> Result<(), Failure> {
        self.settle().await?;
        let lines = self.ask(&["verify"]).await?;
        let parked: Vec<_> = lines.iter().filter(|line| line["kind"] == "parked").collect();
        assert_eq!(parked.len(), 1, "{lines:#?}");
        assert_eq!(parked[0]["key"], format!("edge/{key}"));
        Ok(())
    }
}

/// A table without a stream, and a number of readers that is not the one that the stream began with: told with what
/// repairs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_stream_from_being_read_is_told_with_its_repair() {
    let dynamodb = emulator();
    let mut stage = EdgeStage::set(64, Table::new(&dynamodb.url()), "").await.unwrap();
    stream(&dynamodb, false);
    start(&mut stage.worker).await.unwrap();
    let told = stage.until("source/edge", "failed").await.unwrap();
    tells(&told, "stream", "aws dynamodb update-table");
    tells(&told, TABLE, "NEW_AND_OLD_IMAGES");
    stream(&dynamodb, true);
    stage.ask(&["resume", "source/edge"]).await.unwrap();
    stage.assert_exact().await.unwrap();

    stage.worker.terminate().await.unwrap();
    let config = std::fs::read_to_string(stage.worker.config()).unwrap();
    let changed = config.replace("readers: 2", "readers: 3");
    std::fs::write(stage.worker.config(), changed).unwrap();
    let refusal = refusal_of(&mut stage.worker).await.unwrap();
    assert!(refusal.contains("readers"), "{refusal}");
    std::fs::write(stage.worker.config(), config).unwrap();
    start(&mut stage.worker).await.unwrap();
    stage.churn(20).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// Switches the table's stream on or off.
fn stream(dynamodb: &Ministack, on: bool) {
    let specification = if on {
        r#"{"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"}"#
    } else {
        r#"{"StreamEnabled": false}"#
    };
    let body = format!(r#"{{"TableName": "{TABLE}", "StreamSpecification": {specification}}}"#);
    drop(dynamodb.request("UpdateTable", &body));
}

/// What a worker says that refuses its topology: as it ends, or as the task that it concerns fails.
async fn refusal_of(worker: &mut Worker) -> Result<String, Failure> {
    worker.start(None)?;
    loop {
        if worker.ended()?.is_some() {
            return Ok(worker.log_tail());
        }
        if let Ok(status) = worker.get("status").await {
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            if let Some(failed) = tasks.iter().find(|task| task["state"] == "failed") {
                let said = failed["error"].to_string();
                worker.terminate().await?;
                return Ok(said);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// DynamoDB is away for a while and comes back: what was written meanwhile arrives, and core never waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_dynamodb_is_waited_for() {
    let dynamodb = emulator();
    let proxy = Proxy::listen();
    proxy.forward_to(address(&dynamodb.url()));
    let way = format!("http://{}", proxy.address());
    let table = Table::new(&dynamodb.url());
    let mut stage = EdgeStage::set_behind(65, table, &way, "").await.unwrap();
    start(&mut stage.worker).await.unwrap();
    stage.assert_exact().await.unwrap();
    for fault in [Proxy::drop_all, Proxy::reset] {
        fault(&proxy);
        stage.churn(20).await.unwrap();
        stage.sql("DELETE FROM environments_trait WHERE identity_id % 7 = 0").await.unwrap();
        stage.until_core_as_of(stage.now_us().await.unwrap()).await.unwrap();
        proxy.pass();
        stage.churn(20).await.unwrap();
        let members = stage.assert_exact().await.unwrap();
        assert!(members.values().map(BTreeSet::len).sum::<usize>() > ITEMS / 10);
    }
}

fn address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address")
}

pub(crate) fn tells(task: &Value, what: &str, repair: &str) {
    let text = |name: &str| task[name].as_str().unwrap_or_default();
    assert!(text("error").contains(what), "the cause is not named: {task:#}");
    assert!(text("repair").contains(repair), "the repair is not named: {task:#}");
}
