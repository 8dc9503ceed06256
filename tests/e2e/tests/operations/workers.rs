//! Several workers on one Kafka: what an operator asks of one is done by whichever runs it, what dies is taken over, and
//! what isn't ours is kept out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall_e2e::{Failure, Worker};
use rollcall_kit::Proxy;
use rollcall_test_servers::{Kafka, KafkaSettings};
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{Stage, start, topology, until};

const SESSION: Duration = Duration::from_secs(3);
const TASKS: [&str; 5] = ["roster/0", "roster/1", "sink/clickhouse", "sink/counts", "source/core"];

fn log(kafka: &Kafka) -> String {
    log_at(&kafka.brokers())
}

fn log_at(brokers: &str) -> String {
    format!(
        "{{ type: kafka, brokers: \"{brokers}\", partitions: 2, replication_factor: 1, min_insync_replicas: 1, \
         session_timeout_ms: {} }}",
        SESSION.as_millis()
    )
}

/// A stage with several workers: the stage's own is the one that is asked.
struct Shared {
    stage: Stage,
    others: Vec<Worker>,
    kafka: Kafka,
}

impl Shared {
    async fn running(seed: u64, workers: usize) -> Result<Self, Failure> {
        let kafka = Kafka::start();
        let mut stage = Stage::set_on(seed, &log(&kafka)).await?;
        let own = std::mem::replace(&mut stage.worker, Worker::new("rollcall: 1\n")?);
        stage.worker = own.named("w0");
        let text = topology(&log(&kafka), &stage.postgres, &stage.clickhouse);
        let mut others = Vec::new();
        for number in 1..workers {
            others.push(Worker::new(&text)?.named(&format!("w{number}")));
        }
        stage.worker.start(None)?;
        for worker in &mut others {
            start(worker).await?;
        }
        let mut shared = Self { stage, others, kafka };
        shared.stage.worker.wait_until_ready().await?;
        shared.until_shared(workers).await?;
        shared.stage.live().await?;
        shared.stage.settle().await?;
        Ok(shared)
    }

    /// Which worker runs what, as the asked one sees it.
    async fn runners(&self) -> Result<BTreeMap<String, String>, Failure> {
        let status = self.stage.worker.get("status").await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let running = tasks.iter().filter(|task| task["state"] == "running");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let shared = running.filter(|task| TASKS.contains(&task["task"].as_str().unwrap_or_default()));
        Ok(shared.map(|task| (text(&task["task"]), text(&task["worker"]))).collect())
    }

