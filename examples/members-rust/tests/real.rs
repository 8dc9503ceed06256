//! Both examples against a real broker and what Rollcall's log writes there: while it is being written, and at rest.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{
    Commit, Log, MembershipChange, MembershipRecord, Partition, Producer, Progress, Record, Topic,
};
use rollcall_test_servers::{Kafka, python};
use serde_json::{Value, json};

const PARTITIONS: u16 = 3;
const PEOPLE: u64 = 300;
const LONG: Duration = Duration::from_secs(60);

/// What the roster holds of one identity.
#[derive(Clone)]
struct Person {
    environment: &'static str,
    segments: BTreeSet<&'static str>,
    version: i64,
}

/// A roster of one's own: what it writes is of the same form, in the same commits.
struct World {
    people: BTreeMap<u64, Person>,
    writer: Box<dyn Producer>,
    commits: u64,
    seed: u64,
}

/// Some are too long for a message of the topics.
fn identifier(id: u64) -> String {
    format!("p{id}{}", if id.is_multiple_of(50) { "x".repeat(60_000) } else { String::new() })
}

fn put(topic: Topic, id: u64, key: &str, value: Option<&Value>) -> Record {
    Record {
        topic,
        partition: Partition(u16::try_from(id % u64::from(PARTITIONS)).unwrap()),
        key: key.as_bytes().to_vec(),
        value: value.map(|value| value.to_string().into_bytes()),
        headers: vec![(
            "version".to_owned(),
            value.map_or(0, |v| v["version"].as_i64().unwrap_or(0)).to_string(),
        )],
    }
}

impl World {
    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn membership(&self, id: u64, person: &Person) -> Record {
        let member = |segment: &&str| json!({"segment_id": segment, "since_us": 1, "sources": ["rule"]});
        let segments: Vec<_> = person.segments.iter().map(member).collect();
        let value = json!({"log_id": "0", "seq": self.commits, "version": person.version, "source": "core",
            "id": id.to_string(), "environment_id": person.environment, "environment_key": "key",
            "identifier": identifier(id), "segments": segments});
        serde_json::from_value::<MembershipRecord>(value.clone()).unwrap();
        put(Topic::Memberships, id, &format!("core/{id}"), Some(&value))
    }

    fn change(&self, id: u64, person: &Person, entered: &BTreeSet<&str>, left: &BTreeSet<&str>) -> Record {
        let value = json!({"event_id": format!("0-{id}-{}", person.version), "log_id": "0",
            "environment_id": person.environment, "environment_key": "key", "source": "core", "id": id.to_string(),
            "identifier": identifier(id), "identity_key": "key", "version": person.version, "seq": self.commits,
            "changed": [], "entered": entered, "left": left, "cause": "change", "at_us": 1, "position": "1"});
        serde_json::from_value::<MembershipChange>(value.clone()).unwrap();
        put(Topic::MembershipChanges, id, &format!("core/{id}"), Some(&value))
    }

    /// One identity changes, moves, is deleted or comes back.
    fn step(&mut self, id: u64) -> Vec<Record> {
        let nobody = Person { environment: "7", segments: BTreeSet::new(), version: 0 };
        let before = self.people.get(&id).cloned().unwrap_or(nobody);
        let mut after = before.clone();
        let none = BTreeSet::new();
        after.version += 1;
        let mut records = Vec::new();
        match self.random(10) {
            // Moved: everything left there, then entered here.
            0 => {
                records.push(self.change(id, &after, &none, &before.segments));
                after.version += 1;
                after.environment = if before.environment == "7" { "8" } else { "7" };
                after.segments = ["3", "4"].into_iter().filter(|_| self.random(2) == 0).collect();
                records.push(self.change(id, &after, &after.segments, &none));
            }
            // Deleted.
            1 => {
                after.segments = none.clone();
                records.push(self.change(id, &after, &none, &before.segments));
            }
            _ => {
                after.segments = ["2", "3", "4"].into_iter().filter(|_| self.random(2) == 0).collect();
                let entered = after.segments.difference(&before.segments).copied().collect();
                let left = before.segments.difference(&after.segments).copied().collect();
                records.push(self.change(id, &after, &entered, &left));
            }
        }
        records.insert(0, self.membership(id, &after));
        self.people.insert(id, after);
        records
    }

    async fn commit(&mut self, records: Vec<Record>) {
        self.commits += 1;
        let progress = Some(Progress { reads: BTreeMap::new(), state: json!({"seq": self.commits}) });
        self.writer.commit(Commit { records, progress }).await.unwrap();
    }

