//! What a Kafka log is opened with, and the client settings that follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rollcall_model::{Fault, Topic};
use rollcall_schema_registry::RegistryConfig;

/// Settings that exactness hangs on: never taken from `log.client`.
const RESERVED: &[(&str, &str)] = &[
    ("acks", "every commit waits for all in-sync replicas"),
    ("allow.auto.create.topics", "a topic that is gone is an error, never made anew"),
    ("auto.offset.reset", "a place that is gone is an error, never a reset"),
    ("bootstrap.servers", "that is log.brokers"),
    ("delivery.timeout.ms", "it follows from log.transaction_timeout_ms"),
    ("enable.auto.commit", "places live in the topic progress"),
    ("enable.auto.offset.store", "places live in the topic progress"),
    ("enable.idempotence", "commits are transactions"),
    ("group.id", "it follows from log.prefix"),
    ("group.instance.id", "that is --worker-id"),
    ("group.protocol", "tasks are spread by the classic protocol"),
    ("isolation.level", "only what is committed may be read"),
    ("message.max.bytes", "it follows from the topics' max.message.bytes"),
    ("message.timeout.ms", "it follows from log.transaction_timeout_ms"),
    ("metadata.broker.list", "that is log.brokers"),
    ("partition.assignment.strategy", "tasks are moved one by one"),
    ("partitioner", "partitions are written explicitly"),
    ("request.required.acks", "every commit waits for all in-sync replicas"),
    ("session.timeout.ms", "that is log.session_timeout_ms"),
    ("transaction.timeout.ms", "that is log.transaction_timeout_ms"),
    ("transactional.id", "it follows from the task"),
];
/// Also reserved, because they stand under keys of their own.
const OWN_KEYS: &[(&str, &str)] =
    &[("ssl.", "log.tls"), ("sasl.", "log.sasl"), ("security.protocol", "log.tls and log.sasl")];

/// Settings that topics are made and held to by us: never taken from `log.topic_settings`.
const RESERVED_OF_TOPICS: &[(&str, &str)] = &[
    ("cleanup.policy", "each topic has its own"),
    ("delete.retention.ms", "that is log.tombstone_retention_days"),
    ("min.insync.replicas", "that is log.min_insync_replicas"),
    ("retention.bytes", "Rollcall drops what may go, never before every task has read it"),
    ("retention.ms", "that is log.retention_ms"),
    ("unclean.leader.election.enable", "a broker that missed commits would become the leader"),
];
/// The longest name that Kafka gives a topic.
const TOPIC_NAME_CHARS_MAX: usize = 249;

/// How the brokers are spoken to over TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsConfig {
    /// PEM file of the authorities trusted; the system's when `None`.
    pub ca_file: Option<String>,
    /// PEM file of the client's certificate chain.
    pub certificate_file: Option<String>,
    /// PEM file of the client's key.
    pub key_file: Option<String>,
}

impl TlsConfig {
    fn files(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("ca_file", &self.ca_file),
            ("certificate_file", &self.certificate_file),
            ("key_file", &self.key_file),
        ];
        all.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)))
    }
}

/// How the client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum SaslConfig {
    /// User and password, as they are.
    Plain {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// User and password, proven without sending it.
    Scram {
        /// SHA-512 rather than SHA-256.
        sha_512: bool,
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token of an OAuth 2 server, by client credentials.
    OauthBearer(OauthConfig),
}

/// Where tokens come from.
#[derive(Clone, PartialEq, Eq)]
pub struct OauthConfig {
    /// The token endpoint.
    pub token_url: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// What the token is for.
    pub scope: Option<String>,
}

impl fmt::Debug for SaslConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mechanism())
    }
}

impl fmt::Debug for OauthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthConfig").field("token_url", &self.token_url).finish_non_exhaustive()
    }
}

impl SaslConfig {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { sha_512: false, .. } => "SCRAM-SHA-256",
            Self::Scram { sha_512: true, .. } => "SCRAM-SHA-512",
            Self::OauthBearer(_) => "OAUTHBEARER",
        }
    }
}

