//! Three brokers, of which one dies, or all are stopped in order one after another: nothing that was acknowledged is lost,
//! nothing stands twice, and the log goes on with those that are left.

use std::time::{Duration, Instant};

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, Consumer, Fault, FaultKind, Log, Partition, Progress, Topic};
use rollcall_test_servers::Kafka;

use crate::support::{LONG, at, limit, ok, record};

const COMMITS: u64 = 120;
/// After so many commits a broker dies, after so many it comes back, and the next one dies.
const DEATHS: [(u64, i32); 2] = [(30, 1), (80, 2)];
/// Three brokers at a time: twice as many starve each other on two cores.
static BROKERS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// How long a broker that was stopped stays away.
const AWAY: Duration = Duration::from_secs(2);

fn commit(n: u64) -> Commit {
    let progress = Progress { state: serde_json::json!({ "done": n + 1 }), ..Progress::default() };
    Commit {
        records: vec![record(Topic::IdentityChanges, 0, &n.to_string(), Some("x"))],
        progress: Some(progress),
    }
}

/// Commits one after another, as a task does, until `goes_on` says no before the next. Answers how many.
async fn commit_while(log: &KafkaLog, mut goes_on: impl FnMut(u64) -> bool) -> u64 {
    let started = Instant::now();
    let (mut done, mut reopened) = (0, 0);
    'open: loop {
        assert!(started.elapsed() < LONG * 3, "{done} commits after {:?}", started.elapsed());
        let opened = match log.open("source").await {
            Ok(opened) => opened,
            Err(fault) if fault.kind == FaultKind::Retry => continue,
            Err(fault) => panic!("{fault}"),
        };
        // What the lost answer of a commit hid is found out here.
        done = opened.progress.map_or(0, |progress| progress.state["done"].as_u64().expect("a number"));
        let mut producer = opened.producer;
        while goes_on(done) {
            match producer.commit(commit(done)).await {
                Ok(_) => done += 1,
                Err(fault) if fault.kind == FaultKind::Retry => {
                    reopened += 1;
                    continue 'open;
                }
                Err(fault) => panic!("{fault}"),
            }
        }
        println!("{done} commits in {:?}, {reopened} failed and were made again", started.elapsed());
        return done;
    }
}

/// A broker that has just come back may lead the partition that is asked of, and its old connection be gone: the log says so,
/// and is asked again.
async fn answered<T>(ask: impl AsyncFn() -> Result<T, Fault>) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(fault) if fault.kind == FaultKind::Retry => {
                assert!(started.elapsed() < LONG, "no answer: {fault}");
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// Each record once and in order, for a reader that was there all the time.
async fn assert_all(log: &KafkaLog, mut consumer: Box<dyn Consumer>, commits: u64) {
    let started = Instant::now();
    let mut keys = Vec::new();
    while keys.len() < usize::try_from(commits).expect("few") {
        assert!(started.elapsed() < LONG, "{} of {commits} records came", keys.len());
        match consumer.poll(limit(LONG)).await {
            Ok(fetched) => {
                keys.extend(fetched.iter().map(|f| String::from_utf8_lossy(&f.record.key).into_owned()));
            }
            Err(fault) if fault.kind == FaultKind::Retry => {}
            Err(fault) => panic!("{fault}"),
        }
    }
    assert_eq!(keys, (0..commits).map(|n| n.to_string()).collect::<Vec<_>>());
    let untouched = answered(async || log.range(Topic::IdentityChanges, Partition(1)).await).await;
    assert_eq!(untouched.end.offset, 0);
}

fn config(kafka: &Kafka) -> KafkaLogConfig {
    KafkaLogConfig { transaction_timeout_ms: 10_000, ..KafkaLogConfig::new(kafka.brokers(), "failover", 2) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_dies_and_the_log_goes_on() {
    let _alone = BROKERS.lock().await;
    let mut kafka = Kafka::start_nodes(3);
    let log = ok(KafkaLog::open(config(&kafka)).await);
    let consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let (mut deaths, mut dead) = (DEATHS.iter(), None);
    let mut next_death = deaths.next();
    let done = commit_while(&log, |done| {
        if let Some((at, node)) = next_death.filter(|(at, _)| *at == done) {
            if let Some(back) = dead.replace(*node) {
                tokio::task::block_in_place(|| kafka.start_again(back));
            }
            println!("node {node} dies before commit {at}");
            kafka.kill9(*node);
            next_death = deaths.next();
        }
        done < COMMITS
    })
    .await;
    assert_all(&log, consumer, done).await;
}

/// As an upgrade does: while commits end all the time, each broker hands its partitions over, goes and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_nothing() {
    let _alone = BROKERS.lock().await;
    let mut kafka = Kafka::start_nodes(3);
    let log = ok(KafkaLog::open(config(&kafka)).await);
    let consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    // Who leads what is known from here on.
    for partition in [0, 1] {
        ok(log.offset_at(Topic::IdentityChanges, Partition(partition), 0).await);
    }
    let rolling = tokio::task::spawn_blocking(move || {
        for node in kafka.nodes() {
            kafka.stop(node);
            std::thread::sleep(AWAY);
            kafka.start_again(node);
            println!("node {node} is back");
        }
        kafka
    });
    let done = commit_while(&log, |_| !rolling.is_finished()).await;
    let _kafka = rolling.await.expect("brokers that come back");
    assert!(done > 0, "no commit was made meanwhile");
    for partition in [0, 1] {
        let found =
            answered(async || log.offset_at(Topic::IdentityChanges, Partition(partition), 0).await).await;
        assert_eq!(found.offset, 0, "of partition {partition}, whoever leads it now");
    }
    assert_all(&log, consumer, done).await;
}
