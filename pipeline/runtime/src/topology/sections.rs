//! The tree of the file → [`Topology`]: which section stands where, and what they must be to each other.

use std::collections::BTreeMap;

use rollcall_model::{GateMode, OrganisationId, SourceName};

use super::Topology;
use super::config::{
    ClickHouseSinkConfig, CountsSinkConfig, EmbeddedLogConfig, GATE_MODES, GATES, Gates, HttpConfig,
    LOG_TYPES, LogConfig, NAME_PATTERN, PostgresSourceConfig, ROOT, SINK_TYPES, SOURCE_TYPES, SinkConfig,
    SourceConfig,
};
use super::dynamodb::{self, DynamoDbSourceConfig};
use super::kafka;
use super::parquet::{self, ParquetSinkConfig};
use super::reader::{Reader, Section, join};
use super::schema::{Kind, prose};
use super::secret::ClickHouseUrl;
use super::tree::{At, Node, NodeValue};

/// Reads the whole file; `None` when something essential had a fault.
pub(super) fn read(reader: &mut Reader<'_>, root: &Node) -> Option<Topology> {
    let section = reader.section(At::START, root, "", &ROOT, &[])?;
    let form: Option<u16> = reader.value(&section, "rollcall");
    let log = required(reader, section.node("log"), "log").and_then(|(at, node)| read_log(reader, at, node));
    let sources = required(reader, section.node("sources"), "sources").and_then(|(at, node)| {
        if node.is_null() || matches!(&node.value, NodeValue::Map(entries) if entries.is_empty()) {
            reader.fault(at, "sources", "there is no source: nothing would be read");
        }
        let sources = named(reader, node, "sources", read_source)?;
        Some(sources.into_iter().map(|(name, source)| (SourceName::from(name), source)).collect())
    });
    let gates = match section.node("gates") {
        Some((at, node)) => read_gates(reader, at, node),
        None => Some(Gates { default: GateMode::On, organisations: BTreeMap::new() }),
    };
    let sinks = match section.node("sinks") {
        Some((_, node)) => named(reader, node, "sinks", read_sink),
        None => Some(BTreeMap::new()),
    };
    let http = read_http(reader, &section);
    form?;
    let topology = Topology { log: log?, sources: sources?, gates: gates?, sinks: sinks?, http: http? };
    check_spread(reader, &section, &topology);
    dynamodb::check_together(reader, &section, &topology.sources);
    let is_shared = matches!(topology.log, LogConfig::Kafka(_));
    parquet::check_together(reader, &section, &topology.sinks, is_shared);
    Some(topology)
}

/// What lives in one process can't be where tasks move between workers.
fn check_spread(reader: &mut Reader<'_>, root: &Section<'_>, topology: &Topology) {
    if matches!(topology.log, LogConfig::Embedded(_)) {
        return;
    }
    let at = root.node("sinks").map_or(At::START, |(at, _)| at);
    for (name, sink) in &topology.sinks {
        if let SinkConfig::ClickHouse(sink) = sink
            && sink.url == ClickHouseUrl::Embedded
        {
            reader.fault_with(
                at,
                &join(&join("sinks", name), "url"),
                "'embedded' lives inside one worker, and with log.type kafka the sink moves between workers",
                "give the URL of a ClickHouse server: http(s)://host:8123",
            );
        }
    }
}

fn required<'n>(
    reader: &mut Reader<'_>,
    found: Option<(At, &'n Node)>,
    name: &str,
) -> Option<(At, &'n Node)> {
    if found.is_none() {
        let doc = ROOT.keys.iter().find(|key| key.name == name).map_or(String::new(), |key| prose(key.doc));
        reader.fault_with(At::START, name, format!("'{name}' is missing"), doc);
    }
    found
}

/// A map of named sections. The names become part of topics and tasks, so they are plain words.
fn named<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    read: impl Fn(&mut Reader<'_>, At, &str, &Node) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let mut all = BTreeMap::new();
    for (at, name, node) in reader.entries(node, path)? {
        let path = join(path, name);
        let plain = name.len() <= 32
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        // Both names stand for writers and stores of Rollcall's own in the log.
        if !plain || name == "topology" || name == "roster" {
            let what =
                format!("'{name}' can't be a name: {NAME_PATTERN}, and neither 'topology' nor 'roster'");
            reader.fault(at, &path, what);
        }
        // Read all the same: its own faults should show too.
        if let Some(value) = read(reader, at, name, node) {
            all.insert(name.to_owned(), value);
        }
    }
    Some(all)
}

/// The `type` of a section that has kinds; a name that is one of the kinds stands for it.
fn kind<'k>(
    reader: &mut Reader<'_>,
    at: At,
    node: &Node,
    path: &str,
    name: &str,
    kinds: &[&'k str],
) -> Option<&'k str> {
    let path = join(path, "type");
    let NodeValue::Map(entries) = &node.value else {
        // The caller opens the section and reports that it is none.
        return kinds.first().copied();
    };
    let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "type") else {
        let by_name = kinds.iter().find(|kind| **kind == name).copied();
        if by_name.is_none() {
            reader.fault_with(at, &path, "'type' is missing", format!("use one of: {}", kinds.join(", ")));
        }
        return by_name;
    };
    let text: String = reader.scalar(node, &path, Kind::Text)?;
    let found = kinds.iter().find(|kind| **kind == text).copied();
    if found.is_none() {
        reader.unknown(node.at, &path, &text, "type", kinds);
    }
    found
}

