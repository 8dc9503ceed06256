//! The section `log` of type kafka: its keys, and the sections in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::config::{DEFAULT_PARTITIONS, DEFAULT_RETENTION_MS, DEFAULT_TOMBSTONE_RETENTION_DAYS};
use super::reader::{Reader, Section, join};
use super::schema::{Key, Kind, Need, Shape, object, section};
use super::secret::Secret;
use super::tree::{At, Node};

/// A group of brokers has copies enough to lose one.
const DEFAULT_REPLICATION_FACTOR: u64 = 3;
/// One of three may be away.
const DEFAULT_MIN_INSYNC_REPLICAS: u64 = 2;
/// Longer than any commit; readers wait so long behind what a dead worker left open and nobody takes over.
const DEFAULT_TRANSACTION_TIMEOUT_MS: u64 = 20_000;
/// A pause of a busy machine is shorter; a dead worker's tasks go elsewhere after it.
const DEFAULT_SESSION_TIMEOUT_MS: u64 = 10_000;
const YEAR_MS: u64 = 366 * 24 * 3_600_000;
const MECHANISMS: &[&str] = &["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"];
const REGISTRY_URL: Kind = Kind::Url { schemes: &["http", "https"], embedded: false };
const NESTED: &[&str] = &["type", "tls", "sasl", "schema_registry", "client", "topic_settings"];

section! {
    /// The log on Apache Kafka: any number of workers share its tasks.
    KafkaKeys {
        /// Some brokers of the cluster: host:9092, separated by commas.
        brokers: String = Kind::Text, Need::Required;
        /// What its topics, transactions and group begin with; another log on the same cluster has another.
        prefix: String = Kind::Text, Need::Word("rollcall");
        /// Folder of what this worker keeps (the rosters' stores, large transactions), in a folder per worker; a relative one starts at the folder of this file.
        path: PathBuf = Kind::Text, Need::Word("./data");
        /// Number of partitions: the most that can work at the same time. Fixed when the log is made.
        partitions: u16 = Kind::Int { min: 1, max: 1024 }, Need::Number(DEFAULT_PARTITIONS as u64);
        /// Copies of each partition.
        replication_factor: u16 = Kind::Int { min: 1, max: 32 }, Need::Number(DEFAULT_REPLICATION_FACTOR);
        /// Copies that must have a record before it counts as written.
        min_insync_replicas: u16 = Kind::Int { min: 1, max: 32 }, Need::Number(DEFAULT_MIN_INSYNC_REPLICAS);
        /// How long topics with retention by time keep what every task has read, in milliseconds.
        retention_ms: u64 = Kind::Int { min: 60_000, max: 10 * YEAR_MS }, Need::Number(DEFAULT_RETENTION_MS);
        /// How long a deleted identity is remembered, in days; a store or position older than that is rebuilt.
        tombstone_retention_days: u32 = Kind::Int { min: 1, max: 3_650 }, Need::Number(DEFAULT_TOMBSTONE_RETENTION_DAYS as u64);
        /// How long a commit may take, in milliseconds; readers wait so long behind what a dead worker left open.
        transaction_timeout_ms: u32 = Kind::Int { min: 1_000, max: 900_000 }, Need::Number(DEFAULT_TRANSACTION_TIMEOUT_MS);
        /// A worker that is silent for so long, in milliseconds, loses its tasks to the others.
        session_timeout_ms: u32 = Kind::Int { min: 1_000, max: 1_800_000 }, Need::Number(DEFAULT_SESSION_TIMEOUT_MS);
    }
}

section! {
    /// TLS to the brokers.
    KafkaTls {
        /// PEM file of the authorities trusted; without it, the system's.
        ca_file: Option<String> = Kind::Text, Need::Optional;
        /// PEM file of the client's certificate chain.
        certificate_file: Option<String> = Kind::Text, Need::Optional;
        /// PEM file of the client's key.
        key_file: Option<String> = Kind::Text, Need::Optional;
    }
}

section! {
    /// How the client says who it is.
    KafkaSasl {
        /// plain, scram-sha-256, scram-sha-512 or oauthbearer.
        mechanism: String = Kind::Choice(MECHANISMS), Need::Required;
        /// The user; for oauthbearer, the client.
        user: String = Kind::Text, Need::Required;
        /// The user's password; for oauthbearer, the client's secret.
        password: Secret = Kind::Secret, Need::Required;
        /// oauthbearer: where tokens come from.
        token_url: Option<Secret> = REGISTRY_URL, Need::Optional;
        /// oauthbearer: what the token is for.
        scope: Option<String> = Kind::Text, Need::Optional;
    }
}

