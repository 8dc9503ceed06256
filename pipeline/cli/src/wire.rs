//! The one place that knows which connectors exist: topology in, everything a worker runs out.
//!
//! ```text
//! log.path/log         the embedded log
//!         /rosters     the rosters' stores
//!         /spill/NAME  large transactions of a source
//!         /clickhouse/NAME  the embedded engine of a sink
//!         /lake/NAME   files of a lake on their way
//!
//! With the log on Kafka, all but the first in log.path/WORKER: workers of one machine may share a topology file.
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rollcall_clickhouse_embedded::{ClickHouseEmbedded, Config as EngineConfig, Login, Running};
use rollcall_log_embedded::EmbeddedLog;
use rollcall_log_kafka::KafkaLog;
use rollcall_model::{Fault, Log, Sink, Source, SourceName};
use rollcall_platforms::Platform;
use rollcall_runtime::topology::{
    ClickHouseSinkConfig, ClickHouseUrl, CountsSinkConfig, EmbeddedLogConfig, LogConfig,
    PostgresSourceConfig, Preset, Secret, SinkConfig, SourceConfig, Topology,
};
use rollcall_runtime::{FlushBounds, JoinWorkers, ListMembers, Mirror, SinkWiring, SourceWiring, Wiring};
use rollcall_sink_clickhouse::{ClickHouseReader, ClickHouseSink};
use rollcall_sink_counts::CountsSink;
use rollcall_source_postgres::PostgresSource;
use serde_json::json;

use crate::wire_dynamodb::DynamoDb;
use crate::wire_kafka::{join, kafka_config};
use crate::wire_lake::{archive, lake};

/// The embedded log's folder inside log.path.
pub(crate) const LOG_FOLDER: &str = "log";
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What a worker runs, and the engines that must outlive it.
#[derive(Debug)]
pub(crate) struct Wired {
    /// What runs.
    pub(crate) wiring: Wiring,
    /// Embedded ClickHouse engines: stopped once nothing writes to them any more.
    pub(crate) engines: Vec<Running>,
}

/// Opens the log, starts embedded engines, and says how each source and sink is started.
pub(crate) async fn wire(topology: &Topology, worker: &str) -> Result<Wired, Fault> {
    let folder = &worker_folder(&topology.log, worker);
    let mut engines = Vec::new();
    let (mut sinks, mut lakes, mut archives) = (Vec::new(), Vec::new(), BTreeMap::new());
    let (mut members, mut mirror) = (None, None);
    // The log first: its lock keeps a second worker out of the folder before anything else is touched.
    let Opened { log: opened, join } = open_log(&topology.log, worker).await?;
    for (name, sink) in &topology.sinks {
        match sink {
            SinkConfig::ClickHouse(config) => {
                let settings = clickhouse(name, config, folder, &mut engines).await?;
                members = members.or(Some(list_members(&settings)?));
                mirror = mirror.or(Some(look_into(&settings)?));
                sinks.push(SinkWiring {
                    name: name.clone(),
                    start: start_clickhouse(settings),
                    lists_members: true,
                    flush: flush_bounds(config.flush_rows, config.flush_bytes, config.flush_age_ms),
                    reconcile_every: None,
                });
            }
            SinkConfig::Counts(config) => sinks.push(SinkWiring {
                name: name.clone(),
                start: start_counts(counts(name, config)),
                lists_members: false,
                flush: flush_bounds(config.flush_rows, config.flush_bytes, config.flush_age_ms),
                reconcile_every: Some(Duration::from_millis(config.reconcile_ms)),
            }),
            SinkConfig::Parquet(config) => {
                lakes.push(lake(name, config, folder)?);
                archives.insert(name.clone(), archive(name, config, folder)?);
            }
        }
    }
    let (mut sources, mut item_sources) = (Vec::new(), Vec::new());
    let is_edge = |(_, source): &(&SourceName, &SourceConfig)| matches!(source, SourceConfig::DynamoDb(_));
    let edge = topology.sources.iter().find(is_edge).map(|(name, _)| name.clone());
    for (name, source) in &topology.sources {
        match source {
            SourceConfig::Postgres(config) => sources.push(postgres(name, config, edge.clone(), folder)?),
            SourceConfig::DynamoDb(config) => {
                item_sources.push(DynamoDb::new(name, config, folder)?.wiring())
            }
        }
    }
    let wiring = Wiring {
        worker: worker.to_owned(),
        join,
        log: opened,
        store_path: folder.join("rosters"),
        sources,
        item_sources,
        sinks,
        lakes,
        archives,
        members,
        mirror,
        tombstone_retention: DAY * topology.log.tombstone_retention_days(),
    };
    Ok(Wired { wiring, engines })
}