    /// Waits until every task runs, and in so many workers.
    async fn until_shared(&mut self, workers: usize) -> Result<BTreeMap<String, String>, Failure> {
        let began = Instant::now();
        loop {
            let runners = self.runners().await?;
            let used: BTreeSet<_> = runners.values().collect();
            if runners.len() == TASKS.len() && used.len() == workers {
                return Ok(runners);
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{runners:?}, not {workers} workers:\n{}",
                self.stage.worker.log_tail()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// One dies: the others run its tasks soon after its session is over. One comes: work moves to it. Stopped in order, the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dies_is_taken_over_and_who_comes_gets_work() {
    let mut shared = Shared::running(41, 3).await.unwrap();
    shared.stage.churn(60).await.unwrap();
    shared.others[1].kill9().await.unwrap();
    let died = Instant::now();
    shared.until_shared(2).await.unwrap();
    println!(
        "taken over after {} ms, a session lasts {} ms",
        died.elapsed().as_millis(),
        SESSION.as_millis()
    );
    shared.stage.churn(60).await.unwrap();
    shared.stage.assert_exact().await.unwrap();

    start(&mut shared.others[1]).await.unwrap();
    shared.until_shared(3).await.unwrap();
    shared.stage.churn(60).await.unwrap();
    let code = shared.others[0].terminate().await.unwrap().code();
    assert_eq!(code, Some(0), "{}", shared.others[0].log_tail());
    shared.until_shared(2).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
}

/// A worker whose disk is lost fills its stores from the topics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_restored_from_the_topics() {
    let mut shared = Shared::running(42, 1).await.unwrap();
    shared.stage.churn(60).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
    shared.stage.worker.kill9().await.unwrap();
    std::fs::remove_dir_all(shared.stage.worker.folder().join("data")).unwrap();
    shared.stage.churn(60).await.unwrap();
    shared.stage.start().await.unwrap();
    let roster = until(&shared.stage.worker, "roster/0", "running").await.unwrap();
    assert!(roster["restored_records"].as_u64().is_some_and(|records| records > 0), "{roster:#}");
    shared.stage.assert_exact().await.unwrap();
}

/// What is asked of one worker is done by the one that runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_find_the_worker() {
    let mut shared = Shared::running(43, 3).await.unwrap();
    let runners = shared.until_shared(3).await.unwrap();
    // Whatever runs where: each of these runs in another worker than the asked one at least for some.
    assert!(TASKS.iter().any(|task| runners[*task] != "w0"), "{runners:?}");
    for task in TASKS {
        shared.stage.ask(&["pause", task]).await.unwrap();
        shared.stage.until(task, "paused").await.unwrap();
        shared.stage.ask(&["resume", task]).await.unwrap();
        shared.stage.until(task, "running").await.unwrap();
    }
    // A pause is remembered wherever the task goes.
    shared.stage.ask(&["pause", "sink/counts"]).await.unwrap();
    let runner = shared.stage.until("sink/counts", "paused").await.unwrap()["worker"].clone();
    for worker in shared.others.iter_mut().filter(|_| runner != "w0") {
        worker.kill9().await.unwrap();
    }
    if runner != "w0" {
        let began = Instant::now();
        while shared.stage.task("sink/counts").await.unwrap()["worker"] != "w0" {
            assert!(began.elapsed() < Duration::from_secs(60), "nobody took the paused task over");
            sleep(Duration::from_millis(100)).await;
        }
        shared.stage.until("sink/counts", "paused").await.unwrap();
        for worker in &mut shared.others {
            start(worker).await.unwrap();
        }
    }
    shared.stage.ask(&["resume", "sink/counts"]).await.unwrap();
    shared.stage.until("sink/counts", "running").await.unwrap();

    // Identities of every partition, by identifier and by id.
    let ids = shared
        .stage
        .number("SELECT min(id) FROM environments_identity WHERE environment_id = 1")
        .await
        .unwrap();
    for id in ids..ids + 4 {
        let identity = id.to_string();
        let arguments = ["explain", "--segment", "1", "--environment", "1", "--identity", &identity];
        let there = shared
            .stage
            .number(&format!(
                "SELECT count(*) FROM environments_identity WHERE id = {id} AND environment_id = 1"
            ))
            .await
            .unwrap();
        let expected = i32::from(there == 0);
        let began = Instant::now();
        loop {
            let (code, _, said) = shared.stage.worker.say(&arguments).await.unwrap();
            if code == expected {
                break;
            }
            // The workers that came back are given tasks: in between, some run nowhere.
            assert!(began.elapsed() < Duration::from_secs(60), "{id}: {code}, not {expected}: {said}");
            sleep(Duration::from_millis(200)).await;
        }
    }
    shared.stage.ask(&["backfill", "core"]).await.unwrap();
    shared.stage.ask(&["rebuild", "counts"]).await.unwrap();
    shared.stage.churn(30).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
    let (code, _, said) = shared.stage.worker.say(&["pause", "roster/7"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("roster/7") && said.contains("sink/clickhouse"), "{said}");
}

/// Brokers that are not there yet are waited for; a minute and more without them costs nothing. Here the way to them is
/// closed: of an only broker that dies, Kafka 4.3 may forget a commit (docs/runbook.md, "A commit that never ends").
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_are_waited_for() {
    let way = Proxy::listen();
    let ports = vec![way.address().port()];
    let kafka = Kafka::start_with(KafkaSettings { proxied_listeners: ports, ..KafkaSettings::default() });
    way.forward_to(kafka.proxied(0));
    way.reset();
    let mut stage = Stage::set_on(44, &log_at(&way.address().to_string())).await.unwrap();
    stage.worker.start(None).unwrap();
    let began = Instant::now();
    while !stage.worker.log_tail().contains("start Kafka, or set log.brokers") {
        assert!(stage.worker.ended().unwrap().is_none(), "{}", stage.worker.log_tail());
        assert!(began.elapsed() < Duration::from_secs(60), "{}", stage.worker.log_tail());
        sleep(Duration::from_millis(200)).await;
    }
    way.pass();
    stage.worker.wait_until_ready().await.unwrap();
    stage.live().await.unwrap();
    stage.churn(40).await.unwrap();
    way.reset();
    stage.churn(40).await.unwrap();
    // Longer than a transaction, a session and every patience.
    sleep(Duration::from_secs(40)).await;
    assert_eq!(stage.worker.http_status("healthz").await.unwrap(), 200);
    assert!(stage.worker.ended().unwrap().is_none(), "{}", stage.worker.log_tail());
    way.pass();
    stage.churn(20).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// Another installation under the same prefix, and a second worker with the same id, are refused; the first is none the
/// worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_installation_and_a_second_of_the_same_id_are_refused() {
    let mut shared = Shared::running(45, 1).await.unwrap();
    let other = Stage::set_on(46, &log(&shared.kafka)).await.unwrap();
    let (code, _, said) = other.worker.say(&["run", "--worker-id", "other"]).await.unwrap();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("sinks.counts") && said.contains("log.prefix"), "{said}");
    let fewer = log(&shared.kafka).replace("partitions: 2", "partitions: 3");
    let text = topology(&fewer, &shared.stage.postgres, &shared.stage.clickhouse);
    let (code, _, said) = Worker::new(&text).unwrap().say(&["run", "--worker-id", "other"]).await.unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("log.partitions") && said.contains("repair"), "{said}");
    shared.stage.churn(30).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
}