/// Tells the time, in milliseconds since 1970: what records get, and what retention counts from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }
    pub(crate) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A log on Kafka.
#[derive(Clone, Debug)]
pub struct KafkaLogConfig {
    /// `host:port`, separated by commas: some brokers of the cluster.
    pub brokers: String,
    /// What its topics, transactions and group begin with. Two logs of one cluster differ in it.
    pub prefix: String,
    /// Partitions of the identity topics: fixed when the log is made.
    pub partitions: u16,
    /// Copies of each partition.
    pub replication_factor: u16,
    /// Copies that must have a record before it counts as written.
    pub min_insync_replicas: u16,
    /// How long topics with retention by time keep what every task has read.
    pub retention_ms: u64,
    /// How long a tombstone of a compacted topic is kept.
    pub tombstone_retention_ms: u64,
    /// How long a commit may take; what a dead worker left open blocks readers that long at most.
    pub transaction_timeout_ms: u32,
    /// A worker that is silent for so long loses its tasks to the others.
    pub session_timeout_ms: u32,
    /// How long a broker may take to answer.
    pub request_timeout_ms: u32,
    /// How often what retention lets go is dropped.
    pub upkeep_interval_ms: u64,
    /// TLS to the brokers, if any.
    pub tls: Option<TlsConfig>,
    /// Who the client is, if the brokers ask.
    pub sasl: Option<SaslConfig>,
    /// Public topics are written in Avro, with their schemas in this registry.
    pub schema_registry: Option<RegistryConfig>,
    /// Settings of librdkafka, by its own names.
    pub client: BTreeMap<String, String>,
    /// Settings that topics are made with, beside those that they need.
    pub topic_settings: BTreeMap<String, String>,
    /// The time.
    pub clock: Clock,
}

/// Longer than any commit, short enough for readers that wait behind a dead worker's.
pub const DEFAULT_TRANSACTION_TIMEOUT_MS: u32 = 20_000;
/// Short enough to be taken over from soon, long enough for a pause of a busy machine.
pub const DEFAULT_SESSION_TIMEOUT_MS: u32 = 10_000;
/// What a broker may take to answer.
pub const DEFAULT_REQUEST_TIMEOUT_MS: u32 = 10_000;
/// Dropping is cheap, and nothing hurries.
pub const DEFAULT_UPKEEP_INTERVAL_MS: u64 = 60_000;

impl KafkaLogConfig {
    /// A log with defaults; nothing but brokers, prefix and partitions has to be said.
    #[must_use]
    pub fn new(brokers: impl Into<String>, prefix: impl Into<String>, partitions: u16) -> Self {
        const DAY_MS: u64 = 24 * 3_600_000;
        Self {
            brokers: brokers.into(),
            prefix: prefix.into(),
            partitions,
            replication_factor: 3,
            min_insync_replicas: 2,
            retention_ms: 7 * DAY_MS,
            tombstone_retention_ms: 36 * DAY_MS,
            transaction_timeout_ms: DEFAULT_TRANSACTION_TIMEOUT_MS,
            session_timeout_ms: DEFAULT_SESSION_TIMEOUT_MS,
            request_timeout_ms: DEFAULT_REQUEST_TIMEOUT_MS,
            upkeep_interval_ms: DEFAULT_UPKEEP_INTERVAL_MS,
            tls: None,
            sasl: None,
            schema_registry: None,
            client: BTreeMap::new(),
            topic_settings: BTreeMap::new(),
            clock: Clock::system(),
        }
    }

