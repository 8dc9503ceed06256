//! The sections of a topology.yaml: each key once, with what it means, what it takes and what holds without it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use rollcall_model::{GateMode, OrganisationId};
use serde_json::{Value, json};

use super::dynamodb::DynamoDbSourceConfig;
use super::kafka::KafkaLogConfig;
use super::parquet::ParquetSinkConfig;
use super::reader::{Reader, Section};
use super::schema::{Key, Kind, Need, Shape, choice, object, prose, section};
use super::secret::{ClickHouseUrl, Secret};

/// One roster per partition: twice the cores of a small machine, few enough for a laptop's file handles.
pub const DEFAULT_PARTITIONS: u16 = 8;
/// A week: a sink that was down over a holiday goes on where it stopped.
pub const DEFAULT_RETENTION_MS: u64 = 7 * 24 * 3_600_000;
/// About ten million changes of 400 bytes, per partition.
pub const DEFAULT_RETENTION_BYTES_MAX: u64 = 4 << 30;
/// Before compression, which takes about two thirds off: the disk of a small machine.
pub const DEFAULT_BYTES_MAX: u64 = 128 << 30;
/// Longer than any export of DynamoDB can look back (35 days).
pub const DEFAULT_TOMBSTONE_RETENTION_DAYS: u32 = 36;
/// A page is one statement, waits in memory for its mark, and is one commit of the log.
pub const DEFAULT_PAGE_ROWS: u32 = 1_000;
/// Enough to keep one Postgres connection busy while a page waits for its mark in the stream.
pub const DEFAULT_PAGES_IN_FLIGHT: u32 = 4;
/// An idle database moves its slot within seconds, at the price of twelve small records a minute.
pub const DEFAULT_HEARTBEAT_MS: u64 = 5_000;
/// Below this a transaction is one commit of the log; above, it is spilled and committed in pieces.
pub const DEFAULT_LARGE_TRANSACTION_ROWS: u32 = 50_000;
/// ClickHouse wants few, large inserts; a second is what people don't notice.
pub const DEFAULT_CLICKHOUSE_FLUSH_AGE_MS: u64 = 1_000;
/// The size from which ClickHouse's inserts get no faster.
pub const DEFAULT_CLICKHOUSE_FLUSH_ROWS: u32 = 100_000;
/// Counts should follow at once; 20 ms still folds a busy moment into one transaction.
pub const DEFAULT_COUNTS_FLUSH_AGE_MS: u64 = 20;
/// One transaction's worth of rows that holds its locks for some tens of milliseconds.
pub const DEFAULT_COUNTS_FLUSH_ROWS: u32 = 10_000;
/// A batch in memory, whatever its rows weigh.
pub const DEFAULT_FLUSH_BYTES: u64 = 64 << 20;
/// Another writer's mistake shows for a minute at most, at the price of one small query a minute.
pub const DEFAULT_RECONCILE_MS: u64 = 60_000;
/// Reachable from this machine alone: what it shows is personal data.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
const YEAR_MS: u64 = 366 * 24 * HOUR_MS;
const POSTGRES: Kind = Kind::Url { schemes: &["postgres", "postgresql"], embedded: false };
const CLICKHOUSE: Kind = Kind::Url { schemes: &["http", "https"], embedded: true };
const PRESET: Kind = Kind::Choice(&["native", "flagsmith"]);
pub(super) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,31}$";
pub(super) const SOURCE_TYPES: &[&str] = &["postgres", "dynamodb"];
pub(super) const SINK_TYPES: &[&str] = &["clickhouse", "counts", "parquet"];
pub(super) const LOG_TYPES: &[&str] = &["embedded", "kafka"];
pub(super) const GATE_MODES: &[&str] = &["on", "off", "exclude"];
pub(super) const GATE_DEFAULTS: &[&str] = &["on", "off"];