section! {
    /// The registry of the schemas in which public topics are written as Avro.
    SchemaRegistry {
        /// http(s)://host:8081
        url: Secret = REGISTRY_URL, Need::Required;
        /// The user, where it asks for one.
        user: Option<String> = Kind::Text, Need::Optional;
        /// The user's password.
        password: Option<Secret> = Kind::Secret, Need::Optional;
    }
}

/// The log on Kafka, with the sections in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KafkaLogConfig {
    /// Its own keys.
    pub keys: KafkaKeys,
    /// TLS, if any.
    pub tls: Option<KafkaTls>,
    /// Who the client is, if the brokers ask.
    pub sasl: Option<KafkaSasl>,
    /// Public topics in Avro, if a registry is set.
    pub schema_registry: Option<SchemaRegistry>,
    /// Settings of librdkafka, by its own names.
    pub client: BTreeMap<String, String>,
    /// Settings that topics are made with, by Kafka's names.
    pub topic_settings: BTreeMap<String, String>,
}

/// Reads the section.
pub(super) fn read(reader: &mut Reader<'_>, at: At, node: &Node) -> Option<KafkaLogConfig> {
    let section = reader.section(at, node, "log", &KafkaKeys::SHAPE, NESTED)?;
    let keys = KafkaKeys::read(reader, &section);
    let tls = nested(reader, &section, "tls", &KafkaTls::SHAPE, KafkaTls::read);
    let sasl = nested(reader, &section, "sasl", &KafkaSasl::SHAPE, KafkaSasl::read);
    let registry = nested(reader, &section, "schema_registry", &SchemaRegistry::SHAPE, SchemaRegistry::read);
    let client = settings(reader, &section, "client");
    let topic_settings = settings(reader, &section, "topic_settings");
    let (keys, sasl) = (keys?, sasl?);
    check(reader, at, &keys, sasl.as_ref());
    Some(KafkaLogConfig {
        keys,
        tls: tls?,
        sasl,
        schema_registry: registry?,
        client: client?,
        topic_settings: topic_settings?,
    })
}

fn check(reader: &mut Reader<'_>, at: At, keys: &KafkaKeys, sasl: Option<&KafkaSasl>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if keys.prefix.len() > 100 || !keys.prefix.chars().all(plain) || keys.prefix.ends_with('.') {
        let what = "is the beginning of topic names: letters, digits, '-', '_' and '.', at most 100";
        reader.fault(at, "log.prefix", what);
    }
    if keys.min_insync_replicas > keys.replication_factor {
        reader.fault(
            at,
            "log.min_insync_replicas",
            "is more than log.replication_factor: nothing could be written",
        );
    }
    if let Some(sasl) = sasl {
        let is_oauth = sasl.mechanism == "oauthbearer";
        if is_oauth != sasl.token_url.is_some() {
            let what = "belongs to the mechanism oauthbearer, and that needs it";
            reader.fault(at, "log.sasl.token_url", what);
        }
    }
}

/// A section in the section, if it stands there; `None` after a fault.
fn nested<T>(
    reader: &mut Reader<'_>,
    log: &Section<'_>,
    name: &str,
    shape: &'static Shape,
    read: impl FnOnce(&mut Reader<'_>, &Section<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let Some((at, node)) = log.node(name) else { return Some(None) };
    let section = reader.section(at, node, &join("log", name), shape, &[])?;
    read(reader, &section).map(Some)
}

/// A map of names and values that are passed on.
fn settings(reader: &mut Reader<'_>, log: &Section<'_>, name: &str) -> Option<BTreeMap<String, String>> {
    let Some((_, node)) = log.node(name) else { return Some(BTreeMap::new()) };
    let path = join("log", name);
    let mut all = BTreeMap::new();
    let mut whole = true;
    for (_, key, node) in reader.entries(node, &path)? {
        match reader.scalar(node, &join(&path, key), Kind::Text) {
            Some(value) => drop(all.insert(key.to_owned(), value)),
            None => whole = false,
        }
    }
    whole.then_some(all)
}

/// The section's JSON Schema.
pub(super) fn json_schema() -> Value {
    let mut schema = object(&KafkaKeys::SHAPE, Some(("kafka", true)));
    let map = |what: &str| json!({"type": "object", "description": what, "additionalProperties": {"type": ["string", "number", "boolean"]}});
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("tls".to_owned(), object(&KafkaTls::SHAPE, None));
        properties.insert("sasl".to_owned(), object(&KafkaSasl::SHAPE, None));
        properties.insert("schema_registry".to_owned(), object(&SchemaRegistry::SHAPE, None));
        properties.insert("client".to_owned(), map("Settings of librdkafka, by its own names."));
        properties.insert(
            "topic_settings".to_owned(),
            map("Settings that topics are made with beside those that they need, by Kafka's names."),
        );
    }
    schema
}
