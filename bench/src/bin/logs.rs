//! Both logs beside each other, and Kafka's beside a plain transactional producer: commits and records per second.
//!
//! `logs [SECONDS]` (default 5): one task commits for so long, with batches of 1, 100 and 10,000 records of 1 KB, to the
//! embedded log, to the Kafka log, and by rdkafka alone (begin, produce, commit: what there is to win). One line of JSON
//! each.

use std::error::Error;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Commit, Log, Partition, Progress, Record, Topic};
use rollcall_test_servers::{Kafka, KafkaSettings};

type Failure = Box<dyn Error + Send + Sync>;

const PARTITIONS: u16 = 8;
const VALUE_BYTES: usize = 1_000;
const BATCHES: [usize; 3] = [1, 100, 10_000];

fn value(n: usize) -> Vec<u8> {
    // Not all alike, or compression would do the work.
    (0..VALUE_BYTES).map(|k| b'a' + ((n * 7 + k * k) % 26) as u8).collect()
}

fn commit(n: usize, batch: usize) -> Commit {
    let record = |k: usize| Record {
        topic: Topic::Identities,
        partition: Partition(0),
        key: format!("core/{}", n * batch + k).into_bytes(),
        value: Some(value(k)),
        headers: Vec::new(),
    };
    let progress = Progress { state: serde_json::json!({ "done": n }), ..Progress::default() };
    Commit { records: (0..batch).map(record).collect(), progress: Some(progress) }
}

fn show(log: &str, batch: usize, times: &mut [Duration], elapsed: Duration) {
    times.sort_unstable();
    let at = |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0, |time| time.as_micros() as u64);
    let seconds = elapsed.as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "log": log, "records_per_commit": batch, "value_bytes": VALUE_BYTES, "commits": times.len(),
            "commits_per_s": (times.len() as f64 / seconds * 10.0).round() / 10.0,
            "records_per_s": ((times.len() * batch) as f64 / seconds).round(),
            "commit_p50_us": at(0.5), "commit_p99_us": at(0.99),
        })
    );
}

async fn measure(name: &str, log: &dyn Log, seconds: Duration) -> Result<(), Failure> {
    for batch in BATCHES {
        let mut producer = log.open("roster/0").await?.producer;
        let mut times = Vec::new();
        let began = Instant::now();
        while began.elapsed() < seconds {
            let commit = commit(times.len(), batch);
            let started = Instant::now();
            producer.commit(commit).await?;
            times.push(started.elapsed());
        }
        show(name, batch, &mut times, began.elapsed());
    }
    Ok(())
}

/// The rival: nothing but the client.
fn plain(brokers: &str, seconds: Duration) -> Result<(), Failure> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", "plain")
        .set("compression.type", "lz4")
        .set("linger.ms", "0")
        .create()?;
    producer.init_transactions(Duration::from_secs(30))?;
    for batch in BATCHES {
        let mut times = Vec::new();
        let began = Instant::now();
        while began.elapsed() < seconds {
            let commit = commit(times.len(), batch);
            let started = Instant::now();
            producer.begin_transaction()?;
            for record in &commit.records {
                let mut message = BaseRecord::<[u8], [u8]>::to("plain").partition(0).key(&record.key);
                if let Some(value) = &record.value {
                    message = message.payload(value);
                }
                producer.send(message).map_err(|(e, _)| e)?;
            }
            while producer.in_flight_count() > 0 {
                producer.poll(Duration::from_millis(1));
            }
            producer.commit_transaction(Duration::from_secs(30))?;
            times.push(started.elapsed());
        }
        show("rdkafka alone", batch, &mut times, began.elapsed());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |arg| arg.parse())?;
    let seconds = Duration::from_secs(seconds);
    let folder = tempfile::tempdir()?;
    let config = EmbeddedLogConfig { partitions: PARTITIONS, ..Default::default() };
    let embedded = EmbeddedLog::open(folder.path().join("log"), config)?;
    measure("embedded", &embedded, seconds).await?;
    drop(embedded);
    let properties = vec![("auto.create.topics.enable".to_owned(), "true".to_owned())];
    let kafka = Kafka::start_with(KafkaSettings { full_compiler: true, properties, ..Default::default() });
    let config = KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        ..KafkaLogConfig::new(kafka.brokers(), "bench", PARTITIONS)
    };
    let log = KafkaLog::open(config).await?;
    measure("kafka", &log, seconds).await?;
    drop(log);
    let brokers = kafka.brokers();
    tokio::task::spawn_blocking(move || plain(&brokers, seconds)).await?
}