section! {
    /// The log on local disk.
    EmbeddedLogConfig {
        /// Folder of the log and the rosters' stores; a relative one starts at the folder of this file.
        path: PathBuf = Kind::Text, Need::Required;
        /// Number of partitions: the most that can work at the same time. Fixed when the log is made.
        partitions: u16 = Kind::Int { min: 1, max: 1024 }, Need::Number(DEFAULT_PARTITIONS as u64);
        /// How long topics with retention by time keep what every task has read, in milliseconds.
        retention_ms: u64 = Kind::Int { min: 60_000, max: 10 * YEAR_MS }, Need::Number(DEFAULT_RETENTION_MS);
        /// How many bytes each partition of such a topic keeps at most of what every task has read.
        retention_bytes_max: u64 = Kind::Int { min: 1 << 20, max: 1 << 50 }, Need::Number(DEFAULT_RETENTION_BYTES_MAX);
        /// How large the log may grow in all, in bytes before compression; at that size the sources wait.
        bytes_max: u64 = Kind::Int { min: 16 << 20, max: 1 << 50 }, Need::Number(DEFAULT_BYTES_MAX);
        /// How long a deleted identity is remembered, in days; a store or position older than that is rebuilt.
        tombstone_retention_days: u32 = Kind::Int { min: 1, max: 3_650 }, Need::Number(DEFAULT_TOMBSTONE_RETENTION_DAYS as u64);
    }
}

section! {
    /// A Postgres database, read by logical replication.
    PostgresSourceConfig {
        /// Whose tables they are.
        platform: Platform = Kind::Choice(&["flagsmith"]), Need::Required;
        /// postgres://user:${PASSWORD}@host:5432/database, or all of it from a variable; sslmode as libpq means it.
        url: Secret = POSTGRES, Need::Required;
        /// The replication slot, made at the first start; `rollcall teardown` drops it.
        slot: String = Kind::PostgresName, Need::Word("rollcall");
        /// The publication of the tables read.
        publication: String = Kind::PostgresName, Need::Word("rollcall");
        /// The schema the platform's tables are in.
        schema: String = Kind::PostgresName, Need::Word("public");
        /// Identities that a backfill reads in one statement.
        page_rows: u32 = Kind::Int { min: 1, max: 1_000_000 }, Need::Number(DEFAULT_PAGE_ROWS as u64);
        /// Pages that a backfill reads ahead of the stream.
        pages_in_flight: u32 = Kind::Int { min: 1, max: 64 }, Need::Number(DEFAULT_PAGES_IN_FLIGHT as u64);
        /// How often an idle database is written a message, so that its slot moves, in milliseconds.
        heartbeat_ms: u64 = Kind::Int { min: 100, max: HOUR_MS }, Need::Number(DEFAULT_HEARTBEAT_MS);
        /// Rows from which a transaction is spilled to disk and committed to the log in pieces.
        large_transaction_rows: u32 = Kind::Int { min: 100, max: 10_000_000 }, Need::Number(DEFAULT_LARGE_TRANSACTION_ROWS as u64);
    }
}

section! {
    /// ClickHouse: IDENTITIES and segment_members, exact, in database `rollcall`.
    ClickHouseSinkConfig {
        /// `embedded` (the engine inside, its data beside the log), or http(s)://host:8123.
        url: ClickHouseUrl = CLICKHOUSE, Need::Required;
        /// The user; without it, the server's default user.
        user: Option<String> = Kind::Text, Need::Optional;
        /// The user's password.
        password: Option<Secret> = Kind::Secret, Need::Optional;
        /// Where the embedded engine takes queries of others; without it, a free port of the loopback.
        listen: Option<SocketAddr> = Kind::Address, Need::Optional;
        /// The platform's database, where preset `flagsmith` puts the view IDENTITIES.
        database: String = Kind::Text, Need::Word("default");
        /// `native`: our tables alone; `flagsmith`: also the view that the platform reads.
        preset: Preset = PRESET, Need::Word("native");
        /// The longest a record waits for its batch, in milliseconds.
        flush_age_ms: u64 = Kind::Int { min: 1, max: HOUR_MS }, Need::Number(DEFAULT_CLICKHOUSE_FLUSH_AGE_MS);
        /// Records that make a batch full.
        flush_rows: u32 = Kind::Int { min: 1, max: 1_000_000 }, Need::Number(DEFAULT_CLICKHOUSE_FLUSH_ROWS as u64);
        /// Bytes that make a batch full.
        flush_bytes: u64 = Kind::Int { min: 1 << 10, max: 1 << 30 }, Need::Number(DEFAULT_FLUSH_BYTES);
    }
}