    async fn commit_some(&mut self) {
        let mut records = Vec::new();
        for _ in 0..=self.random(4) {
            let id = self.random(PEOPLE);
            records.extend(self.step(id));
        }
        if self.random(8) == 0 {
            let id = self.random(PEOPLE);
            records.push(put(Topic::MembershipChanges, id, "control/check", Some(&json!({"id": "check-1"}))));
        }
        self.commit(records).await;
    }

    /// Long deleted: the key goes.
    async fn forget_some(&mut self) {
        let gone = self.people.iter().filter(|(_, person)| person.segments.is_empty()).map(|(id, _)| *id);
        let records: Vec<_> =
            gone.take(20).map(|id| put(Topic::Memberships, id, &format!("core/{id}"), None)).collect();
        assert!(!records.is_empty());
        self.commit(records).await;
    }

    fn members(&self) -> Vec<String> {
        let of = |person: &Person| person.environment == "7" && person.segments.contains("3");
        let mut members: Vec<_> =
            self.people.iter().filter(|(_, person)| of(person)).map(|(id, _)| identifier(*id)).collect();
        members.sort();
        members
    }
}

/// What was rolled back was never true.
fn roll_back(config: &KafkaLogConfig) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("transactional.id", "of the test")
        .create()
        .unwrap();
    producer.init_transactions(LONG).unwrap();
    producer.begin_transaction().unwrap();
    for partition in 0..i32::from(PARTITIONS) {
        let member = json!({"segment_id": "3", "since_us": 1, "sources": ["rule"]});
        let set =
            json!({"version": i64::MAX, "environment_id": "7", "identifier": "never", "segments": [member]});
        let change = json!({"version": i64::MAX, "environment_id": "7", "identifier": "never", "entered": ["3"],
            "left": []});
        for (topic, value) in [("memberships", set), ("membership-changes", change)] {
            let (topic, value) = (format!("{}.{topic}", config.prefix), value.to_string());
            let record = BaseRecord::to(&topic).partition(partition).key("core/never").payload(&value);
            producer.send(record).map_err(|(e, _)| e).unwrap();
        }
    }
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    producer.abort_transaction(LONG).unwrap();
}

fn examples() -> [Vec<String>; 2] {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../members.py");
    [
        vec![env!("CARGO_BIN_EXE_rollcall-example-members").to_owned()],
        vec![python().display().to_string(), script.display().to_string()],
    ]
}

fn command(example: &[String], config: &KafkaLogConfig) -> Command {
    let mut command = Command::new(&example[0]);
    command.args(&example[1..]).args([&config.brokers, &config.prefix, "7", "3"]);
    command
}

/// An example that follows: what it has said so far.
struct Following {
    child: Child,
    members: Arc<Mutex<Vec<String>>>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let members = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&members);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut known = known.lock().unwrap();
                match line.split_once(' ') {
                    Some(("+", name)) => known.push(name.to_owned()),
                    Some(("-", name)) => known.retain(|member| member != name),
                    _ => known.push(line),
                }
                known.sort();
            }
        });
        Self { child, members }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn shortened(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| name.get(..8).unwrap_or(name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_those_that_were_written() {
    let kafka = Kafka::start();
    let config = KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        topic_settings: [("max.message.bytes".to_owned(), "20000".to_owned())].into(),
        ..KafkaLogConfig::new(kafka.brokers(), "rollcall", PARTITIONS)
    };
    let log = KafkaLog::open(config.clone()).await.unwrap();
    let writer = log.open("roster/0").await.unwrap().producer;
    let mut world = World { people: BTreeMap::new(), writer, commits: 0, seed: 42 };
    for id in 0..PEOPLE {
        let records = world.step(id);
        world.commit(records).await;
    }
    roll_back(&config);
    world.forget_some().await;
    // They start while it goes on.
    let following = examples().map(|example| Following::start(command(&example, &config)));
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        world.commit_some().await;
    }
    roll_back(&config);
    let expected = world.members();
    assert!(
        expected.len() > 20 && expected.iter().any(|name| name.len() > 1_000),
        "{:?}",
        shortened(&expected)
    );
    for (following, example) in following.iter().zip(examples()) {
        let until = Instant::now() + LONG;
        while *following.members.lock().unwrap() != expected {
            let members = following.members.lock().unwrap().clone();
            assert!(
                Instant::now() < until,
                "{example:?} after {} commits: {:?} are not {:?}",
                world.commits,
                shortened(&members),
                shortened(&expected)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(following);
    world.forget_some().await;
    for example in examples() {
        let output = command(&example, &config).arg("--once").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{example:?}: {errors}");
        let printed: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert!(
            printed == expected,
            "{example:?}: {:?} are not {:?}",
            shortened(&printed),
            shortened(&expected)
        );
    }
}