fn read_log(reader: &mut Reader<'_>, at: At, node: &Node) -> Option<LogConfig> {
    if kind(reader, at, node, "log", "", LOG_TYPES)? == "kafka" {
        return kafka::read(reader, at, node).map(|log| LogConfig::Kafka(Box::new(log)));
    }
    let section = reader.section(at, node, "log", &EmbeddedLogConfig::SHAPE, &["type"])?;
    let log = EmbeddedLogConfig::read(reader, &section)?;
    if log.retention_bytes_max > log.bytes_max {
        reader.fault(at, "log.retention_bytes_max", "is more than log.bytes_max, at which the sources wait");
    }
    Some(LogConfig::Embedded(log))
}

fn read_source(reader: &mut Reader<'_>, at: At, name: &str, node: &Node) -> Option<SourceConfig> {
    let path = join("sources", name);
    if kind(reader, at, node, &path, name, SOURCE_TYPES)? == "dynamodb" {
        let section = reader.section(at, node, &path, &DynamoDbSourceConfig::SHAPE, &["type"])?;
        let source = DynamoDbSourceConfig::read(reader, &section)?;
        dynamodb::check(reader, at, &path, &source);
        return Some(SourceConfig::DynamoDb(Box::new(source)));
    }
    let section = reader.section(at, node, &path, &PostgresSourceConfig::SHAPE, &["type"])?;
    PostgresSourceConfig::read(reader, &section).map(SourceConfig::Postgres)
}

fn read_sink(reader: &mut Reader<'_>, at: At, name: &str, node: &Node) -> Option<SinkConfig> {
    let path = join("sinks", name);
    match kind(reader, at, node, &path, name, SINK_TYPES)? {
        "clickhouse" => {
            let section = reader.section(at, node, &path, &ClickHouseSinkConfig::SHAPE, &["type"])?;
            let sink = ClickHouseSinkConfig::read(reader, &section)?;
            check_clickhouse(reader, at, &path, &sink);
            Some(SinkConfig::ClickHouse(sink))
        }
        "parquet" => {
            let section = reader.section(at, node, &path, &ParquetSinkConfig::SHAPE, &["type"])?;
            let sink = ParquetSinkConfig::read(reader, &section)?;
            parquet::check(reader, at, &path, &sink);
            Some(SinkConfig::Parquet(Box::new(sink)))
        }
        _ => {
            let section = reader.section(at, node, &path, &CountsSinkConfig::SHAPE, &["type"])?;
            CountsSinkConfig::read(reader, &section).map(SinkConfig::Counts)
        }
    }
}

fn check_clickhouse(reader: &mut Reader<'_>, at: At, path: &str, sink: &ClickHouseSinkConfig) {
    match &sink.url {
        ClickHouseUrl::Http(_) if sink.listen.is_some() => {
            reader.fault(
                at,
                &join(path, "listen"),
                "is of the embedded engine; a server listens where it does",
            );
        }
        ClickHouseUrl::Http(_) => {}
        ClickHouseUrl::Embedded => {
            let open = sink.listen.is_some_and(|listen| !listen.ip().is_loopback());
            if open && (sink.user.is_none() || sink.password.is_none()) {
                let what =
                    "is reachable from elsewhere and shows personal data: user and password are required";
                reader.fault(at, &join(path, "listen"), what);
            }
        }
    }
    if sink.password.is_some() && sink.user.is_none() {
        reader.fault(at, &join(path, "user"), "'user' is missing: a password needs one");
    }
}

fn read_gates(reader: &mut Reader<'_>, at: At, node: &Node) -> Option<Gates> {
    let section = reader.section(at, node, "gates", &GATES, &[])?;
    let default = reader.value(&section, "default");
    let mut organisations = BTreeMap::new();
    if let Some((_, node)) = section.node("organisations") {
        for (at, id, node) in reader.entries(node, "gates.organisations")? {
            let path = join("gates.organisations", id);
            if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                reader.fault(at, &path, format!("'{id}' is not the id of an organisation"));
            }
            if let Some(mode) = reader.scalar(node, &path, Kind::Choice(GATE_MODES)) {
                organisations.insert(OrganisationId::from(id), mode);
            }
        }
    }
    Some(Gates { default: default?, organisations })
}

/// Reads the section `http` alone: all that a command needs which asks a running instance.
pub(super) fn read_http_alone(reader: &mut Reader<'_>, root: &Node) -> Option<HttpConfig> {
    let section = reader.section(At::START, root, "", &ROOT, &[])?;
    read_http(reader, &section)
}

fn read_http(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<HttpConfig> {
    let nothing = Node { at: At::START, value: NodeValue::Map(Vec::new()) };
    let (at, node) = root.node("http").unwrap_or((At::START, &nothing));
    let section = reader.section(at, node, "http", &HttpConfig::SHAPE, &[])?;
    let http = HttpConfig::read(reader, &section)?;
    if !http.listen.ip().is_loopback() && http.token.is_none() {
        reader.fault_with(
            at,
            "http.token",
            format!(
                "is required: http.listen {} is reachable from elsewhere and shows personal data",
                http.listen
            ),
            "token: ${ROLLCALL_TOKEN}, or listen on 127.0.0.1",
        );
    }
    Some(http)
}
