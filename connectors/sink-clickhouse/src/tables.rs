//! The tables and views: what they must be, what is there, and what to do about a difference.
//!
//! ```text
//! prepare: whose log? ─▶ each table: engine, ORDER BY, PARTITION BY, column types ─▶ make what is missing ─▶ views
//!            │                              │
//!            └── another's: refuse          └── would lose or double rows: refuse, naming the repair
//! ```

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use rollcall_model::{Fault, LogId};
use serde::Deserialize;

use crate::config::Preset;
use crate::wire::{REBUILD, Wire};

/// The database of the exact tables.
pub(crate) const DATABASE: &str = "rollcall";
/// The database where a rebuild fills new ones.
pub(crate) const REBUILD_DATABASE: &str = "rollcall_rebuild";
/// The oldest ClickHouse whose JSON type can be told to leave dots in keys alone.
const OLDEST_VERSION: (u32, u32) = (25, 8);

const CREATE_DATABASE: &str = include_str!("../../../schemas/clickhouse/database.sql");
const CREATE_SINK: &str = include_str!("../../../schemas/clickhouse/sink.sql");
const VIEWS: [&str; 2] = [
    include_str!("../../../schemas/clickhouse/segment_members.sql"),
    include_str!("../../../schemas/clickhouse/identity_segments.sql"),
];
const FLAGSMITH_VIEW: &str = include_str!("../../../schemas/clickhouse/flagsmith_identities.sql");

/// A table of the sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The columns of its ORDER BY: what makes a row a new version of another.
    pub(crate) key: &'static [&'static str],
    pub(crate) ddl: &'static str,
    /// Columns written, in the order of the Arrow schema, with the type they must have.
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

const MEMBERSHIP_COLUMNS: &[(&str, &str)] = &[
    ("segment_id", "String"),
    ("environment_id", "String"),
    ("platform_environment_id", "String"),
    ("id", "String"),
    ("since", "DateTime64(6, 'UTC')"),
    ("inserted_at", "DateTime64(6, 'UTC')"),
    ("is_deleted", "UInt8"),
    ("source", "String"),
    ("partition", "UInt16"),
    ("seq", "UInt64"),
    ("log_id", "String"),
];

/// The column that traits are sent in: not stored, cast to `traits` by the table (see its SQL for why).
pub(crate) const TRAITS_SENT: &str = "traits_json";

/// The merged images.
pub(crate) const IDENTITIES: Table = Table {
    name: "IDENTITIES",
    key: &["environment_id", "id"],
    ddl: include_str!("../../../schemas/clickhouse/identities.sql"),
    columns: &[
        ("environment_id", "String"),
        ("id", "String"),
        ("identifier", "String"),
        ("identity_key", "String"),
        (TRAITS_SENT, "String"),
        ("traits_tagged", "String"),
        ("system_traits", "String"),
        ("inserted_at", "DateTime64(6, 'UTC')"),
        ("is_deleted", "UInt8"),
        ("source", "String"),
        ("partition", "UInt16"),
        ("seq", "UInt64"),
        ("log_id", "String"),
    ],
};

/// Members by segment.
pub(crate) const MEMBERS_BY_SEGMENT: Table = Table {
    name: "members_by_segment",
    key: &["segment_id", "environment_id", "id"],
    ddl: include_str!("../../../schemas/clickhouse/members_by_segment.sql"),
    columns: MEMBERSHIP_COLUMNS,
};

/// Segments by member.
pub(crate) const MEMBERS_BY_IDENTITY: Table = Table {
    name: "members_by_identity",
    key: &["id", "environment_id", "segment_id"],
    ddl: include_str!("../../../schemas/clickhouse/members_by_identity.sql"),
    columns: MEMBERSHIP_COLUMNS,
};

/// The tables that hold rows.
pub(crate) const TABLES: [Table; 3] = [IDENTITIES, MEMBERS_BY_SEGMENT, MEMBERS_BY_IDENTITY];

/// Everything that `prepare` would make, as SQL for an administrator to run first, when Rollcall's user may not.
#[must_use]
pub fn setup_sql(preset: Preset, platform_database: &str) -> String {
    let mut sql = format!("{};\n\nUSE {DATABASE};\n\n", CREATE_DATABASE.trim_end());
    for ddl in TABLES.iter().map(|t| t.ddl).chain([CREATE_SINK]).chain(VIEWS) {
        sql.push_str(ddl.trim_end());
        sql.push_str(";\n\n");
    }
    match preset {
        Preset::Native => (),
        Preset::Flagsmith => {
            sql.push_str(&format!(
                "USE {};\n\n{};\n\n",
                quoted(platform_database),
                FLAGSMITH_VIEW.trim_end()
            ));
        }
    }
    sql
}

