//! The example against librdkafka's own mock of a broker: that it runs, and what it prints. That it reads what Rollcall
//! writes to a real broker is tested with the log (connectors/log-kafka).
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::{Value, json};

struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Broker {
    fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["rollcall.memberships", "rollcall.membership-changes"] {
            cluster.create_topic(topic, 2, 1).unwrap();
        }
        let producer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        Self { cluster, producer }
    }

    fn put(&self, topic: &str, partition: i32, key: &str, value: Option<Value>) {
        let topic = format!("rollcall.{topic}");
        let value = value.map(|value| value.to_string());
        let record = BaseRecord::<str, str>::to(&topic).partition(partition).key(key);
        let record = if let Some(value) = &value { record.payload(value.as_str()) } else { record };
        self.producer.send(record).map_err(|(e, _)| e).unwrap();
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn example(&self, options: &[&str]) -> Command {
        // The same program in Python, where EXAMPLE names it: its interpreter and file.
        let mut command = match std::env::var("EXAMPLE") {
            Ok(other) => {
                let mut words = other.split(' ');
                let mut command = Command::new(words.next().unwrap());
                command.args(words);
                command
            }
            Err(_) => Command::new(env!("CARGO_BIN_EXE_rollcall-example-members")),
        };
        command.args([&self.cluster.bootstrap_servers(), "rollcall", "7", "3"]).args(options);
        command
    }
}

fn membership(version: i64, environment: &str, identifier: &str, segments: &[&str]) -> Option<Value> {
    let segments: Vec<_> =
        segments.iter().map(|id| json!({"segment_id": id, "since_us": 1, "sources": ["rule"]})).collect();
    Some(
        json!({"version": version, "environment_id": environment, "identifier": identifier, "segments": segments}),
    )
}

fn change(
    version: i64,
    environment: &str,
    identifier: &str,
    entered: &[&str],
    left: &[&str],
) -> Option<Value> {
    Some(json!({"version": version, "environment_id": environment, "identifier": identifier,
        "entered": entered, "left": left}))
}

#[test]
fn members_are_those_of_the_newest_record_of_each_key() {
    let broker = Broker::start();
    broker.put("memberships", 0, "core/1", membership(1, "7", "zoe", &["2", "3"]));
    broker.put("memberships", 1, "core/2", membership(1, "7", "left long ago", &["3"]));
    broker.put("memberships", 1, "core/2", membership(2, "7", "left long ago", &[]));
    broker.put("memberships", 1, "core/3", membership(1, "8", "elsewhere", &["3"]));
    broker.put("memberships", 0, "core/4", membership(1, "7", "forgotten", &["3"]));
    broker.put("memberships", 0, "core/4", None);
    broker.put("memberships", 0, "core/5", membership(1, "7", "anna", &["3"]));
    // Old news: the sets hold it.
    broker.put("membership-changes", 0, "core/5", change(1, "7", "anna", &["3"], &[]));
    let output = broker.example(&["--once"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "anna\nzoe\n", "{errors}");
}

struct Running(Child, Lines<BufReader<ChildStdout>>);

impl Running {
    fn line(&mut self) -> String {
        self.1.next().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn changes_are_followed_from_where_they_ended_and_old_ones_passed_over() {
    let broker = Broker::start();
    broker.put("memberships", 0, "core/1", membership(5, "7", "anna", &["3"]));
    let mut child = broker.example(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut running = Running(child, lines);
    assert_eq!(running.line(), "anna");
    broker.put("membership-changes", 0, "control/check", Some(json!({"id": "check-1"})));
    // At a version that is held: it says nothing new, though it would change the set.
    broker.put("membership-changes", 0, "core/1", change(5, "7", "anna", &[], &["3"]));
    broker.put("membership-changes", 0, "core/1", change(6, "8", "anna", &[], &["3"]));
    broker.put("membership-changes", 0, "core/1", change(7, "7", "anne", &["4"], &["2"]));
    broker.put("membership-changes", 1, "core/2", change(1, "7", "zoe", &["3"], &[]));
    assert_eq!(running.line(), "+ zoe");
    broker.put("membership-changes", 0, "core/1", change(8, "7", "anne", &[], &["3"]));
    assert_eq!(running.line(), "- anne");
}
