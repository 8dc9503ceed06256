//! Three brokers, of which one dies: nothing that was acknowledged is lost, nothing stands twice, and the log goes on with
//! the two that are left.

use std::time::Instant;

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, FaultKind, Log, Partition, Progress, Topic};
use rollcall_test_servers::Kafka;

use crate::support::{LONG, at, limit, ok, record};

const COMMITS: u64 = 120;
/// After so many commits a broker dies, after so many it comes back, and the next one dies.
const DEATHS: [(u64, i32); 2] = [(30, 1), (80, 2)];

fn commit(n: u64) -> Commit {
    let progress = Progress { state: serde_json::json!({ "done": n + 1 }), ..Progress::default() };
    Commit {
        records: vec![record(Topic::IdentityChanges, 0, &n.to_string(), Some("x"))],
        progress: Some(progress),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_dies_and_the_log_goes_on() {
    let mut kafka = Kafka::start_nodes(3);
    let config = KafkaLogConfig {
        transaction_timeout_ms: 10_000,
        ..KafkaLogConfig::new(kafka.brokers(), "failover", 2)
    };
    let log = ok(KafkaLog::open(config).await);
    let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let (mut deaths, mut dead) = (DEATHS.iter(), None);
    let mut next_death = deaths.next();
    let started = Instant::now();
    let (mut done, mut reopened) = (0, 0);
    'open: while done < COMMITS {
        assert!(started.elapsed() < LONG * 3, "{done} commits after {:?}", started.elapsed());
        let opened = match log.open("source").await {
            Ok(opened) => opened,
            Err(fault) if fault.kind == FaultKind::Retry => continue,
            Err(fault) => panic!("{fault}"),
        };
        // What the lost answer of a commit hid is found out here.
        done = opened.progress.map_or(0, |progress| progress.state["done"].as_u64().expect("a number"));
        let mut producer = opened.producer;
        while done < COMMITS {
            if let Some((at, node)) = next_death.filter(|(at, _)| *at == done) {
                if let Some(back) = dead.replace(*node) {
                    tokio::task::block_in_place(|| kafka.start_again(back));
                }
                println!("node {node} dies before commit {at}");
                kafka.kill9(*node);
                next_death = deaths.next();
            }
            match producer.commit(commit(done)).await {
                Ok(_) => done += 1,
                Err(fault) if fault.kind == FaultKind::Retry => {
                    reopened += 1;
                    continue 'open;
                }
                Err(fault) => panic!("{fault}"),
            }
        }
    }
    println!("{COMMITS} commits in {:?}, {reopened} failed and were made again", started.elapsed());
    let mut keys = Vec::new();
    while keys.len() < usize::try_from(COMMITS).expect("few") {
        assert!(started.elapsed() < LONG * 4, "{} records came", keys.len());
        match consumer.poll(limit(LONG)).await {
            Ok(fetched) => {
                keys.extend(fetched.iter().map(|f| String::from_utf8_lossy(&f.record.key).into_owned()));
            }
            Err(fault) if fault.kind == FaultKind::Retry => {}
            Err(fault) => panic!("{fault}"),
        }
    }
    assert_eq!(keys, (0..COMMITS).map(|n| n.to_string()).collect::<Vec<_>>());
    // A broker that has just come back may lead this partition, and its old connection be gone: the log says so, and
    // is asked again.
    let untouched = loop {
        assert!(started.elapsed() < LONG * 5, "nobody says where the other partition ends");
        match log.range(Topic::IdentityChanges, Partition(1)).await {
            Ok(range) => break range,
            Err(fault) if fault.kind == FaultKind::Retry => {}
            Err(fault) => panic!("{fault}"),
        }
    };
    assert_eq!(untouched.end.offset, 0);
}