fn flush_bounds(rows: u32, bytes: u64, age_ms: u64) -> FlushBounds {
    FlushBounds {
        rows: rows as usize,
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        age: Duration::from_millis(age_ms),
    }
}

/// Where a worker keeps what is its own: beside the log where it is alone with it, else in a folder of its name.
pub(crate) fn worker_folder(log: &LogConfig, worker: &str) -> PathBuf {
    match log {
        LogConfig::Embedded(log) => log.path.clone(),
        LogConfig::Kafka(log) => log.keys.path.join(worker),
    }
}

/// An open log, and how its workers share it.
struct Opened {
    log: Arc<dyn Log>,
    join: Option<JoinWorkers>,
}

async fn open_log(config: &LogConfig, worker: &str) -> Result<Opened, Fault> {
    match config {
        LogConfig::Embedded(config) => Ok(Opened { log: open_embedded(config).await?, join: None }),
        LogConfig::Kafka(config) => {
            let log = Arc::new(KafkaLog::open(kafka_config(config)).await?);
            let join = join(Arc::clone(&log), worker.to_owned());
            Ok(Opened { log, join: Some(join) })
        }
    }
}

/// The log's settings as its connector wants them.
pub(crate) fn embedded_config(log: &EmbeddedLogConfig) -> rollcall_log_embedded::EmbeddedLogConfig {
    rollcall_log_embedded::EmbeddedLogConfig {
        partitions: log.partitions,
        retention_ms: log.retention_ms,
        retention_bytes_max: log.retention_bytes_max,
        bytes_max: log.bytes_max,
        tombstone_retention_ms: u64::from(log.tombstone_retention_days) * DAY.as_secs() * 1_000,
        ..Default::default()
    }
}

async fn open_embedded(log: &EmbeddedLogConfig) -> Result<Arc<dyn Log>, Fault> {
    let config = embedded_config(log);
    let path = log.path.join(LOG_FOLDER);
    // It reads what a crash left, which may take a while.
    let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(path, config)).await;
    Ok(Arc::new(opened.map_err(|error| Fault::bug("opening the log broke off").from_source(error))??))
}

/// The source's settings as its connector wants them.
pub(crate) fn postgres_config(
    name: &SourceName,
    config: &PostgresSourceConfig,
    folder: &Path,
) -> Result<rollcall_source_postgres::PostgresSourceConfig, Fault> {
    let platform = Platform::by_name(config.platform.name(), name.clone(), None).ok_or_else(|| {
        Fault::config(format!("this version knows no platform '{}'", config.platform.name()))
    })?;
    Ok(rollcall_source_postgres::PostgresSourceConfig {
        schema: config.schema.clone(),
        page_rows: config.page_rows as usize,
        pages_in_flight: config.pages_in_flight as usize,
        heartbeat_ms: config.heartbeat_ms,
        large_transaction_rows: config.large_transaction_rows as usize,
        ..rollcall_source_postgres::PostgresSourceConfig::new(
            name.clone(),
            config.url.expose(),
            &config.slot,
            &config.publication,
            platform.tables(),
            folder.join("spill").join(name.as_str()),
        )
    })
}

fn postgres(
    name: &SourceName,
    config: &PostgresSourceConfig,
    edge: Option<SourceName>,
    folder: &Path,
) -> Result<SourceWiring, Fault> {
    let settings = postgres_config(name, config, folder)?;
    Ok(SourceWiring {
        name: name.clone(),
        platform: config.platform.name(),
        edge,
        start: Box::new(move |from, backfill| {
            let settings = settings.clone();
            Box::pin(async move {
                let source = PostgresSource::start(settings, from, backfill).await?;
                Ok(Box::new(source) as Box<dyn Source>)
            })
        }),
    })
}

