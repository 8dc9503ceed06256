//! A small platform on real servers with a worker beside it, and what must hold whenever it is at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rollcall_e2e::{Failure, Lake, Worker};
use rollcall_kit::flagsmith::{Load, Scale, World, create_schema, populate};
use rollcall_kit::oracle;
use rollcall_test_servers::{ClickHouse, PgVersion, Postgres};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

/// Identities by (segment, environment).
pub(crate) type Members = BTreeMap<(i64, i64), BTreeSet<i64>>;

const SCALE: Scale = Scale {
    organisations: 2,
    environments: 4,
    segments: 12,
    identities: 200,
    traits_per_identity: 4,
    unsupported: true,
};
/// The log of a stage that needs no other.
pub(crate) const LOG: &str = "{ type: embedded, path: ./data, partitions: 2 }";
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// How long anything that should happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Servers, population and worker.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) worker: Worker,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) postgres: Postgres,
    /// Segments that must come out as unsupported.
    pub(crate) unsupported: BTreeSet<i64>,
    /// Organisations that are not judged.
    pub(crate) gated: BTreeSet<i32>,
    client: Client,
    load: Load,
}

impl Stage {
    /// A platform with its worker set up and not yet started.
    pub(crate) async fn set(seed: u64) -> Result<Self, Failure> {
        Self::set_on(seed, LOG).await
    }

    /// The same on a log of one's own choice.
    pub(crate) async fn set_on(seed: u64, log: &str) -> Result<Self, Failure> {
        Self::set_beside(seed, log, None).await
    }

    /// The same with a lake beside its sinks, as its line in the topology says.
    pub(crate) async fn set_beside(
        seed: u64,
        log: &str,
        lake: Option<(&Lake, String)>,
    ) -> Result<Self, Failure> {
        let postgres = Postgres::start(PgVersion::V15, &[]);
        let clickhouse = ClickHouse::temporary();
        let client = connect(&postgres).await?;
        create_schema(&client).await?;
        let world = populate(&client, SCALE, seed).await?;
        let mut text = topology(log, &postgres, &clickhouse);
        if let Some((_, sink)) = &lake {
            text = text.replace("http: {", &format!("{sink}http: {{"));
        }
        let mut worker = Worker::new(&text)?;
        if let Some((lake, _)) = lake {
            lake.let_in(&mut worker);
        }
        let (code, _, said) = worker.say(&["setup"]).await?;
        assert_eq!(code, 0, "rollcall setup: {said}");
        let unsupported = world.unsupported.iter().copied().map(i64::from).collect();
        let load = Load::new(&world, seed, 0, 1).with_large_rows(100);
        Ok(Self { world, worker, clickhouse, postgres, unsupported, gated: BTreeSet::new(), client, load })
    }

    /// The same, running and at rest.
    pub(crate) async fn running(seed: u64) -> Result<Self, Failure> {
        let mut stage = Self::set(seed).await?;
        stage.start().await?;
        stage.live().await?;
        stage.settle().await?;
        Ok(stage)
    }

