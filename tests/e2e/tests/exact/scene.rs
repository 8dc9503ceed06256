//! Real servers, a population, a load, and a worker that is killed; then everything compared with the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_e2e::sets::{self, assert_same};
use rollcall_e2e::{Failure, Lake, Worker, lake};
use rollcall_kit::flagsmith::{Load, Scale, World, create_schema, populate};
use rollcall_kit::oracle;
use rollcall_test_servers::{ClickHouse, PgVersion, Postgres};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::cluster::Cluster;
use crate::edge::EdgeSetting;

/// Every place between two side effects where a worker can be made to end.
pub(crate) const FAILPOINTS: [&str; 7] = [
    "source-decided",
    "source-committed",
    "source-released",
    "roster-decided",
    "roster-committed",
    "roster-stored",
    "sink-written",
];
/// Those of a lake: each comes once per file, so within the first few.
pub(crate) const LAKE_FAILPOINTS: [&str; 3] = ["lake-planned", "lake-uploaded", "lake-listed"];
const LAKE_PATIENCE: Duration = Duration::from_secs(60);
const WRITERS: usize = 3;
/// The organisation whose gate is off.
const GATED_OFF: i32 = 3;

/// What a scene is made of, beside a Postgres and a ClickHouse.
pub(crate) struct Setting {
    pub(crate) version: PgVersion,
    pub(crate) seed: u64,
    /// A broker with several workers in the place of one with the embedded log.
    pub(crate) cluster: Option<Cluster>,
    /// DynamoDB, with so much in it.
    pub(crate) edge: Option<EdgeSetting>,
    /// A lake beside the other sinks.
    pub(crate) lake: Option<Lake>,
}

pub(crate) struct Scene {
    pub(crate) rng: StdRng,
    pub(crate) world: World,
    postgres: Postgres,
    clickhouse: ClickHouse,
    pub(crate) workers: Vec<Worker>,
    /// The broker and the workers' ways to it, with the log on Kafka.
    pub(crate) cluster: Option<Cluster>,
    /// What lives at the edge.
    pub(crate) edge: Option<EdgeSetting>,
    /// The bucket of the lake.
    pub(crate) lake: Option<Lake>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) steps: Arc<AtomicU64>,
    pub(crate) writers: Vec<JoinHandle<()>>,
}

impl Scene {
    pub(crate) async fn start(version: PgVersion, seed: u64) -> Result<Self, Failure> {
        Self::set(Setting { version, seed, cluster: None, edge: None, lake: None }).await
    }

    /// With the embedded log and one worker, or on Kafka with several.
    pub(crate) async fn set(setting: Setting) -> Result<Self, Failure> {
        let Setting { version, seed, cluster, mut edge, lake } = setting;
        let postgres = Postgres::start(version, &[]);
        let clickhouse = ClickHouse::temporary();
        let client = connect(&postgres).await?;
        create_schema(&client).await?;
        let scale = Scale {
            organisations: 3,
            environments: 6,
            segments: 24,
            identities: 1_500,
            traits_per_identity: 5,
            unsupported: true,
        };
        let scale = if edge.is_some() { EdgeSetting::widen(scale) } else { scale };
        let world = populate(&client, scale, seed).await?;
        let mut more = String::new();
        if let Some(edge) = &mut edge {
            more = edge.prepare(&client, &world, seed).await?;
        }
        let url = url(&postgres);
        let rest = format!(
            "sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{url}\", page_rows: 200, \
             heartbeat_ms: 500, large_transaction_rows: 1000 }}\n{more}\
             gates: {{ default: on, organisations: {{ {GATED_OFF}: off }} }}\n\
             sinks:\n  clickhouse: {{ type: clickhouse, url: \"{}\", flush_age_ms: 200 }}\n  \
             counts: {{ type: counts, url: \"{url}\", preset: flagsmith }}\n{}\
             http: {{ listen: \"HTTP\" }}\n",
            clickhouse.url(),
            lake.as_ref().map_or_else(String::new, |lake| lake.sink(&lake.s3.url()))
        );
        let logs = match &cluster {
            None => vec!["{ type: embedded, path: ./data, partitions: 4 }".to_owned()],
            Some(cluster) => cluster.logs(),
        };
        let mut workers = Vec::new();
        for (number, log) in logs.iter().enumerate() {
            let mut worker = Worker::new(&format!("rollcall: 1\nlog: {log}\n{rest}"))?;
            EdgeSetting::let_in(&mut worker);
            if let Some(lake) = &lake {
                lake.let_in(&mut worker);
            }
            workers.push(if cluster.is_some() { worker.named(&format!("w{number}")) } else { worker });
        }
        let (code, _, said) = workers[0].say(&["setup"]).await?;
        assert_eq!(code, 0, "rollcall setup: {said}");
        let mut scene = Self {
            rng: StdRng::seed_from_u64(seed),
            world,
            postgres,
            clickhouse,
            workers,
            cluster,
            edge,
            lake,
            stop: Arc::new(AtomicBool::new(false)),
            steps: Arc::new(AtomicU64::new(0)),
            writers: Vec::new(),
        };
        scene.write_to_postgres(seed).await?;
        scene.write_to_the_edge(seed);
        Ok(scene)
    }

