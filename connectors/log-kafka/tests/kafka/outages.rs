//! No broker answers: at the start, in the middle, and to a worker alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, FaultKind, Log, Place, Topic};
use rollcall_test_servers::{Kafka, free_port};

use crate::support::{
    LONG, at, config, fails, limit, ok, prefix, progress, proxied, read_from, record, together,
};

fn commit(n: u64) -> Commit {
    let records = vec![record(Topic::IdentityChanges, 0, &n.to_string(), Some("x"))];
    Commit { records, progress: progress(n) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn outages() {
    together([
        tokio::spawn(no_broker_at_the_start()),
        tokio::spawn(an_outage_in_the_middle_loses_and_repeats_nothing()),
        tokio::spawn(a_writer_that_was_cut_off_opens_again()),
    ])
    .await;
}

async fn no_broker_at_the_start() {
    let brokers = format!("127.0.0.1:{}", free_port());
    let config = KafkaLogConfig { request_timeout_ms: 2_000, ..config(&brokers, &prefix(), 1) };
    let started = Instant::now();
    let says = &["can't reach the brokers", &*brokers, "Connection refused"];
    fails(KafkaLog::open(config.clone()).await, FaultKind::Retry, says, &["start Kafka", "log.brokers"]);
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    let named = KafkaLogConfig { brokers: "no-such-host.invalid:9092".to_owned(), ..config };
    let says = &["no-such-host.invalid:9092", "resolve"];
    fails(KafkaLog::open(named).await, FaultKind::Retry, says, &["log.brokers"]);
}

/// What a reader has seen, and the faults that it met.
#[derive(Default)]
struct Seen {
    keys: Mutex<Vec<(Place, String)>>,
    faults: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// The broker is killed for a while, then comes back on the same ports: the same objects go on.
async fn an_outage_in_the_middle_loses_and_repeats_nothing() {
    let mut kafka = Kafka::start();
    let config = KafkaLogConfig {
        transaction_timeout_ms: 4_000,
        request_timeout_ms: 3_000,
        ..config(&kafka.brokers(), &prefix(), 1)
    };
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    for n in 1..=3 {
        ok(writer.commit(commit(n)).await);
    }
    let mut consumer = ok(log.consumer(at(Topic::IdentityChanges, 0, 0)).await);
    let seen = Arc::new(Seen::default());
    let reading = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            while !seen.ended.load(Ordering::SeqCst) {
                match consumer.poll(limit(Duration::from_secs(1))).await {
                    Ok(fetched) => {
                        let text = |key| String::from_utf8(key).expect("text");
                        let new = fetched.into_iter().map(|one| (one.place, text(one.record.key)));
                        seen.keys.lock().expect("keys").extend(new);
                    }
                    Err(fault) => {
                        assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
                        seen.faults.lock().expect("faults").push(fault.to_string());
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
    });
    while seen.keys.lock().expect("keys").len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    kafka.kill9(1);
    let down = Instant::now();
    let says = &["a commit of task 'source'", &*config.brokers];
    let failed = writer.commit(commit(4)).await;
    let Err(fault) = failed else { panic!("no broker is there") };
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert!(says.iter().all(|word| fault.message().contains(word)), "{fault}");
    // Its timeout, and what taking it back may take.
    assert!(down.elapsed() < LONG, "{:?}", down.elapsed());
    let again = writer.commit(commit(4)).await;
    assert_eq!(again.map_err(|fault| fault.kind), Err(FaultKind::Retry), "what became of it is not known");
    let range = log.range(Topic::IdentityChanges, rollcall_model::Partition(0)).await;
    assert_eq!(range.map_err(|fault| fault.kind), Err(FaultKind::Retry));
    while seen.faults.lock().expect("faults").is_empty() {
        assert!(down.elapsed() < LONG, "the reader is not told that nobody answers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(down.elapsed() > Duration::from_secs(9), "told too soon: {:?}", down.elapsed());
    kafka.start_again(1);

    let up = Instant::now();
    let mut done = 3;
    while done < 8 {
        assert!(up.elapsed() < LONG, "it does not go on");
        let opened = match log.open("source").await {
            Ok(opened) => opened,
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
                continue;
            }
        };
        // Only opening tells whether the fourth was written.
        done = opened.progress.expect("it had some").state["n"].as_u64().expect("a number");
        let mut writer = opened.producer;
        while done < 8 && writer.commit(commit(done + 1)).await.is_ok() {
            done += 1;
        }
    }
    while seen.keys.lock().expect("keys").len() < 8 {
        assert!(up.elapsed() < LONG, "the reader does not go on: {:?}", seen.keys.lock().expect("keys"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen.ended.store(true, Ordering::SeqCst);
    reading.await.expect("the reader ended");
    let keys = seen.keys.lock().expect("keys").clone();
    let names: Vec<_> = keys.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(names, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    assert!(keys.windows(2).all(|two| two[0].0 < two[1].0), "{keys:?}");
    let faults = seen.faults.lock().expect("faults").clone();
    assert!(faults.iter().all(|fault| fault.contains(&config.brokers)), "{faults:?}");
}

/// A worker is cut off in the middle of a commit for longer than its transaction may last.
async fn a_writer_that_was_cut_off_opens_again() {
    let broker = proxied();
    let proxy = &broker.proxies[1];
    let config = KafkaLogConfig {
        transaction_timeout_ms: 3_000,
        request_timeout_ms: 3_000,
        // A connection that says nothing is given up.
        client: BTreeMap::from([("socket.timeout.ms".to_owned(), "2000".to_owned())]),
        ..config(&proxy.address().to_string(), &prefix(), 1)
    };
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut writer = ok(log.open("source").await).producer;
    ok(writer.commit(commit(1)).await);
    proxy.drop_all();
    let cut = Instant::now();
    let failed = writer.commit(commit(2)).await.map(drop);
    assert_eq!(failed.map_err(|fault| fault.kind), Err(FaultKind::Retry));
    assert!(cut.elapsed() < LONG, "{:?}", cut.elapsed());
    proxy.pass();
    let until = Instant::now() + LONG;
    let opened = loop {
        match log.open("source").await {
            Ok(opened) => break opened,
            Err(fault) => assert!(fault.kind == FaultKind::Retry && Instant::now() < until, "{fault}"),
        }
    };
    let done = opened.progress.expect("it had some").state["n"].as_u64().expect("a number");
    let mut writer = opened.producer;
    if done == 1 {
        ok(writer.commit(commit(2)).await);
    }
    ok(writer.commit(commit(3)).await);
    let all = read_from(&log, Topic::IdentityChanges, 0, 0).await;
    let keys: Vec<_> = all.iter().map(|one| String::from_utf8_lossy(&one.record.key).into_owned()).collect();
    assert_eq!(keys, ["1", "2", "3"]);
}