    pub(crate) fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.prefix, topic.name())
    }

    /// The empty topic whose partitions are the tasks.
    pub(crate) fn tasks_topic(&self) -> String {
        format!("{}.tasks", self.prefix)
    }

    /// The group that spreads the tasks. Readers bear its name too, so that one right covers both.
    pub(crate) fn group(&self) -> String {
        format!("{}.workers", self.prefix)
    }

    pub(crate) fn transactional_id(&self, task: &str) -> String {
        format!("{}.{task}", self.prefix)
    }

    pub(crate) fn partitions_of(&self, topic: Topic) -> u16 {
        if topic.is_partitioned() { self.partitions } else { 1 }
    }

    pub(crate) fn request_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.request_timeout_ms.into())
    }

    /// Refuses what can't be passed through.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.partitions == 0 {
            return Err(Fault::config("log.partitions is 0").repair("set log.partitions to 1 or more"));
        }
        let longest = Topic::ALL.iter().map(|topic| topic.name().len() + 1).max().unwrap_or_default();
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.prefix.is_empty()
            || !self.prefix.chars().all(is_good)
            || self.prefix.len() + longest > TOPIC_NAME_CHARS_MAX
        {
            return Err(Fault::config(format!(
                "log.prefix '{}' is nothing that topics' names may begin with",
                self.prefix
            ))
            .repair("set log.prefix to letters, digits, '.', '_' and '-', not too many of them"));
        }
        if self.min_insync_replicas == 0 || self.min_insync_replicas > self.replication_factor {
            let (least, copies) = (self.min_insync_replicas, self.replication_factor);
            return Err(Fault::config(format!(
                "log.min_insync_replicas is {least}, with log.replication_factor {copies}: no commit could succeed"
            ))
            .repair(format!("set log.min_insync_replicas to something from 1 to {}", copies.max(1))));
        }
        for (key, file) in self.tls.iter().flat_map(TlsConfig::files) {
            std::fs::File::open(file).map_err(|e| {
                Fault::config(format!("log.tls.{key} is {file}, which can't be read")).from_source(e).repair(
                    format!("set log.tls.{key} to a PEM file that this process may read: ls -l {file}"),
                )
            })?;
        }
        for name in self.topic_settings.keys() {
            if let Some((_, why)) = RESERVED_OF_TOPICS.iter().find(|(reserved, _)| name == reserved) {
                return Err(Fault::config(format!("log.topic_settings.{name} can't be set: {why}"))
                    .repair(format!("remove log.topic_settings.{name}")));
            }
        }
        for name in self.client.keys() {
            let own = OWN_KEYS.iter().find(|(prefix, _)| name.starts_with(prefix));
            let reserved = RESERVED.iter().find(|(reserved, _)| name == reserved);
            if let Some((_, key)) = own {
                return Err(Fault::config(format!("log.client.{name} stands under a key of its own"))
                    .repair(format!("set {key}")));
            }
            if let Some((_, why)) = reserved {
                return Err(Fault::config(format!("log.client.{name} can't be set: {why}"))
                    .repair(format!("remove log.client.{name}")));
            }
        }
        Ok(())
    }

    /// What every client begins with.
    pub(crate) fn base(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("client.id", &self.prefix);
        // A broker that is back is found soon.
        client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.client {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.certificate_file),
                ("ssl.key.location", &tls.key_file),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    client.set(name, file);
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            client.set("sasl.mechanism", sasl.mechanism());
            if let SaslConfig::Plain { user, password } | SaslConfig::Scram { user, password, .. } = sasl {
                client.set("sasl.username", user).set("sasl.password", password);
            }
        }
        client
    }

    /// A reader. `committed`: as far as everything is decided, without what was taken back.
    pub(crate) fn reader(&self, committed: bool) -> ClientConfig {
        let mut client = self.base();
        client
            .set("group.id", self.group())
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" });
        // Memory is per reader, and each task has one.
        self.set_unless_given(&mut client, "queued.max.messages.kbytes", "16384");
        self.set_unless_given(&mut client, "queued.min.messages", "10000");
        self.set_unless_given(&mut client, "fetch.queue.backoff.ms", "20");
        self.set_unless_given(&mut client, "fetch.error.backoff.ms", "100");
        client
    }

    /// Sets what `log.client` may set otherwise.
    pub(crate) fn set_unless_given(&self, client: &mut ClientConfig, name: &str, value: &str) {
        if !self.client.contains_key(name) {
            client.set(name, value);
        }
    }
}