    async fn write_to_postgres(&mut self, seed: u64) -> Result<(), Failure> {
        for writer in 0..WRITERS {
            let mut load = Load::new(&self.world, seed, writer, WRITERS).with_large_rows(3_000);
            let mut client = self.connect().await?;
            let (stop, steps) = (Arc::clone(&self.stop), Arc::clone(&self.steps));
            self.writers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    load.step(&mut client).await.expect("a step of the load");
                    steps.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        Ok(())
    }

    /// Another connection to Postgres.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        connect(&self.postgres).await
    }

    /// Kills the worker so often, in turn at a failpoint and at a random moment.
    pub(crate) async fn kill_under_load(&mut self, kills: usize) -> Result<(), Failure> {
        for kill in 0..kills {
            let at = (kill % 3 != 2).then(|| self.failpoint(kill / 3 * 2 + kill % 3));
            let of_lake = at.as_ref().is_some_and(|at| at.starts_with("lake-"));
            let worker = &mut self.workers[0];
            worker.start(at.as_deref())?;
            let patience = Duration::from_millis(self.rng.random_range(400..4_000));
            // What is written all the while becomes files all the while.
            let patience = if of_lake { LAKE_PATIENCE } else { patience };
            let deadline = tokio::time::Instant::now() + patience;
            // A failpoint ends it by itself; where it doesn't come to it in time, kill -9 does.
            while tokio::time::Instant::now() < deadline && worker.ended()?.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            must_not_end_by_itself(worker)?;
            assert!(!of_lake || worker.ended()?.is_some(), "it never came to {at:?}:\n{}", worker.log_tail());
            worker.kill9().await?;
        }
        Ok(())
    }

    /// Merges the lake's files while the worker writes, and kills that.
    pub(crate) async fn compact_lake(&mut self) -> Result<(), Failure> {
        let worker = &mut self.workers[0];
        worker.start(None)?;
        worker.wait_until_ready().await?;
        let (code, lines) = worker.ask(&["lake", "compact"]).await?;
        assert_eq!(code, 0, "lake compact: {lines:#?}");
        let merged = lines.iter().filter(|line| line["kind"] == "step").count();
        assert!(merged > 0, "nothing was merged: {lines:#?}");
        must_not_end_by_itself(worker)?;
        worker.kill9().await
    }

    /// Empties everything downstream and fills it from the lake, whichever worker has it.
    pub(crate) async fn rebuild_from_lake(&mut self) -> Result<(), Failure> {
        for what in ["store", "clickhouse", "counts"] {
            let worker = &self.workers[0];
            let (code, _, said) = worker.say(&["rebuild", what, "--from", "lake"]).await?;
            assert_eq!(code, 0, "rebuild {what}: {said}\n{}", worker.log_tail());
        }
        Ok(())
    }

    /// A failpoint, each in turn; those of the lake first.
    fn failpoint(&mut self, number: usize) -> String {
        let of_lake: &[&str] = if self.lake.is_some() { &LAKE_FAILPOINTS } else { &[] };
        let number = number % (of_lake.len() + FAILPOINTS.len());
        match of_lake.get(number) {
            Some(point) => format!("{point}:{}", self.rng.random_range(1..5)),
            None => {
                format!("{}:{}", FAILPOINTS[number - of_lake.len()], self.rng.random_range(1..40))
            }
        }
    }

    /// Ends the load and waits until everything written is counted.
    pub(crate) async fn come_to_rest(&mut self) -> Result<(), Failure> {
        for worker in &mut self.workers {
            if worker.pid().is_none() {
                worker.start(None)?;
            }
        }
        for worker in &mut self.workers {
            worker.wait_until_ready().await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await?;
        }
        println!("{} steps of load", self.steps.load(Ordering::Relaxed));
        let client = connect(&self.postgres).await?;
        let row = client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::int8", &[]).await?;
        let rested = self.workers[0].wait_until_as_of_within(row.get(0), self.patience()).await;
        if rested.is_err() {
            for (number, worker) in self.workers.iter().enumerate() {
                eprintln!("the log of worker {number}:\n{}", worker.log_tail());
            }
        }
        rested
    }

