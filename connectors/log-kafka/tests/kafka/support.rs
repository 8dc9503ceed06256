//! Brokers for the tests that run at the same time, logs of their own on them, and clients that know nothing of Rollcall.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rollcall_kit::Proxy;
pub(crate) use rollcall_kit::contract::log::{commit_of, record};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{Consumer, Fault, FaultKind, Log, Partition, Place, Progress, Retention, Topic};
use rollcall_test_servers::{Kafka, KafkaSettings};
use tokio::task::JoinHandle;

/// Whatever a broker is slow at, it is done by then.
pub(crate) const LONG: Duration = Duration::from_secs(60);

static PLAIN: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
static LOGS: AtomicU32 = AtomicU32::new(0);

/// What several tests use at the same time: made by who comes first, ended when the last has gone.
pub(crate) fn shared<T>(place: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut shared = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = shared.upgrade() {
        return there;
    }
    let new = Arc::new(start());
    *shared = Arc::downgrade(&new);
    new
}

/// On a machine that has more to do, a node isn't taken for dead when it is slow.
pub(crate) fn patient(settings: KafkaSettings) -> KafkaSettings {
    let properties = vec![("broker.session.timeout.ms".to_owned(), "9000".to_owned())];
    KafkaSettings { properties, ..settings }
}

/// The broker: started by who comes first, stopped when the last has gone.
pub(crate) fn kafka() -> Arc<Kafka> {
    shared(&PLAIN, || Kafka::start_with(patient(KafkaSettings::default())))
}

/// A broker that can be cut off from who comes through one of its proxies.
pub(crate) struct Proxied {
    pub(crate) kafka: Kafka,
    pub(crate) proxies: [Proxy; 2],
}

static PROXIED: Mutex<Weak<Proxied>> = Mutex::new(Weak::new());

pub(crate) fn proxied() -> Arc<Proxied> {
    shared(&PROXIED, || {
        let proxies = [Proxy::listen(), Proxy::listen()];
        let proxied_listeners = proxies.each_ref().map(|proxy| proxy.address().port()).to_vec();
        let settings = KafkaSettings { proxied_listeners, ..KafkaSettings::default() };
        let kafka = Kafka::start_with(patient(settings));
        for (n, proxy) in proxies.iter().enumerate() {
            proxy.forward_to(kafka.proxied(n));
        }
        Proxied { kafka, proxies }
    })
}

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    format!("log{}", LOGS.fetch_add(1, Ordering::SeqCst))
}

/// A log of one's own on one node.
pub(crate) fn config(brokers: &str, prefix: &str, partitions: u16) -> KafkaLogConfig {
    KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        ..KafkaLogConfig::new(brokers, prefix, partitions)
    }
}

/// Tests that mostly wait, at the same time: the harness runs no more than the machine has cores.
pub(crate) async fn together(tests: impl IntoIterator<Item = JoinHandle<()>>) {
    let mut failed = None;
    for test in tests {
        failed = test.await.err().or(failed);
    }
    if let Some(failed) = failed {
        std::panic::resume_unwind(failed.into_panic());
    }
}

pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that far in the future")
}

pub(crate) fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

/// Opens from a place that can't wait.
pub(crate) fn open(config: KafkaLogConfig) -> Result<KafkaLog, Fault> {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(KafkaLog::open(config)))
}

/// That something fails as it should: of this kind, saying this, and naming this as what repairs it.
#[track_caller]
pub(crate) fn fails<T>(result: Result<T, Fault>, kind: FaultKind, says: &[&str], repair: &[&str]) {
    let Err(fault) = result else { panic!("this should have failed") };
    assert_eq!(fault.kind, kind, "{fault}");
    let message = fault.message();
    for word in says {
        assert!(message.contains(word), "'{word}' is not said: {fault}");
    }
    let named = fault.repair.as_deref().unwrap_or_default();
    assert!(!named.is_empty(), "no repair is named: {fault}");
    for word in repair {
        assert!(named.contains(word), "'{word}' is not named: {fault}");
    }
}

/// Progress that says a number.
pub(crate) fn progress(n: u64) -> Option<Progress> {
    Some(Progress { reads: BTreeMap::new(), state: serde_json::json!({ "n": n }) })
}

pub(crate) fn at(topic: Topic, partition: u16, offset: u64) -> BTreeMap<(Topic, Partition), Place> {
    BTreeMap::from([((topic, Partition(partition)), Place { epoch: 0, offset })])
}

