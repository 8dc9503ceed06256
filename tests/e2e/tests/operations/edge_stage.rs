//! A small platform of which one project lives at the edge: Postgres, DynamoDB, a worker on both, and what must hold
//! whenever it is at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rollcall_e2e::sets::{self, Members, assert_same};
use rollcall_e2e::{Edge, EdgeLoad, Failure, TABLE, Table, Worker};
use rollcall_kit::flagsmith::{Scale, create_schema, populate};
use rollcall_kit::oracle;
use rollcall_model::Item;
use rollcall_test_servers::{ClickHouse, Ministack, MinistackSettings, PgVersion, Postgres};
use serde_json::Value;
use tokio_postgres::Client;

use crate::stage::{PATIENCE, POLL, connect, start, until, url};

const SCALE: Scale = Scale {
    organisations: 2,
    environments: 4,
    segments: 12,
    identities: 200,
    traits_per_identity: 4,
    unsupported: false,
};
/// Items of organisation 2, whose environments are 2 and 4, and some that stray into one of organisation 1.
const HOMES: [&str; 5] = ["env-key-2", "env-key-4", "env-key-2", "env-key-4", "env-key-1"];
pub(crate) const ITEMS: usize = 300;

/// Servers, population and worker.
pub(crate) struct EdgeStage {
    pub(crate) worker: Worker,
    pub(crate) table: Table,
    /// How far DynamoDB's clock is ahead of the machine's, where it is a simulator's.
    pub(crate) ahead_us: i64,
    clickhouse: ClickHouse,
    /// Runs as long as this.
    _postgres: Postgres,
    client: Client,
    load: EdgeLoad,
}

/// An emulator with an empty table. It is ministack: DynamoDB Local rounds the times of records down to the minute, and
/// everything that compares times would wait for two.
pub(crate) fn emulator() -> Ministack {
    let ministack = Ministack::start(MinistackSettings::default());
    ministack.create_identities_table(TABLE);
    ministack
}

impl EdgeStage {
    /// Set up and not yet started; the table is empty before, and `more` are keys of the source.
    pub(crate) async fn set(seed: u64, table: Table, more: &str) -> Result<Self, Failure> {
        let endpoint = table.url().to_owned();
        Self::set_behind(seed, table, &endpoint, more).await
    }

    /// The same where the worker reaches the table by another way.
    pub(crate) async fn set_behind(
        seed: u64,
        table: Table,
        endpoint: &str,
        more: &str,
    ) -> Result<Self, Failure> {
        let postgres = Postgres::start(PgVersion::V15, &[]);
        let clickhouse = ClickHouse::temporary();
        let client = connect(&postgres).await?;
        create_schema(&client).await?;
        let world = populate(&client, SCALE, seed).await?;
        client.batch_execute("UPDATE projects_project SET enable_dynamo_db = true WHERE id = 2").await?;
        let edge = Edge::new(&world, HOMES.map(str::to_owned).to_vec(), ITEMS);
        edge.fill(&table, seed).await?;
        let worker = worker(&url(&postgres), &clickhouse, endpoint, more)?;
        let (code, _, said) = worker.say(&["setup"]).await?;
        assert_eq!(code, 0, "rollcall setup: {said}");
        let load = EdgeLoad::new(&edge, &table, seed, 0, 1);
        Ok(Self { worker, table, ahead_us: 0, clickhouse, _postgres: postgres, client, load })
    }

    /// The same, running and at rest.
    pub(crate) async fn running(seed: u64, table: Table) -> Result<Self, Failure> {
        let mut stage = Self::set(seed, table, "").await?;
        start(&mut stage.worker).await?;
        stage.assert_exact().await?;
        Ok(stage)
    }

    /// Writes to the table so often.
    pub(crate) async fn churn(&mut self, steps: usize) -> Result<(), Failure> {
        for _ in 0..steps {
            self.load.step().await?;
        }
        Ok(())
    }

    /// Has Postgres do something.
    pub(crate) async fn sql(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// A command that must succeed; its JSON lines.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
        let (code, lines) = self.worker.ask(arguments).await?;
        assert_eq!(code, 0, "rollcall {}: {lines:#?}", arguments.join(" "));
        Ok(lines)
    }