/// An identifier for SQL that people read; what is run takes names from the connection or as parameters.
fn quoted(identifier: &str) -> String {
    format!("`{}`", identifier.replace('\\', "\\\\").replace('`', "\\`"))
}

/// What `system.tables` says of one.
#[derive(Clone, Row, Deserialize, Debug)]
pub(crate) struct TableFacts {
    pub(crate) name: String,
    pub(crate) engine: String,
    engine_full: String,
    sorting_key: String,
    pub(crate) uuid: String,
    as_select: String,
}

#[derive(Row, Deserialize, Debug)]
struct ColumnFacts {
    table: String,
    name: String,
    column_type: String,
    is_in_partition_key: u8,
    default_kind: String,
    default_expression: String,
}

/// What a database holds.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) tables: BTreeMap<String, TableFacts>,
    columns: Vec<ColumnFacts>,
}

impl Inventory {
    pub(crate) async fn of(wire: &Wire, database: &str) -> Result<Self, Fault> {
        let tables = wire
            .query(
                "SELECT name, engine, engine_full, sorting_key, toString(uuid) AS uuid, as_select \
                 FROM system.tables WHERE database = {database:String}",
            )
            .param("database", database);
        let columns = wire
            .query(
                "SELECT table, name, type AS column_type, is_in_partition_key, default_kind, \
                 default_expression FROM system.columns WHERE database = {database:String}",
            )
            .param("database", database);
        let tables: Vec<TableFacts> = wire.fetch("look at the tables", tables).await?;
        let columns = wire.fetch("look at the columns", columns).await?;
        Ok(Self { tables: tables.into_iter().map(|t| (t.name.clone(), t)).collect(), columns })
    }

    /// Whether a table is one into which this sink's rows can go without loss.
    pub(crate) fn check(&self, table: &Table, facts: &TableFacts) -> Result<(), Fault> {
        let refuse = |what: String| {
            Err(Fault::refused(format!("ClickHouse table {DATABASE}.{} {what}", table.name)).repair(REBUILD))
        };
        if !facts.engine.ends_with("ReplacingMergeTree") {
            return refuse(format!(
                "has engine {}; it must be a ReplacingMergeTree(inserted_at, is_deleted), or old versions stay",
                facts.engine
            ));
        }
        let arguments = facts.engine_full.split_once(')').map_or("", |(head, _)| head);
        if !arguments.replace(' ', "").ends_with("inserted_at,is_deleted") {
            return refuse(
                "doesn't take inserted_at as its version and is_deleted as its deletion mark: \
                 the newest row would not win"
                    .into(),
            );
        }
        let sorted: BTreeSet<&str> = facts.sorting_key.split(',').map(str::trim).collect();
        let key: BTreeSet<&str> = table.key.iter().copied().collect();
        if sorted != key {
            return refuse(format!(
                "is ORDER BY ({}); it must be ORDER BY ({}), or rows of different identities would replace each \
                 other or versions of one would not",
                facts.sorting_key,
                table.key.join(", ")
            ));
        }
        let columns: BTreeMap<&str, &ColumnFacts> =
            self.columns.iter().filter(|c| c.table == table.name).map(|c| (c.name.as_str(), c)).collect();
        if let Some(column) = columns.values().find(|c| c.is_in_partition_key != 0 && !key.contains(&*c.name))
        {
            return refuse(format!(
                "is PARTITION BY something of {}, which differs between versions of one row",
                column.name
            ));
        }
        for (name, wanted) in table.columns {
            match columns.get(name) {
                None => return refuse(format!("has no column {name}")),
                Some(column) if !is_type(&column.column_type, wanted) => {
                    return refuse(format!("has column {name} {}; it must be {wanted}", column.column_type));
                }
                Some(_) => (),
            }
        }
        if table.name != IDENTITIES.name || casts_traits(&columns) {
            return Ok(());
        }
        refuse(format!(
            "must have traits JSON(…) DEFAULT CAST({TRAITS_SENT}, 'JSON(…)'), the same type twice, and {TRAITS_SENT} \
             String EPHEMERAL: else text that looks like a date would not stay text"
        ))
    }
}