section! {
    /// Counts per segment and environment, in Postgres.
    CountsSinkConfig {
        /// postgres://user:${PASSWORD}@host:5432/database, or all of it from a variable; sslmode as libpq means it.
        url: Secret = POSTGRES, Need::Required;
        /// `native`: table segment_membership; `flagsmith`: the platform's own count table.
        preset: Preset = PRESET, Need::Word("native");
        /// The schema the count tables are in.
        schema: String = Kind::PostgresName, Need::Word("public");
        /// The longest a count waits for its transaction, in milliseconds.
        flush_age_ms: u64 = Kind::Int { min: 1, max: HOUR_MS }, Need::Number(DEFAULT_COUNTS_FLUSH_AGE_MS);
        /// Records that make a transaction full.
        flush_rows: u32 = Kind::Int { min: 1, max: 1_000_000 }, Need::Number(DEFAULT_COUNTS_FLUSH_ROWS as u64);
        /// Bytes that make a transaction full.
        flush_bytes: u64 = Kind::Int { min: 1 << 10, max: 1 << 30 }, Need::Number(DEFAULT_FLUSH_BYTES);
        /// How often the rows are compared with the ledger and repaired, in milliseconds.
        reconcile_ms: u64 = Kind::Int { min: 1_000, max: 24 * HOUR_MS }, Need::Number(DEFAULT_RECONCILE_MS);
    }
}

section! {
    /// The HTTP interface: health, metrics, and what the commands speak to.
    HttpConfig {
        /// Where it listens. Anywhere but on the loopback it needs a token.
        listen: SocketAddr = Kind::Address, Need::Word(DEFAULT_LISTEN);
        /// The bearer token that every request must bring.
        token: Option<Secret> = Kind::Secret, Need::Optional;
    }
}

/// The root and the gates hold sections and maps, so their keys stand apart from those of the flat sections.
pub(super) const ROOT: Shape = Shape {
    doc: &["What Rollcall runs. A value may be taken from the environment: ${NAME}."],
    keys: &[
        key("rollcall", &["Version of this file's form: 1."], Kind::Int { min: 1, max: 1 }, Need::Required),
        key("log", &["Where everything meets."], Kind::Text, Need::Required),
        key("sources", &["The sources by name."], Kind::Text, Need::Required),
        key("gates", &["What happens to the identities of each organisation."], Kind::Text, Need::Optional),
        key("sinks", &["The sinks by name."], Kind::Text, Need::Optional),
        key("http", &["Where it is operated and shown."], Kind::Text, Need::Optional),
    ],
};
pub(super) const GATES: Shape = Shape {
    doc: &[
        "What happens to the identities of each organisation: on, off (kept, not judged), exclude (dropped).",
    ],
    keys: &[
        key("default", &["For organisations not named."], Kind::Choice(GATE_DEFAULTS), Need::Word("on")),
        key("organisations", &["By the organisation's id."], Kind::Text, Need::Optional),
    ],
};

const fn key(name: &'static str, doc: &'static [&'static str], kind: Kind, need: Need) -> Key {
    Key { name, doc, kind, need }
}

/// Whose rows a source reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Platform {
    /// Flagsmith.
    Flagsmith,
}

impl Platform {
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flagsmith => "flagsmith",
        }
    }
}

/// Whose shape a sink's tables have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Rollcall's own.
    Native,
    /// Flagsmith's, beside or instead of our own.
    Flagsmith,
}

/// Where everything meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogConfig {
    /// On local disk, in process.
    Embedded(EmbeddedLogConfig),
    /// On Apache Kafka.
    Kafka(Box<KafkaLogConfig>),
}

impl LogConfig {
    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions,
            Self::Kafka(log) => log.keys.partitions,
        }
    }

    /// How long a deleted identity is remembered.
    #[must_use]
    pub fn tombstone_retention_days(&self) -> u32 {
        match self {
            Self::Embedded(log) => log.tombstone_retention_days,
            Self::Kafka(log) => log.keys.tombstone_retention_days,
        }
    }
}

/// A source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceConfig {
    /// A Postgres database.
    Postgres(PostgresSourceConfig),
    /// A DynamoDB table.
    DynamoDb(Box<DynamoDbSourceConfig>),
}