/// What somebody else writes into our topics goes to quarantine where it would be taken, and is passed over elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_records_change_nothing() {
    let mut shared = Shared::running(47, 1).await.unwrap();
    let stolen = shared.stage.ask(&["topic", "tail", "memberships", "--limit", "1"]).await.unwrap();
    let stolen = stolen[0]["value"].to_string().replace("\"version\":", "\"version\":9");
    let brokers = shared.kafka.brokers();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
        let garbage = ["{", "\0\u{1}", "null", "{\"no\": \"such\"}", &stolen];
        for topic in [
            "identity-changes",
            "catalog",
            "identities",
            "memberships",
            "membership-changes",
            "segment-counts",
            "progress",
            "checks",
            "quarantine",
            "catalog-rows",
        ] {
            for (n, value) in garbage.iter().enumerate() {
                let (topic, key) = (format!("rollcall.{topic}"), format!("core/{n}"));
                let record = BaseRecord::to(&topic).partition(0).key(&key).payload(*value);
                producer.send(record).unwrap_or_else(|(e, _)| panic!("{e}"));
            }
        }
        producer.flush(Duration::from_secs(10)).expect("written");
    })
    .await
    .unwrap();
    shared.stage.churn(40).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
    let (_, lines) = shared.stage.worker.ask(&["quarantine", "list", "--limit", "1000"]).await.unwrap();
    let of = |origin: &str| {
        let foreign = lines.iter().filter(|line| {
            line["origin"].as_str().is_some_and(|o| o.contains(origin))
                && line["reason"].as_str().is_some_and(|r| r.contains("not written by rollcall"))
        });
        foreign.count()
    };
    assert_eq!((of("roster"), of("sink-clickhouse"), of("sink-counts")), (5, 10, 5), "{lines:#?}");
    // All of it again from the beginning: the stores, the counts, ClickHouse.
    shared.stage.stop().await.unwrap();
    std::fs::remove_dir_all(shared.stage.worker.folder().join("data")).unwrap();
    shared.stage.start().await.unwrap();
    shared.stage.worker.wait_until_ready().await.unwrap();
    shared.stage.ask(&["rebuild", "clickhouse"]).await.unwrap();
    shared.stage.ask(&["rebuild", "counts"]).await.unwrap();
    shared.stage.assert_exact().await.unwrap();
}