/// The sink's settings as its connector wants them; an embedded engine is started for it.
async fn clickhouse(
    name: &str,
    config: &ClickHouseSinkConfig,
    folder: &Path,
    engines: &mut Vec<Running>,
) -> Result<rollcall_sink_clickhouse::ClickHouseSinkConfig, Fault> {
    let password = config.password.as_ref().map(Secret::expose);
    let url = match &config.url {
        ClickHouseUrl::Http(url) => url.expose().to_owned(),
        ClickHouseUrl::Embedded => {
            let mut engine = EngineConfig::new(folder.join("clickhouse").join(name));
            engine.listen = config.listen.unwrap_or(engine.listen);
            engine.login = config
                .user
                .as_ref()
                .zip(password)
                .map(|(user, password)| Login { user: user.clone(), password: password.to_owned() });
            let running = ClickHouseEmbedded::start(engine).await?;
            let url = running.url();
            engines.push(running);
            url
        }
    };
    Ok(clickhouse_at(name, config, url))
}

/// The sink's settings as its connector wants them, of a server that is there.
pub(crate) fn clickhouse_at(
    name: &str,
    config: &ClickHouseSinkConfig,
    url: String,
) -> rollcall_sink_clickhouse::ClickHouseSinkConfig {
    rollcall_sink_clickhouse::ClickHouseSinkConfig {
        user: config.user.clone(),
        password: config.password.as_ref().map(|password| password.expose().to_owned()),
        database: config.database.clone(),
        preset: clickhouse_preset(config.preset),
        ..rollcall_sink_clickhouse::ClickHouseSinkConfig::new(name, url)
    }
}

fn start_clickhouse(config: rollcall_sink_clickhouse::ClickHouseSinkConfig) -> rollcall_runtime::StartSink {
    Box::new(move || {
        let config = config.clone();
        Box::pin(async move { Ok(Box::new(ClickHouseSink::connect(config)?) as Box<dyn Sink>) })
    })
}

fn list_members(config: &rollcall_sink_clickhouse::ClickHouseSinkConfig) -> Result<ListMembers, Fault> {
    let reader = Arc::new(ClickHouseReader::connect(config)?);
    Ok(Box::new(move |request| {
        let reader = Arc::clone(&reader);
        Box::pin(async move {
            let (query, cursor) = (request.query.as_deref(), request.cursor.as_deref());
            let key = request.environment_key.as_str();
            let page = reader.members(&request.segment_id, key, query, request.limit, cursor).await?;
            let members: Vec<_> = page
                .members
                .iter()
                .map(|member| {
                    json!({
                        "id": member.id, "identifier": member.identifier,
                        "identity_key": member.identity_key, "since_us": member.since_us,
                    })
                })
                .collect();
            Ok(json!({"members": members, "cursor": page.next_cursor}))
        })
    }))
}

fn look_into(config: &rollcall_sink_clickhouse::ClickHouseSinkConfig) -> Result<Mirror, Fault> {
    let reader = ClickHouseReader::connect(config)?;
    let sifting = reader.clone();
    Ok(Mirror {
        sift: Box::new(move |sieve, page| {
            let reader = sifting.clone();
            Box::pin(async move { reader.sift(&sieve, &page).await })
        }),
        candidates: Box::new(move |sieve, after, limit| {
            let reader = reader.clone();
            Box::pin(async move { reader.candidates(&sieve, after.as_deref(), limit).await })
        }),
    })
}

/// The sink's settings as its connector wants them.
pub(crate) fn counts(name: &str, config: &CountsSinkConfig) -> rollcall_sink_counts::CountsSinkConfig {
    rollcall_sink_counts::CountsSinkConfig {
        name: name.to_owned(),
        url: config.url.expose().to_owned(),
        preset: counts_preset(config.preset),
        schema: config.schema.clone(),
    }
}

fn start_counts(config: rollcall_sink_counts::CountsSinkConfig) -> rollcall_runtime::StartSink {
    Box::new(move || {
        let config = config.clone();
        Box::pin(async move { Ok(Box::new(CountsSink::connect(config).await?) as Box<dyn Sink>) })
    })
}

/// The preset in the words of the counts sink.
pub(crate) fn counts_preset(preset: Preset) -> rollcall_sink_counts::Preset {
    match preset {
        Preset::Native => rollcall_sink_counts::Preset::Native,
        Preset::Flagsmith => rollcall_sink_counts::Preset::Flagsmith,
    }
}

/// The preset in the words of the ClickHouse sink.
pub(crate) fn clickhouse_preset(preset: Preset) -> rollcall_sink_clickhouse::Preset {
    match preset {
        Preset::Native => rollcall_sink_clickhouse::Preset::Native,
        Preset::Flagsmith => rollcall_sink_clickhouse::Preset::Flagsmith,
    }
}