pub(crate) fn limit(wait: Duration) -> PollLimit {
    PollLimit { records_max: 1_000, bytes_max: usize::MAX, wait }
}

/// Everything of a partition up to its end, from an offset on.
pub(crate) async fn read_from(log: &KafkaLog, topic: Topic, partition: u16, offset: u64) -> Vec<Fetched> {
    let end = ok(log.range(topic, Partition(partition)).await).end;
    let mut consumer = ok(log.consumer(at(topic, partition, offset)).await);
    read_to(&mut *consumer, (topic, Partition(partition)), end).await
}

pub(crate) async fn read_to(consumer: &mut dyn Consumer, of: (Topic, Partition), end: Place) -> Vec<Fetched> {
    let (mut all, until) = (Vec::new(), Instant::now() + LONG);
    while consumer.reached()[&of] < end {
        assert!(Instant::now() < until, "{:?} of {end:?} reached", consumer.reached());
        all.extend(ok(consumer.poll(limit(Duration::from_millis(20))).await));
    }
    all
}

/// Key and value as text.
pub(crate) fn shown(fetched: &[Fetched]) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fetched.iter().map(|one| (text(&one.record.key), one.record.value.as_deref().map(text))).collect()
}

/// A client of Kafka's own making.
pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client
}

pub(crate) fn raw_producer(brokers: &str) -> BaseProducer {
    client(brokers).create().expect("a producer")
}

/// A producer in whose transactions nothing is decided unless the test says so.
pub(crate) fn raw_transaction(brokers: &str, id: &str, timeout: Duration) -> BaseProducer {
    let producer: BaseProducer = client(brokers)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        .set("message.timeout.ms", timeout.as_millis().to_string())
        .create()
        .expect("a producer");
    producer.init_transactions(LONG).expect("a transactional producer");
    producer.begin_transaction().expect("a transaction");
    producer
}

pub(crate) fn deliver(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
}

/// A record as it stands on the broker.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What stands in a partition, as any consumer sees it.
pub(crate) fn raw_records(brokers: &str, topic: &str, partition: i32) -> Vec<Raw> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer");
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, partition, Offset::Beginning).expect("a place");
    consumer.assign(&places).expect("assigned");
    let (mut all, until) = (Vec::new(), Instant::now() + LONG);
    loop {
        assert!(Instant::now() < until, "{topic}/{partition} does not end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return all,
            Some(Err(e)) => panic!("{topic}/{partition}: {e}"),
            Some(Ok(message)) => all.push(Raw {
                offset: message.offset(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message
                    .headers()
                    .into_iter()
                    .flat_map(|headers| headers.iter())
                    .map(|h| {
                        (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())
                    })
                    .collect(),
            }),
        }
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    client(brokers).create().expect("an admin")
}

/// Gives a topic of a log other settings: those that it needs, but for some.
pub(crate) async fn alter(config: &KafkaLogConfig, topic: Topic, others: &[(&str, &str)]) {
    let name = format!("{}.{}", config.prefix, topic.name());
    let tombstones = config.tombstone_retention_ms.to_string();
    let mut settings = match topic.retention() {
        Retention::Compacted => {
            BTreeMap::from([("cleanup.policy", "compact"), ("delete.retention.ms", &*tombstones)])
        }
        Retention::Time => BTreeMap::from([("retention.ms", "-1"), ("retention.bytes", "-1")]),
    };
    settings.extend(others.iter().copied());
    let mut change = AlterConfig::new(ResourceSpecifier::Topic(&name));
    for (key, value) in settings {
        change = change.set(key, value);
    }
    let done = admin(&config.brokers).alter_configs([&change], &AdminOptions::new()).await.expect("altered");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

pub(crate) async fn make_topic(brokers: &str, name: &str, partitions: i32) {
    let new = NewTopic::new(name, partitions, rdkafka::admin::TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(LONG));
    let done = admin(brokers).create_topics([&new], &options).await.expect("made");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

pub(crate) async fn delete_topic(brokers: &str, name: &str) {
    let options = AdminOptions::new().operation_timeout(Some(LONG));
    let done = admin(brokers).delete_topics(&[name], &options).await.expect("deleted");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

pub(crate) async fn add_partitions(brokers: &str, name: &str, partitions: usize) {
    let more = NewPartitions::new(name, partitions);
    let options = AdminOptions::new().operation_timeout(Some(LONG));
    let done = admin(brokers).create_partitions([&more], &options).await.expect("grown");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}
