//! The engine, and tables of the same DDL as the sink's.

use clickhouse::{Client, Compression, Row};
use rollcall_model::Sink;
use rollcall_sink_clickhouse::{ClickHouseSink, ClickHouseSinkConfig};
use rollcall_test_servers::ClickHouse;
use serde::Deserialize;

use crate::Outcome;
use crate::rows::log_id;

/// The columns that rows are sent in, in the order of the Arrow schema.
pub(crate) const COLUMNS: &str = "environment_id, id, identifier, identity_key, traits_json, traits_tagged, system_traits, \
                                  inserted_at, is_deleted, source, partition, seq, log_id";

/// As the sink sets them.
const SETTINGS: [(&str, &str); 5] = [
    ("input_format_try_infer_dates", "0"),
    ("input_format_try_infer_datetimes", "0"),
    ("input_format_json_try_infer_numbers_from_strings", "0"),
    ("json_type_escape_dots_in_keys", "0"),
    ("insert_deduplicate", "0"),
];

/// A running engine with the sink's tables and `default.rival` of the same DDL.
pub(crate) struct Server {
    pub(crate) engine: ClickHouse,
    pub(crate) sink: ClickHouseSink,
}

#[derive(Row, Deserialize)]
struct Number {
    number: u64,
}

impl Server {
    pub(crate) async fn start(folder: &std::path::Path) -> Outcome<Self> {
        let engine = ClickHouse::start(folder);
        let mut sink = ClickHouseSink::connect(ClickHouseSinkConfig::new("clickhouse", engine.url()))?;
        sink.prepare(&log_id(), 8).await?;
        let server = Self { engine, sink };
        server.run("CREATE TABLE default.rival AS rollcall.IDENTITIES").await?;
        Ok(server)
    }

    pub(crate) fn client(&self, compression: Compression) -> Client {
        let client = Client::default().with_url(self.engine.url()).with_compression(compression);
        SETTINGS.iter().fold(client, |client, (name, value)| client.with_setting(*name, *value))
    }

    pub(crate) async fn run(&self, sql: &str) -> Outcome<()> {
        Ok(self.client(Compression::None).query_raw(sql).execute().await?)
    }

    /// The answer of a query, whose column is called `number`.
    pub(crate) async fn number(&self, sql: &str) -> Outcome<u64> {
        let row: Number = self.client(Compression::None).query_raw(sql).fetch_one().await?;
        Ok(row.number)
    }

    /// A hash of all rows of a table, in whatever order they came.
    pub(crate) async fn hash(&self, table: &str) -> Outcome<u64> {
        let columns = COLUMNS.replace("traits_json", "CAST(traits, 'String')");
        self.number(&format!("SELECT sum(cityHash64({columns})) + count() AS number FROM {table}")).await
    }

    /// Bytes per row of a table, merged.
    pub(crate) async fn bytes_per_row(&self, table: &str) -> Outcome<f64> {
        self.run(&format!("OPTIMIZE TABLE default.{table} FINAL")).await?;
        let of = |column: &str| {
            format!(
                "SELECT sum({column}) AS number FROM system.parts \
                 WHERE active AND database = 'default' AND table = '{table}'"
            )
        };
        let bytes = self.number(&of("bytes_on_disk")).await?;
        let rows = self.number(&of("rows")).await?;
        Ok(bytes as f64 / rows as f64)
    }
}
