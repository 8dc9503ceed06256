//! topology.yaml → [`Topology`], pure: text and environment in, typed values or every fault out.
//!
//! ```text
//! text ──tree──▶ located nodes ──reader + schema──▶ Topology ──Agreement::of──▶ what the log must agree on
//!                     (every fault with line and column)          (secrets and tuning left out)
//! ```
//!
//! The keys form a closed set, each written once in `config.rs` beside the struct it fills; [`json_schema`] prints
//! them. Secrets come only by `${NAME}` from the environment and are shown nowhere.

mod agreement;
mod config;
mod dynamodb;
mod kafka;
mod parquet;
mod reader;
mod schema;
mod secret;
mod sections;
mod tree;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_dynamodb;
#[cfg(test)]
mod tests_kafka;
#[cfg(test)]
mod tests_parquet;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

pub use agreement::{AgreedPart, Agreement, Difference};
pub use config::{
    ClickHouseSinkConfig, CountsSinkConfig, EmbeddedLogConfig, Gates, HttpConfig, LogConfig, Platform,
    PostgresSourceConfig, Preset, SinkConfig, SourceConfig,
};
pub use config::{
    DEFAULT_BYTES_MAX, DEFAULT_CLICKHOUSE_FLUSH_AGE_MS, DEFAULT_CLICKHOUSE_FLUSH_ROWS,
    DEFAULT_COUNTS_FLUSH_AGE_MS, DEFAULT_COUNTS_FLUSH_ROWS, DEFAULT_FLUSH_BYTES, DEFAULT_HEARTBEAT_MS,
    DEFAULT_LARGE_TRANSACTION_ROWS, DEFAULT_LISTEN, DEFAULT_PAGE_ROWS, DEFAULT_PAGES_IN_FLIGHT,
    DEFAULT_PARTITIONS, DEFAULT_RECONCILE_MS, DEFAULT_RETENTION_BYTES_MAX, DEFAULT_RETENTION_MS,
    DEFAULT_TOMBSTONE_RETENTION_DAYS,
};
pub use dynamodb::DynamoDbSourceConfig;
pub use kafka::{KafkaKeys, KafkaLogConfig, KafkaSasl, KafkaTls, SchemaRegistry};
pub use parquet::ParquetSinkConfig;
pub use secret::{ClickHouseUrl, Secret};

use rollcall_model::SourceName;

/// One fault of a topology.yaml.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key it is about, from the root: `sinks.counts.url`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What makes it right, where that is more than the message says.
    pub repair: Option<String>,
}

impl ConfigFault {
    fn at(at: tree::At, key: &str, what: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, key: key.to_owned(), what: what.into(), repair: None }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.repair {
            Some(repair) => write!(f, "\n  repair: {repair}"),
            None => Ok(()),
        }
    }
}

/// What runs: a log, the sources that fill it, the gates, the sinks it feeds, and where it is operated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Where everything meets.
    pub log: LogConfig,
    /// The sources by name.
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// What happens to the identities of each organisation.
    pub gates: Gates,
    /// The sinks by name.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// Where it is operated and shown.
    pub http: HttpConfig,
}

impl Topology {
    /// Reads a topology.yaml.
    ///
    /// # Errors
    /// Every fault of the text at once, in its order. After a fault of YAML itself nothing further can be read, so
    /// that one stands alone.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigFault>> {
        read_with(text, env, sections::read)
    }

    /// Reads the section `http` alone: a command that only asks a running instance needs neither the rest nor the
    /// variables that the rest names.
    ///
    /// # Errors
    /// The faults of that section, and unknown keys at the root.
    pub fn parse_http(
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<HttpConfig, Vec<ConfigFault>> {
        read_with(text, env, sections::read_http_alone)
    }

    /// The same with relative paths taken from `folder`, the one the file stands in.
    #[must_use]
    pub fn rooted_at(mut self, folder: &Path) -> Self {
        match &mut self.log {
            // By components, so that no `./` is left in the middle of messages.
            LogConfig::Embedded(log) => log.path = folder.join(&log.path).components().collect(),
            LogConfig::Kafka(log) => {
                log.keys.path = folder.join(&log.keys.path).components().collect();
                if let Some(tls) = &mut log.tls {
                    for file in
                        [&mut tls.ca_file, &mut tls.certificate_file, &mut tls.key_file].into_iter().flatten()
                    {
                        *file = folder.join(&*file).to_string_lossy().into_owned();
                    }
                }
            }
        }
        for sink in self.sinks.values_mut() {
            if let SinkConfig::Parquet(sink) = sink {
                sink.root_at(folder);
            }
        }
        self
    }
}

/// Every key as a JSON Schema (draft 2020-12): what `rollcall check --schema` prints, and what editors complete from.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    config::json_schema()
}

fn read_with<T>(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut reader::Reader<'_>, &tree::Node) -> Option<T>,
) -> Result<T, Vec<ConfigFault>> {
    let root = tree::parse(text).map_err(|fault| vec![fault])?.ok_or_else(|| {
        vec![ConfigFault {
            repair: Some("start from the example in README.md".to_owned()),
            ..ConfigFault::at(tree::At::START, "", "the file is empty")
        }]
    })?;
    let mut reader = reader::Reader { env, faults: Vec::new() };
    let value = read(&mut reader, &root);
    let mut faults = reader.faults;
    match value {
        Some(value) if faults.is_empty() => Ok(value),
        Some(_) | None => {
            faults.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
            Err(faults)
        }
    }
}