impl SourceConfig {
    /// Its `type` in the file.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::DynamoDb(_) => "dynamodb",
        }
    }
    /// Where it is, as a URL, with what may be secret.
    #[must_use]
    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(source) => source.url.expose().to_owned(),
            Self::DynamoDb(source) => match &source.endpoint {
                Some(endpoint) => format!("{}/{}", endpoint.expose(), source.table),
                None => format!("https://dynamodb.{}.amazonaws.com/{}", source.region, source.table),
            },
        }
    }
    /// Whose rows it reads.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        match self {
            Self::Postgres(source) => source.platform,
            Self::DynamoDb(source) => source.platform,
        }
    }
}

/// A sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SinkConfig {
    /// ClickHouse.
    ClickHouse(ClickHouseSinkConfig),
    /// Counts in Postgres.
    Counts(CountsSinkConfig),
    /// The lake.
    Parquet(Box<ParquetSinkConfig>),
}

impl SinkConfig {
    /// Its `type` in the file.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::ClickHouse(_) => "clickhouse",
            Self::Counts(_) => "counts",
            Self::Parquet(_) => "parquet",
        }
    }
    /// Where it is, with what may be secret.
    #[must_use]
    pub(super) fn url(&self) -> String {
        match self {
            Self::ClickHouse(sink) => match &sink.url {
                ClickHouseUrl::Embedded => String::new(),
                ClickHouseUrl::Http(url) => url.expose().to_owned(),
            },
            Self::Counts(sink) => sink.url.expose().to_owned(),
            Self::Parquet(sink) => sink.url(),
        }
    }
}

/// What happens to the identities of each organisation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gates {
    /// For organisations not named.
    pub default: GateMode,
    /// Those named.
    pub organisations: BTreeMap<OrganisationId, GateMode>,
}

/// The JSON Schema of the whole file.
pub(super) fn json_schema() -> Value {
    let postgres = |written| object(&PostgresSourceConfig::SHAPE, Some(("postgres", written)));
    let dynamodb = |written| object(&DynamoDbSourceConfig::SHAPE, Some(("dynamodb", written)));
    let clickhouse = |written| object(&ClickHouseSinkConfig::SHAPE, Some(("clickhouse", written)));
    let counts = |written| object(&CountsSinkConfig::SHAPE, Some(("counts", written)));
    let parquet = |written| object(&ParquetSinkConfig::SHAPE, Some(("parquet", written)));
    let names = json!({"pattern": NAME_PATTERN, "not": {"enum": ["topology", "roster"]}});
    let doc = |shape: &Shape, name: &str| {
        shape.keys.iter().find(|key| key.name == name).map_or(String::new(), |key| prose(key.doc))
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rollcall topology",
        "description": prose(ROOT.doc),
        "$defs": {"from_environment": {"type": "string", "pattern": "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$"}},
        "type": "object",
        "required": ["rollcall", "log", "sources"],
        "additionalProperties": false,
        "properties": {
            "rollcall": {"const": 1, "description": doc(&ROOT, "rollcall")},
            "log": {"oneOf": [object(&EmbeddedLogConfig::SHAPE, Some(("embedded", true))), super::kafka::json_schema()]},
            "sources": {
                "type": "object",
                "description": doc(&ROOT, "sources"),
                "minProperties": 1,
                "propertyNames": names,
                "properties": {"postgres": postgres(false), "dynamodb": dynamodb(false)},
                "additionalProperties": {"oneOf": [postgres(true), dynamodb(true)]},
            },
            "gates": {
                "type": "object",
                "description": prose(GATES.doc),
                "additionalProperties": false,
                "properties": {
                    "default": {"anyOf": [choice(GATE_DEFAULTS), {"$ref": "#/$defs/from_environment"}],
                        "description": doc(&GATES, "default"), "default": "on"},
                    "organisations": {"type": "object", "description": doc(&GATES, "organisations"),
                        "additionalProperties": choice(GATE_MODES)},
                },
            },
            "sinks": {
                "type": "object",
                "description": doc(&ROOT, "sinks"),
                "propertyNames": names,
                "properties": {"clickhouse": clickhouse(false), "counts": counts(false), "parquet": parquet(false)},
                "additionalProperties": {"oneOf": [clickhouse(true), counts(true), parquet(true)]},
            },
            "http": object(&HttpConfig::SHAPE, None),
        },
    })
}