/// Whether the table makes `traits` of what is sent, in one cast that obeys the insert's settings. The parameters of
/// `JSON` are an operator's choice.
fn casts_traits(columns: &BTreeMap<&str, &ColumnFacts>) -> bool {
    let (Some(traits), Some(sent)) = (columns.get("traits"), columns.get(TRAITS_SENT)) else { return false };
    let compact = |text: &str| text.replace([' ', '`'], "");
    let is_json = traits.column_type == "JSON" || traits.column_type.starts_with("JSON(");
    let cast = compact(&format!("CAST({TRAITS_SENT}, '{}')", traits.column_type));
    is_json && sent.default_kind == "EPHEMERAL" && compact(&traits.default_expression) == cast
}

/// A type is what it must be; `LowCardinality` is an operator's choice.
fn is_type(found: &str, wanted: &str) -> bool {
    found.strip_prefix("LowCardinality(").and_then(|t| t.strip_suffix(')')).unwrap_or(found) == wanted
}

/// Refuses a server that is too old to take every value as it is.
pub(crate) async fn check_version(wire: &Wire) -> Result<(), Fault> {
    #[derive(Row, Deserialize)]
    struct Version {
        version: String,
    }
    let found: Vec<Version> =
        wire.fetch("ask for the version", wire.query("SELECT version() AS version")).await?;
    let version = found.first().map_or("", |v| v.version.as_str());
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if number < OLDEST_VERSION {
        let (major, minor) = OLDEST_VERSION;
        return Err(Fault::config(format!(
            "ClickHouse {version} is too old: the sink needs {major}.{minor} or later, whose JSON type keeps traits as \
             they are"
        ))
        .repair(format!("upgrade ClickHouse to {major}.{minor} or later")));
    }
    Ok(())
}

/// Makes a database unless it is there; asking first, since a user of least privilege may not make one.
pub(crate) async fn create_database(wire: &Wire, database: &str) -> Result<(), Fault> {
    if !database_exists(wire, database).await? {
        let query =
            wire.query("CREATE DATABASE IF NOT EXISTS {database:Identifier}").param("database", database);
        wire.execute("make a database", query).await?;
    }
    Ok(())
}

pub(crate) async fn database_exists(wire: &Wire, database: &str) -> Result<bool, Fault> {
    #[derive(Row, Deserialize)]
    struct Found {
        databases: u64,
    }
    let query = wire
        .query("SELECT count() AS databases FROM system.databases WHERE name = {database:String}")
        .param("database", database);
    let found: Vec<Found> = wire.fetch("look for a database", query).await?;
    Ok(found.first().is_some_and(|f| f.databases > 0))
}

/// Makes a table unless it is there.
pub(crate) async fn create_table(wire: &Wire, database: &str, ddl: &str) -> Result<(), Fault> {
    wire.execute("make a table", wire.query_in(database, ddl)).await
}

/// Makes the sink's own table.
pub(crate) async fn create_notes(wire: &Wire, database: &str) -> Result<(), Fault> {
    create_table(wire, database, CREATE_SINK).await
}

/// Makes the views over the tables of a database.
pub(crate) async fn create_own_views(wire: &Wire, database: &str) -> Result<(), Fault> {
    for ddl in VIEWS {
        wire.execute("make a view", wire.query_in(database, ddl)).await?;
    }
    Ok(())
}

/// Makes the views, in the platform's database too where the preset says so.
pub(crate) async fn create_views(wire: &Wire, preset: Preset, platform_database: &str) -> Result<(), Fault> {
    create_own_views(wire, DATABASE).await?;
    match preset {
        Preset::Native => Ok(()),
        Preset::Flagsmith => create_flagsmith_view(wire, platform_database).await,
    }
}

async fn create_flagsmith_view(wire: &Wire, database: &str) -> Result<(), Fault> {
    if database == DATABASE {
        return Err(Fault::config(format!(
            "the platform's database can't be {DATABASE}, which holds Rollcall's own tables"
        ))
        .repair("set the sink's database to the one that the platform reads, usually default"));
    }
    if !database_exists(wire, database).await? {
        return Err(Fault::config(format!(
            "ClickHouse has no database {database}, where the platform reads"
        ))
        .repair(format!("CREATE DATABASE {}", quoted(database))));
    }
    let found = Inventory::of(wire, database).await?;
    if let Some(facts) = found.tables.get(IDENTITIES.name) {
        let is_ours = facts.engine == "View"
            && facts.as_select.contains(&format!("{DATABASE}.{} FINAL", IDENTITIES.name));
        if !is_ours {
            let (name, database) = (IDENTITIES.name, quoted(database));
            return Err(Fault::refused(format!(
                "{database}.{name} is there already, a {} that Rollcall doesn't feed; the platform would go on \
                 reading it",
                facts.engine
            ))
            .repair(format!(
                "turn the platform's own ClickHouse writers off, then: \
                 RENAME TABLE {database}.{name} TO {database}.{name}_before_rollcall"
            )));
        }
    }
    wire.execute("make a view", wire.query_in(database, FLAGSMITH_VIEW)).await
}