    /// Waits until everything written so far is counted and no backfill or fill is under way.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        let now_us = self.now_us().await?;
        self.worker.wait_until_as_of(now_us).await?;
        self.until_edge_as_of(now_us + self.ahead_us).await
    }

    /// Waits until what was committed in Postgres up to then is in the log.
    pub(crate) async fn until_core_as_of(&self, at_us: i64) -> Result<(), Failure> {
        self.until_as_of("core", at_us).await
    }

    /// Waits until what was written to the table up to then is in the log, by DynamoDB's clock.
    pub(crate) async fn until_edge_as_of(&self, at_us: i64) -> Result<(), Failure> {
        self.until_as_of("edge", at_us).await
    }

    async fn until_as_of(&self, source: &str, at_us: i64) -> Result<(), Failure> {
        let started = Instant::now();
        while self.source(source).await?["as_of_us"].as_i64() < Some(at_us) {
            let status = self.worker.get("status").await?;
            assert!(started.elapsed() < PATIENCE, "{status:#}\n{}", self.worker.log_tail());
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The time of this machine.
    pub(crate) async fn now_us(&self) -> Result<i64, Failure> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::int8";
        Ok(self.client.query_one(sql, &[]).await?.get(0))
    }

    /// A time as exports write it.
    pub(crate) async fn time_of(&self, us: i64) -> Result<String, Failure> {
        let form = r#"'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'"#;
        let sql = format!("SELECT to_char(to_timestamp({us} / 1e6) AT TIME ZONE 'UTC', {form})");
        Ok(self.client.query_one(&sql, &[]).await?.get(0))
    }

    /// At rest, the reference engine, ClickHouse, the platform's count rows and verify say the same.
    pub(crate) async fn assert_exact(&mut self) -> Result<Members, Failure> {
        self.worker.wait_until_ready().await?;
        self.settle().await?;
        let (code, lines) = self.worker.ask(&["verify"]).await?;
        assert_eq!(code, 0, "verify: {lines:#?}\n{}", self.worker.log_tail());
        let items = self.table.items().await?;
        let verdict = oracle::judge_with_items(&mut self.client, &items).await?;
        assert_eq!(verdict.unread, BTreeMap::new(), "items that can't be read");
        let expected = sets::expected(verdict, &BTreeSet::new());
        let keys: BTreeMap<&str, i64> =
            [("env-key-1", 1), ("env-key-2", 2), ("env-key-3", 3), ("env-key-4", 4)].into();
        for organisation in [0, 1] {
            let has = |(_, environment): &(i64, i64)| environment % 2 == organisation;
            assert!(expected.keys().any(has), "nobody of one source is in any segment");
        }
        assert_same("ClickHouse", &sets::clickhouse_members(&self.clickhouse, &keys).await?, &expected);
        let counts: BTreeMap<_, _> =
            expected.iter().map(|(pair, members)| (*pair, members.len() as i64)).collect();
        assert_eq!(sets::platform_counts(&self.client).await?, counts, "the platform's count rows");
        Ok(expected)
    }

    /// Waits until a task is in a state, and gives what it says then.
    pub(crate) async fn until(&self, task: &str, state: &str) -> Result<Value, Failure> {
        until(&self.worker, task, state).await
    }

    /// What the worker says of the edge.
    pub(crate) async fn edge(&self) -> Result<Value, Failure> {
        self.source("edge").await
    }

    async fn source(&self, name: &str) -> Result<Value, Failure> {
        let status = self.worker.get("status").await?;
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        let source = sources.into_iter().find(|source| source["name"] == name);
        source.ok_or_else(|| format!("no source {name}: {status:#}").into())
    }

    /// An item of the table.
    pub(crate) async fn item(&self, key: &str) -> Result<Option<Item>, Failure> {
        let items = self.table.items().await?;
        Ok(items.into_iter().find(|item| rollcall_e2e::edge::key_of(item) == key))
    }
}

/// A worker on these servers, with a key that any emulator takes.
fn worker(postgres: &str, clickhouse: &ClickHouse, endpoint: &str, more: &str) -> Result<Worker, Failure> {
    let comma = if more.is_empty() { "" } else { ", " };
    let mut worker = Worker::new(&format!(
        "rollcall: 1\n\
         log: {{ type: embedded, path: ./data, partitions: 2 }}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{postgres}\", heartbeat_ms: 100 }}\n  \
         edge: {{ type: dynamodb, platform: flagsmith, table: {TABLE}, region: us-east-1, endpoint: \"{endpoint}\", \
         access_key_id: \"${{EDGE_KEY_ID}}\", secret_access_key: \"${{EDGE_SECRET}}\", readers: 2, clock_slack_ms: 1000, \
         page_items: 50{comma}{more} }}\n\
         sinks:\n  clickhouse: {{ url: \"{}\", flush_age_ms: 50 }}\n  \
         counts: {{ url: \"{postgres}\", preset: flagsmith, reconcile_ms: 1000 }}\n\
         http: {{ listen: \"HTTP\" }}\n",
        clickhouse.url()
    ))?;
    worker.set_variable("EDGE_KEY_ID", "rollcall");
    worker.set_variable("EDGE_SECRET", "hunter2");
    Ok(worker)
}