/// An installation moves from its folder to Kafka: the slot stays, nothing is read again, nothing happens twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_house_keeps_the_slot_and_loses_nothing() {
    let mut stage = Stage::running(48).await.unwrap();
    stage.churn(80).await.unwrap();
    stage.assert_exact().await.unwrap();
    let (from, kafka) = (stage.worker.folder().join("data"), Kafka::start());
    let from = format!("embedded:{}", from.display());
    let to = format!("kafka:{}/rollcall", kafka.brokers());
    let copy = ["log", "copy", "--from", from.as_str(), "--to", to.as_str()];
    // While it runs it is not moved, and not before everything has been read.
    let (code, _, said) = stage.worker.say(&copy).await.unwrap();
    assert!(code != 0 && said.contains("in use"), "{said}");
    stage.ask(&["pause", "source/core"]).await.unwrap();
    stage.until("source/core", "paused").await.unwrap();
    let before = stage.ask(&["topic", "tail", "membership-changes"]).await.unwrap();
    wait_until_read(&stage).await.unwrap();
    stage.stop().await.unwrap();
    // The platform goes on meanwhile: its slot keeps what is written.
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rollcall'";
    stage.churn(40).await.unwrap();

    let config = stage.worker.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let moved = text.replace("{ type: embedded, path: ./data, partitions: 2 }", &log(&kafka));
    assert_ne!(text, moved);
    std::fs::write(&config, &moved).unwrap();
    let (code, said, errors) = stage.worker.say(&copy).await.unwrap();
    assert_eq!(code, 0, "{said}{errors}");
    let (code, _, said) = stage.worker.say(&copy).await.unwrap();
    assert!(code != 0, "a copy that is done is not made again: {said}");
    let own = std::mem::replace(&mut stage.worker, Worker::new("rollcall: 1\n").unwrap());
    stage.worker = own.named("w0");
    stage.start().await.unwrap();
    stage.worker.wait_until_ready().await.unwrap();
    assert_eq!(stage.number(slot).await.unwrap(), 1);
    stage.ask(&["resume", "source/core"]).await.unwrap();
    stage.until("source/core", "running").await.unwrap();
    stage.churn(40).await.unwrap();
    let members = stage.assert_exact().await.unwrap();
    let (_, backfills) = stage.worker.ask(&["backfill", "core", "--plan"]).await.unwrap();
    assert!(!backfills.is_empty(), "the source answers");
    let after = stage.ask(&["topic", "tail", "membership-changes"]).await.unwrap();
    assert_eq!(
        sum_of(&before, &after),
        members,
        "the old log's changes and the new log's, one after the other"
    );
}

async fn wait_until_read(stage: &Stage) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let status = stage.worker.get("status").await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let behind = tasks.iter().any(|task| task["lag_records"].as_u64().is_some_and(|lag| lag > 0));
        if !behind && status["fills"].as_array().is_some_and(Vec::is_empty) {
            // What is shown is a second old.
            sleep(Duration::from_secs(2)).await;
            return Ok(());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{status:#}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The members that changes come to, each of them once and in its turn.
fn sum_of(before: &[Value], after: &[Value]) -> crate::stage::Members {
    let mut members = crate::stage::Members::new();
    let mut events = BTreeSet::new();
    for value in before.iter().chain(after).map(|line| &line["value"]).filter(|v| v["event_id"].is_string()) {
        assert!(events.insert(value["event_id"].to_string()), "twice: {value}");
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap();
        let (environment, id) = (number(&value["environment_id"]), value["id"].as_i64().unwrap());
        for segment in value["left"].as_array().unwrap().iter().map(number) {
            let was = members.get_mut(&(segment, environment)).is_some_and(|set| set.remove(&id));
            assert!(was, "left without having entered: {value}");
        }
        for segment in value["entered"].as_array().unwrap().iter().map(number) {
            let is_new = members.entry((segment, environment)).or_default().insert(id);
            assert!(is_new, "entered twice: {value}");
        }
    }
    members.retain(|_, set| !set.is_empty());
    members
}