    /// Starts the worker and waits until it answers, whatever its tasks do.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        start(&mut self.worker).await
    }

    /// SIGTERM; it must end with 0.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let status = self.worker.terminate().await?;
        assert_eq!(status.code(), Some(0), "on SIGTERM:\n{}", self.worker.log_tail());
        Ok(())
    }

    /// Has Postgres do something.
    pub(crate) async fn sql(&self, sql: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| format!("{error:?}\n{sql}").into())
    }

    /// A segment of project 1 with these rules, as the platform writes it.
    pub(crate) async fn add_segment(&self, name: &str, rules: &str) -> Result<i64, Failure> {
        self.sql(&format!(
            "INSERT INTO segments_segment (uuid, name, project_id, version, created_at, updated_at, is_system_segment, \
             managed_by, rules_data) VALUES (gen_random_uuid(), '{name}', 1, 1, now(), now(), false, '', $rules${rules}$rules$); \
             UPDATE segments_segment SET version_of_id = id WHERE version_of_id IS NULL AND name = '{name}'"
        ))
        .await?;
        self.number(&format!("SELECT max(id) FROM segments_segment WHERE name = '{name}'")).await
    }

    /// Writes as the platform does, so often, until the sets are others than before.
    pub(crate) async fn churn(&mut self, steps: usize) -> Result<(), Failure> {
        let before = self.truth().await?;
        for _ in 0..steps {
            self.load.step(&mut self.client).await?;
        }
        assert_ne!(before, self.truth().await?, "the writes change no set");
        Ok(())
    }

    /// Verifies so often while the platform writes without a pause; gives what differed, if anything ever did.
    pub(crate) async fn verify_under_load(&mut self, times: usize) -> Result<Vec<Value>, Failure> {
        self.under_load(async |worker| {
            for _ in 0..times {
                let (code, lines) = worker.ask(&["verify"]).await?;
                if code != 0 {
                    return Ok(lines.into_iter().filter(|line| line["kind"] != "checked").collect());
                }
            }
            Ok(Vec::new())
        })
        .await
    }

    /// Does something while the platform writes without a pause.
    pub(crate) async fn under_load<T>(
        &mut self,
        work: impl AsyncFnOnce(&Worker) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self { worker, load, client, .. } = self;
        let work = work(worker);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // A step ends in itself: it is not broken off half-way, which would leave a transaction open.
                step = load.step(client) => drop(step?),
            }
        }
    }

    /// The number that a query answers.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64, Failure> {
        let row = self.client.query_one(&format!("SELECT ({sql})::int8"), &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// The text that a query answers.
    pub(crate) async fn text(&self, sql: &str) -> Result<String, Failure> {
        Ok(self.client.query_one(&format!("SELECT ({sql})::text"), &[]).await?.try_get(0)?)
    }

    /// A time in microseconds since 1970, as commands take it.
    pub(crate) async fn time_of(&self, us: i64) -> Result<String, Failure> {
        let form = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;
        self.text(&format!("SELECT to_char(to_timestamp({us} / 1e6) AT TIME ZONE 'UTC', {form})")).await
    }

    /// Connects anew, after the server was away.
    pub(crate) async fn reconnect(&mut self) -> Result<(), Failure> {
        self.client = connect(&self.postgres).await?;
        Ok(())
    }

    /// Has ClickHouse do something; answers what it says.
    pub(crate) async fn clickhouse(&self, query: &str) -> Result<String, Failure> {
        let answer = reqwest::Client::new().post(self.clickhouse.url()).body(query.to_owned()).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() { Ok(text) } else { Err(format!("{text}\n{query}").into()) }
    }

    /// Waits until everything committed so far is counted and no backfill or fill is under way.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        let now = self.number("extract(epoch FROM clock_timestamp()) * 1e6").await?;
        self.worker.wait_until_as_of(now).await
    }

    /// Waits until both sinks have taken over what there was when they began: before that they answer no check.
    pub(crate) async fn live(&self) -> Result<(), Failure> {
        let started = Instant::now();
        for sink in ["sink/clickhouse", "sink/counts"] {
            while self.until(sink, "running").await?["bootstrapping"] != false {
                assert!(started.elapsed() < PATIENCE, "{sink} never goes live:\n{}", self.worker.log_tail());
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// A command that must succeed; its JSON lines.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
        let (code, lines) = self.worker.ask(arguments).await?;
        assert_eq!(code, 0, "rollcall {}: {lines:#?}", arguments.join(" "));
        Ok(lines)
    }

    /// What a task says of itself.
    pub(crate) async fn task(&self, name: &str) -> Result<Value, Failure> {
        task(&self.worker, name).await
    }

    /// Waits until a task is in a state, and gives what it says then.
    pub(crate) async fn until(&self, name: &str, state: &str) -> Result<Value, Failure> {
        until(&self.worker, name, state).await
    }

    /// Waits until a query of Postgres answers a number.
    pub(crate) async fn until_number(&self, sql: &str, expected: i64) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let found = self.number(sql).await?;
            if found == expected {
                return Ok(());
            }
            assert!(started.elapsed() < PATIENCE, "{sql} stays {found}, not {expected}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// At rest, the reference engine, ClickHouse, the platform's count rows and verify say the same.
    pub(crate) async fn assert_exact(&mut self) -> Result<Members, Failure> {
        self.live().await?;
        self.settle().await?;
        let (code, lines) = self.worker.ask(&["verify"]).await?;
        let wrong: Vec<_> = lines.iter().filter(|line| line["kind"] != "checked").collect();
        let status = self.worker.get("status").await?;
        assert_eq!(code, 0, "verify: {wrong:#?}\n{status:#}\n{}", self.worker.log_tail());
        let expected = self.truth().await?;
        assert!(!expected.is_empty(), "the reference found nobody at all");
        assert_same("ClickHouse", &self.clickhouse_members().await?, &expected);
        assert_eq!(self.counts().await?, sizes(&expected), "the platform's count rows");
        let counts = self.ask(&["counts"]).await?;
        let number = |line: &Value, name: &str| line[name].as_str().and_then(|id| id.parse::<i64>().ok());
        let pair = |line: &Value| Some((number(line, "segment_id")?, number(line, "environment_id")?));
        let live = counts.iter().filter(|line| line["state"] == "live");
        let shown = live.filter_map(|line| Some((pair(line)?, line["count"].as_i64()?)));
        let shown: BTreeMap<_, _> = shown.filter(|(_, count)| *count > 0).collect();
        assert_eq!(shown, sizes(&expected), "rollcall counts");
        let refused = counts.iter().filter(|line| line["state"] == "unsupported");
        let refused: BTreeSet<i64> = refused.filter_map(|line| number(line, "segment_id")).collect();
        let judged: BTreeSet<i64> = counts.iter().filter_map(|line| number(line, "segment_id")).collect();
        assert_eq!(refused, self.unsupported.intersection(&judged).copied().collect(), "unsupported");
        Ok(expected)
    }

    /// What the reference engine makes of the rows in Postgres, of what is to be judged.
    pub(crate) async fn truth(&mut self) -> Result<Members, Failure> {
        let gated: Vec<i32> = self.gated.iter().copied().collect();
        let sql = "SELECT e.id::int8 FROM environments_environment e JOIN projects_project p ON p.id = e.project_id \
                   WHERE p.organisation_id = ANY($1)";
        let rows = self.client.query(sql, &[&gated]).await?;
        let gated: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let verdict = oracle::judge(&mut self.client).await?;
        let judged = verdict.members.into_iter().filter(|((segment, environment), members)| {
            !gated.contains(environment) && !members.is_empty() && !self.unsupported.contains(segment)
        });
        Ok(judged.collect())
    }

    /// The members that readers of ClickHouse see.
    pub(crate) async fn clickhouse_members(&self) -> Result<Members, Failure> {
        self.members_in("rollcall").await
    }

    /// The members that readers of a database see.
    pub(crate) async fn members_in(&self, database: &str) -> Result<Members, Failure> {
        let rows = self.client.query("SELECT api_key, id::int8 FROM environments_environment", &[]).await?;
        let keys: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let query =
            format!("SELECT segment_id, environment_id, id FROM {database}.segment_members FORMAT TSV");
        let mut members = Members::new();
        for line in self.clickhouse(&query).await?.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            let [segment, key, id] = cells[..] else { return Err(format!("not a row: {line}").into()) };
            let environment = *keys.get(key).ok_or_else(|| format!("unknown environment {key}"))?;
            let fresh = members.entry((segment.parse()?, environment)).or_default().insert(id.parse()?);
            assert!(fresh, "ClickHouse lists {line} twice");
        }
        Ok(members)
    }

    /// The platform's count rows.
    pub(crate) async fn counts(&self) -> Result<BTreeMap<(i64, i64), i64>, Failure> {
        let sql = "SELECT segment_id::int8, environment_id::int8, count::int8 \
                   FROM segment_membership_segmentmembershipcount";
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
    }
}

/// Starts a worker and waits until it answers, whatever its tasks do.
pub(crate) async fn start(worker: &mut Worker) -> Result<(), Failure> {
    worker.start(None)?;
    let started = Instant::now();
    while worker.get("status").await.is_err() {
        if let Some(status) = worker.ended()? {
            return Err(format!("`rollcall run` ended with {status}:\n{}", worker.log_tail()).into());
        }
        assert!(started.elapsed() < PATIENCE, "nobody answers:\n{}", worker.log_tail());
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// What a task of a worker says of itself.
pub(crate) async fn task(worker: &Worker, name: &str) -> Result<Value, Failure> {
    let status = worker.get("status").await?;
    let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
    let found = tasks.into_iter().find(|task| task["task"] == name);
    found.ok_or_else(|| format!("there is no task {name}: {status:#}").into())
}

/// Waits until a task of a worker is in a state, and gives what it says then.
pub(crate) async fn until(worker: &Worker, name: &str, state: &str) -> Result<Value, Failure> {
    let started = Instant::now();
    loop {
        let task = task(worker, name).await?;
        if task["state"] == state {
            return Ok(task);
        }
        let tail = || worker.log_tail();
        assert!(started.elapsed() < PATIENCE, "{name} is not {state} but {task:#}\n{}", tail());
        tokio::time::sleep(POLL).await;
    }
}

/// Counts of sets.
pub(crate) fn sizes(members: &Members) -> BTreeMap<(i64, i64), i64> {
    members.iter().map(|(pair, members)| (*pair, members.len() as i64)).collect()
}

/// Compares sets pair by pair, and names who is too many and who is missing.
pub(crate) fn assert_same(name: &str, found: &Members, expected: &Members) {
    let pairs: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let none = BTreeSet::new();
    for pair in pairs {
        let (found, expected) = (found.get(pair).unwrap_or(&none), expected.get(pair).unwrap_or(&none));
        let extra: Vec<_> = found.difference(expected).take(10).collect();
        let missing: Vec<_> = expected.difference(found).take(10).collect();
        assert!(
            extra.is_empty() && missing.is_empty(),
            "{name}, (segment, environment) {pair:?}: should not have {extra:?}, lacks {missing:?}"
        );
    }
}

/// The topology of a stage.
pub(crate) fn topology(log: &str, postgres: &Postgres, clickhouse: &ClickHouse) -> String {
    let url = url(postgres);
    format!(
        "rollcall: 1\n\
         log: {log}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{url}\", page_rows: 50, heartbeat_ms: 100 }}\n\
         gates: {{ default: on, organisations: {{ }} }}\n\
         sinks:\n  clickhouse: {{ url: \"{}\", flush_age_ms: 50 }}\n  \
         counts: {{ url: \"{url}\", preset: flagsmith, reconcile_ms: 1000 }}\n\
         http: {{ listen: \"HTTP\" }}\n",
        clickhouse.url()
    )
}

/// The superuser's url; this server asks for no password.
pub(crate) fn url(postgres: &Postgres) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port())
}

/// A connection of the superuser's.
pub(crate) async fn connect(postgres: &Postgres) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(&url(postgres), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
