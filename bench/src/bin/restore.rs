//! A roster's store filled anew from its topics: what a fresh disk costs.
//!
//! `restore [IDENTITIES]` (default 1,000,000): writes `identities` and `memberships` of so many identities over 8
//! partitions to each log, then opens every partition's store at once on an empty folder. Its rival is a reader that
//! reads the same topics and keeps nothing. One line of JSON each.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::log::PollLimit;
use rollcall_model::{
    Commit, IdentityKey, IdentityRecord, IdentityState, Image, Log, Member, MembershipRecord, NativeId,
    Partition, Record, Seq, SourceName, Topic, Traits, Value, Version,
};
use rollcall_runtime::roster_store::{PartitionStore, RosterStores};
use rollcall_test_servers::{Kafka, KafkaSettings};

type Failure = Box<dyn Error + Send + Sync>;

const PARTITIONS: u16 = 8;
const COMMIT: usize = 2_000;

fn records(log: &dyn Log, id: i64) -> Result<[Record; 2], Failure> {
    let key = IdentityKey { source: SourceName::from("core"), id: NativeId::Int(id) };
    let partition = key.partition(PARTITIONS);
    let name = format!("user-{id}@example.com");
    let traits = Traits::from([
        ("plan".to_owned(), Value::Str(["free", "pro", "team"][(id % 3) as usize].to_owned())),
        ("score".to_owned(), Value::Float(id as f64 / 7.0)),
        ("logins".to_owned(), Value::Int(id % 1_000)),
        ("beta".to_owned(), Value::Bool(id % 2 == 0)),
        ("country".to_owned(), Value::Str("nl".to_owned())),
        ("signed_up".to_owned(), Value::Str("2026-11-27T10:00:00Z".to_owned())),
    ]);
    let identity = IdentityRecord {
        log_id: log.id().clone(),
        partition,
        seq: Seq(1),
        version: Version(id),
        deleted: false,
        source: key.source.clone(),
        id: key.id.clone(),
        environment_key: Some("environment-key-1".to_owned()),
        identity_key: Some(id.to_string()),
        state: IdentityState::Live(Image {
            environment_id: "1".into(),
            identifier: name.clone(),
            traits,
            system_traits: Traits::new(),
        }),
        left_environment_keys: Default::default(),
        place: Default::default(),
        parked: Vec::new(),
        seen: Default::default(),
    };
    let member = |segment: i64| Member {
        segment_id: segment.to_string().as_str().into(),
        ..rollcall_kit::samples::memberships()[0].segments[0].clone()
    };
    let membership = MembershipRecord {
        log_id: log.id().clone(),
        seq: Seq(1),
        version: Version(id),
        source: key.source.clone(),
        id: key.id.clone(),
        environment_id: "1".into(),
        environment_key: "environment-key-1".to_owned(),
        identifier: name,
        segments: (0..id % 5).map(member).collect(),
    };
    let record = |topic, value| Record {
        topic,
        partition,
        key: key.to_string().into_bytes(),
        value: Some(value),
        headers: Vec::new(),
    };
    Ok([
        record(Topic::Identities, serde_json::to_vec(&identity)?),
        record(Topic::Memberships, serde_json::to_vec(&membership)?),
    ])
}

async fn measure(name: &str, log: Arc<dyn Log>, identities: i64) -> Result<(), Failure> {
    let mut producer = log.open("bench").await?.producer;
    let mut commit = Commit::default();
    for id in 0..identities {
        commit.records.extend(records(&*log, id)?);
        if commit.records.len() >= COMMIT || id + 1 == identities {
            producer.commit(std::mem::take(&mut commit)).await?;
        }
    }
    let folder = tempfile::tempdir()?;
    let stores = RosterStores::open(folder.path())?;
    let began = Instant::now();
    let mut opening = tokio::task::JoinSet::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let (stores, log) = (stores.clone(), Arc::clone(&log));
        opening.spawn(async move {
            PartitionStore::open(stores, &log, partition, Seq(1), Duration::MAX, |_| {}).await
        });
    }
    let mut taken = 0;
    while let Some(opened) = opening.join_next().await {
        taken += opened??.1;
    }
    show(name, "restore of the stores", identities, taken, began.elapsed());
    let began = Instant::now();
    let mut reading = tokio::task::JoinSet::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let log = Arc::clone(&log);
        reading.spawn(async move { read(&*log, partition).await });
    }
    let mut read = 0;
    while let Some(done) = reading.join_next().await {
        read += done??;
    }
    show(name, "reading alone", identities, read, began.elapsed());
    Ok(())
}

async fn read(log: &dyn Log, partition: Partition) -> Result<u64, rollcall_model::Fault> {
    let (mut from, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for topic in [Topic::Identities, Topic::Memberships] {
        let range = log.range(topic, partition).await?;
        from.insert((topic, partition), range.start);
        ends.insert((topic, partition), range.end);
    }
    let mut consumer = log.consumer(from).await?;
    let mut read = 0;
    let limit = PollLimit { records_max: 4_096, bytes_max: 16 << 20, wait: Duration::from_millis(200) };
    while !ends.iter().all(|(at, end)| consumer.reached().get(at).is_some_and(|place| place >= end)) {
        read += consumer.poll(limit).await?.len() as u64;
    }
    Ok(read)
}

fn show(log: &str, what: &str, identities: i64, records: u64, elapsed: Duration) {
    println!(
        "{}",
        serde_json::json!({
            "log": log, "what": what, "identities": identities, "records": records,
            "seconds": (elapsed.as_secs_f64() * 100.0).round() / 100.0,
            "records_per_s": (records as f64 / elapsed.as_secs_f64()).round(),
        })
    );
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let identities = std::env::args().nth(1).map_or(Ok(1_000_000), |arg| arg.parse())?;
    let folder = tempfile::tempdir()?;
    let config = EmbeddedLogConfig { partitions: PARTITIONS, ..Default::default() };
    measure("embedded", Arc::new(EmbeddedLog::open(folder.path().join("log"), config)?), identities).await?;
    let kafka = Kafka::start_with(KafkaSettings { full_compiler: true, ..Default::default() });
    let config = KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        ..KafkaLogConfig::new(kafka.brokers(), "bench", PARTITIONS)
    };
    measure("kafka", Arc::new(KafkaLog::open(config).await?), identities).await
}