/// What the sink remembers beside its rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Notes {
    /// The log that feeds it.
    pub(crate) log_id: Option<LogId>,
    /// The new tables of a rebuild in progress: uuid by table name.
    pub(crate) rebuild: BTreeMap<String, String>,
}

const LOG_ID: &str = "log_id";
const REBUILD_TABLES: &str = "rebuild_tables";

impl Notes {
    pub(crate) async fn read(wire: &Wire) -> Result<Self, Fault> {
        let mut notes = Self::default();
        for Note { key, value } in read_notes(wire, DATABASE).await? {
            match key.as_str() {
                LOG_ID => notes.log_id = Some(LogId(value)),
                REBUILD_TABLES => {
                    notes.rebuild = serde_json::from_str(&value).map_err(|e| {
                        Fault::refused(format!("{DATABASE}.sink holds no readable {REBUILD_TABLES}"))
                            .from_source(e)
                            .repair(REBUILD)
                    })?;
                }
                // Written by a later version; nothing that this one has to know.
                _ => (),
            }
        }
        Ok(notes)
    }

    pub(crate) async fn write(&self, wire: &Wire) -> Result<(), Fault> {
        let rebuild = serde_json::to_string(&self.rebuild)
            .map_err(|e| Fault::bug("table names don't serialise").from_source(e))?;
        let log_id = self.log_id.as_ref().map(|id| (LOG_ID, id.0.clone()));
        // The log id last: a reset cut short is seen as the other log's tables, and done again.
        for (key, value) in [(REBUILD_TABLES, rebuild)].into_iter().chain(log_id) {
            write_note(wire, DATABASE, key, &value).await?;
        }
        Ok(())
    }
}

/// A row of `sink`.
#[derive(Row, Deserialize, Debug)]
pub(crate) struct Note {
    pub(crate) key: String,
    pub(crate) value: String,
}

pub(crate) async fn read_notes(wire: &Wire, database: &str) -> Result<Vec<Note>, Fault> {
    let query = wire.query_in(database, "SELECT key, value FROM sink FINAL");
    wire.fetch("read what the sink knows of itself", query).await
}

pub(crate) async fn write_note(wire: &Wire, database: &str, key: &str, value: &str) -> Result<(), Fault> {
    let query = wire
        .query_in(
            database,
            "INSERT INTO sink SELECT {key:String}, {value:String}, (SELECT max(version) FROM sink) + 1",
        )
        .param("key", key)
        .param("value", value);
    wire.execute("note what the sink knows of itself", query).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_may_be_narrower_in_storage_only() {
        assert!(is_type("LowCardinality(String)", "String"));
        assert!(!is_type("DateTime", "DateTime64(6, 'UTC')"));
        assert!(!is_type("Nullable(String)", "String"));
    }

    #[test]
    fn the_setup_script_names_the_platforms_database() {
        assert!(setup_sql(Preset::Flagsmith, "my`db").contains("USE `my\\`db`;"));
        assert!(!setup_sql(Preset::Native, "default").contains("default"));
    }

    /// The Arrow columns and the table columns are one contract.
    #[test]
    fn arrow_and_tables_have_the_same_columns() {
        let pairs = [
            (rollcall_columns::IDENTITIES, IDENTITIES),
            (rollcall_columns::MEMBERSHIPS, MEMBERS_BY_SEGMENT),
            (rollcall_columns::MEMBERSHIPS, MEMBERS_BY_IDENTITY),
        ];
        for (arrow, table) in pairs {
            let arrow: Vec<_> = arrow.columns.iter().map(|c| c.name).collect();
            let table: Vec<_> = table.columns.iter().map(|c| c.0.trim_end_matches("_json")).collect();
            assert_eq!(arrow, table);
        }
    }
}