    /// How long all of it may take to come to rest: a scan waits for the slack twice, and what is written after it once.
    fn patience(&self) -> Duration {
        let slack_ms = self.edge.as_ref().map_or(0, EdgeSetting::slack_ms);
        Duration::from_millis(120_000 + 4 * slack_ms)
    }

    pub(crate) async fn assert_exact(&mut self) -> Result<(), Failure> {
        let (code, lines) = self.workers[0].ask(&["verify"]).await?;
        assert_eq!(code, 0, "verify: {lines:#?}\n{}", self.workers[0].log_tail());
        let mut client = self.connect().await?;
        let items = match &self.edge {
            Some(edge) => edge.table().items().await?,
            None => Vec::new(),
        };
        let verdict = oracle::judge_with_items(&mut client, &items).await?;
        assert_eq!(verdict.unread, BTreeMap::new(), "the load writes readable items");
        let raised: BTreeSet<i64> = verdict.raised.keys().copied().collect();
        let environments = self.world.environments.iter();
        let gated = environments.filter(|environment| environment.organisation == GATED_OFF);
        let gated: BTreeSet<i64> = gated.map(|environment| i64::from(environment.id)).collect();
        let expected = sets::expected(verdict, &gated);
        assert!(!expected.is_empty(), "the oracle found nobody at all");
        let keys = self.world.environments.iter().map(|e| (e.api_key.as_str(), i64::from(e.id))).collect();
        let found = sets::clickhouse_members(&self.clickhouse, &keys).await?;
        assert_same("ClickHouse", &found, &expected);
        assert_same("membership-changes", &sets::sum_of_changes(&self.workers[0]).await?, &expected);
        let expected_counts = expected.iter().map(|(pair, members)| (*pair, members.len() as i64)).collect();
        assert_eq!(sets::platform_counts(&client).await?, expected_counts, "the platform's count rows");
        self.assert_lake(&expected).await?;
        self.assert_unsupported(&gated, raised).await
    }

    /// The files hold every event of the topic once; the newest image and set of each identity in them are those that
    /// ClickHouse and the oracle have.
    async fn assert_lake(&self, expected: &sets::Members) -> Result<(), Failure> {
        let Some(lake) = &self.lake else { return Ok(()) };
        Lake::wait_until_listed(&self.workers[0]).await?;
        assert_same("the lake", &lake.members(&self.clickhouse).await?, expected);
        let images = lake.images(&self.clickhouse).await?;
        lake::assert_same_images(&images, &lake::clickhouse_images(&self.clickhouse).await?);
        let (_, lines) =
            self.workers[0].ask(&["topic", "tail", "membership-changes", "--from", "beginning"]).await?;
        let events: BTreeSet<String> =
            lines.iter().filter_map(|line| Some(line["value"]["event_id"].as_str()?.to_owned())).collect();
        assert_eq!(lake.events(&self.clickhouse).await?, events, "events in the lake and in the topic");
        let (code, lines) = self.workers[0].ask(&["lake", "verify"]).await?;
        assert_eq!(code, 0, "lake verify: {lines:#?}");
        Ok(())
    }

    /// The unsupported segments are those made to be, no more and no fewer, and each raises in the reference too.
    async fn assert_unsupported(&self, gated: &BTreeSet<i64>, raised: BTreeSet<i64>) -> Result<(), Failure> {
        let (_, lines) = self.workers[0].ask(&["counts"]).await?;
        let unsupported: BTreeSet<i64> = lines
            .iter()
            .filter(|line| line["state"] == "unsupported")
            .filter_map(|line| line["segment_id"].as_str()?.parse().ok())
            .collect();
        let judged: BTreeSet<i64> =
            lines.iter().filter_map(|line| line["segment_id"].as_str()?.parse().ok()).collect();
        let made: BTreeSet<i64> = self.world.unsupported.iter().map(|id| i64::from(*id)).collect();
        assert_eq!(unsupported, made.intersection(&judged).copied().collect());
        assert!(!unsupported.is_empty(), "no unsupported segment was looked at");
        assert!(raised.is_subset(&made), "the reference raised on {raised:?}, made to raise: {made:?}");
        assert!(
            gated
                .iter()
                .all(|e| lines.iter().all(|line| line["environment_id"].as_str() != Some(&e.to_string())))
        );
        Ok(())
    }
}

/// A worker ends when it is killed, and at no other time.
pub(crate) fn must_not_end_by_itself(worker: &mut Worker) -> Result<(), Failure> {
    match worker.ended()? {
        Some(status) if status.code().is_some() => {
            Err(format!("it ended by itself with {status}:\n{}", worker.log_tail()).into())
        }
        Some(_) | None => Ok(()),
    }
}

fn url(postgres: &Postgres) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port())
}

async fn connect(postgres: &Postgres) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(&url(postgres), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
