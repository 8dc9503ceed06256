//! What is wrong with the configuration or the server's: told with its cause and its repair. What is wrong with
//! topology.yaml ends `run` with 78 before anything starts; what is wrong with a server stops that task alone, and the
//! repair and a `resume` bring it back.

use std::collections::BTreeMap;

use rollcall_e2e::{Failure, Worker};
use rollcall_kit::flagsmith::{Scale, create_schema, populate};
use rollcall_kit::oracle;
use rollcall_test_servers::{ClickHouse, PgVersion, Postgres, free_port};
use serde_json::Value;

use crate::stage::{connect, start, task, until};

/// Five faults at once, each with its line; no secret in the answer.
#[tokio::test]
async fn five_faults_are_told_at_once_with_their_lines() {
    let worker = Worker::new(
        "rollcall: 1\n\
         log: { type: embedded, path: ./data, partitons: 8 }\n\
         sources:\n  core: { type: postgres, platform: flagsmiht, url: \"${NOT_SET_ANYWHERE}\" }\n\
         gates: { default: perhaps }\n\
         sinks:\n  counts: { url: \"postgres://u:hunter2@db.example/d\", flush_age_ms: 0 }\n",
    )
    .unwrap();
    for command in ["check", "run"] {
        let (code, _, said) = worker.say(&[command]).await.unwrap();
        assert_eq!(code, 78, "{command}: {said}");
        for (line, what) in [
            (2, "log.partitons: unknown key"),
            (4, "sources.core.platform"),
            (4, "NOT_SET_ANYWHERE"),
            (5, "gates.default"),
            (7, "sinks.counts.url"),
            (7, "sinks.counts.flush_age_ms"),
        ] {
            let at = format!("topology.yaml:{line}:");
            assert!(said.lines().any(|said| said.contains(&at) && said.contains(what)), "{what}: {said}");
        }
        assert!(said.contains("did you mean 'partitions'?") && !said.contains("hunter2"), "{said}");
    }
    assert!(!worker.folder().join("data").exists(), "nothing was started");
}

/// A topology of one source, counts beside it, the url of both from variables.
fn worker(source: &str, counts: &str) -> Result<Worker, Failure> {
    let mut worker = Worker::new(
        "rollcall: 1\n\
         log: { type: embedded, path: ./data, partitions: 1 }\n\
         sources:\n  core: { type: postgres, platform: flagsmith, url: \"${SOURCE_URL}\", heartbeat_ms: 100 }\n\
         sinks:\n  counts: { url: \"${COUNTS_URL}\", preset: flagsmith }\n\
         http: { listen: \"HTTP\" }\n",
    )?;
    worker.set_variable("SOURCE_URL", source);
    worker.set_variable("COUNTS_URL", counts);
    Ok(worker)
}

/// A wrong password and a server that isn't there: the process stays and says what each task waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unreachable_host_are_told_and_mended() {
    let postgres = Postgres::start_with_passwords(PgVersion::V15, &[]);
    postgres.psql(rollcall_kit::flagsmith::SCHEMA);
    postgres.psql("CREATE ROLE rollcall SUPERUSER REPLICATION LOGIN PASSWORD 'right'");
    let wrong = postgres.url_of("rollcall", "wrong-hunter2", "postgres");
    let nowhere = format!("postgres://nobody@127.0.0.1:{}/postgres", free_port());
    let mut worker = worker(&wrong, &nowhere).unwrap();
    let (code, _, said) = worker.say(&["setup"]).await.unwrap();
    assert!(code == 78 || code == 1, "{said}");
    assert!(said.contains("password") && !said.contains("hunter2"), "{said}");

    start(&mut worker).await.unwrap();
    let source = until(&worker, "source/core", "failed").await.unwrap();
    tells(&source, "password", "ALTER ROLE");
    let counts = until(&worker, "sink/counts", "retrying").await.unwrap();
    tells(&counts, &nowhere.replace("postgres://nobody@", "").replace("/postgres", ""), "");
    assert_eq!(worker.http_status("healthz").await.unwrap(), 200);
    assert_eq!(worker.http_status("readyz").await.unwrap(), 503);
    let (code, said, _) = worker.say(&["status"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("source/core is failed") && said.contains("repair: "), "{said}");
    assert!(!said.contains("hunter2") && !worker.log_tail().contains("hunter2"), "a secret was shown");

    // As the message says: the password is set right, what is missing is set up, and the task told to go on.
    postgres.psql("ALTER ROLE rollcall PASSWORD 'wrong-hunter2'");
    worker.say(&["resume", "source/core"]).await.unwrap();
    let source = until_failed_with(&worker, "rollcall setup").await.unwrap();
    tells(&source, "publication", "rollcall setup");
    let (code, _, said) = worker.say(&["setup", "core"]).await.unwrap();
    assert_eq!(code, 0, "{said}");
    worker.say(&["resume", "source/core"]).await.unwrap();
    until(&worker, "source/core", "running").await.unwrap();
    assert_eq!(worker.terminate().await.unwrap().code(), Some(0));
}

/// A server without logical decoding, and a role that may not do what is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_ready_for_us_is_told_with_the_sql() {
    let postgres = Postgres::start(PgVersion::V15, &[("wal_level", "replica")]);
    postgres.psql(rollcall_kit::flagsmith::SCHEMA);
    postgres.psql("CREATE ROLE reader LOGIN");
    let as_super = postgres.url();
    let as_reader = postgres.url_of("reader", "none", "postgres");
    let mut worker = worker(&as_super, &as_reader).unwrap();
    start(&mut worker).await.unwrap();
    let source = until(&worker, "source/core", "failed").await.unwrap();
    tells(&source, "wal_level", "wal_level");
    let counts = until(&worker, "sink/counts", "failed").await.unwrap();
    tells(&counts, "may not make the ledger's tables", "rollcall setup --print-sql");
    // The others are at work.
    until(&worker, "roster/0", "running").await.unwrap();
    assert_eq!(worker.terminate().await.unwrap().code(), Some(0), "it stops in order all the same");
}

/// What `setup --print-sql` prints for an administrator is all that a role with no rights at all needs; `teardown` leaves
/// no slot behind, and says what its owner has to drop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_sql_is_enough_for_a_role_without_rights() {
    let postgres = Postgres::start(PgVersion::V15, &[]);
    let mut client = connect(&postgres).await.unwrap();
    create_schema(&client).await.unwrap();
    let scale = Scale {
        organisations: 1,
        environments: 1,
        segments: 10,
        identities: 50,
        traits_per_identity: 4,
        unsupported: false,
    };
    populate(&client, scale, 14).await.unwrap();
    client.batch_execute("CREATE ROLE rollcall LOGIN REPLICATION").await.unwrap();
    let url = postgres.url_of("rollcall", "none", "postgres");
    let mut worker = worker(&url, &url).unwrap();
    start(&mut worker).await.unwrap();
    until(&worker, "source/core", "failed").await.unwrap();
    until(&worker, "sink/counts", "failed").await.unwrap();

    let (code, sql, said) = worker.say(&["setup", "--print-sql"]).await.unwrap();
    assert_eq!(code, 0, "{said}");
    client.batch_execute(&sql).await.unwrap();
    for task in ["source/core", "sink/counts"] {
        worker.say(&["resume", task]).await.unwrap();
        until(&worker, task, "running").await.unwrap();
    }
    let now =
        client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::int8", &[]).await.unwrap();
    worker.wait_until_as_of(now.get(0)).await.unwrap();
    assert_eq!(worker.ask(&["verify"]).await.unwrap().0, 0);
    let members = oracle::judge(&mut client).await.unwrap().members;
    let expected: BTreeMap<i64, i64> = members
        .iter()
        .filter(|(_, members)| !members.is_empty())
        .map(|((segment, _), members)| (*segment, members.len() as i64))
        .collect();
    let sql = "SELECT segment_id::int8, count::int8 FROM segment_membership_segmentmembershipcount";
    let rows = client.query(sql, &[]).await.unwrap();
    let found: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);

    assert_eq!(worker.terminate().await.unwrap().code(), Some(0));
    let (code, _, said) = worker.say(&["teardown"]).await.unwrap();
    // It does not own the publication; what would keep WAL goes all the same.
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("DROP PUBLICATION IF EXISTS"), "{said}");
    let slots = client.query("SELECT 1 FROM pg_replication_slots", &[]).await.unwrap();
    assert!(slots.is_empty(), "a slot that nobody reads keeps WAL for ever");
}

/// A table of somebody else's stands where ours belongs: it is refused and left as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_clickhouse_table_is_refused_and_left_alone() {
    let clickhouse = ClickHouse::temporary();
    let say = |query: &'static str| {
        let request = reqwest::Client::new().post(clickhouse.url()).body(query);
        async move { request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap() }
    };
    say("CREATE DATABASE rollcall").await;
    say(
        "CREATE TABLE rollcall.members_by_segment (segment_id String) ENGINE = MergeTree ORDER BY segment_id",
    )
    .await;
    say("INSERT INTO rollcall.members_by_segment VALUES ('theirs')").await;
    let mut worker = Worker::new(&format!(
        "rollcall: 1\n\
         log: {{ type: embedded, path: ./data, partitions: 1 }}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"postgres://nobody@127.0.0.1:{}/d\" }}\n\
         sinks:\n  clickhouse: {{ url: \"{}\" }}\n\
         http: {{ listen: \"HTTP\" }}\n",
        free_port(),
        clickhouse.url()
    ))
    .unwrap();
    start(&mut worker).await.unwrap();
    let sink = until(&worker, "sink/clickhouse", "failed").await.unwrap();
    tells(&sink, "rollcall.members_by_segment", "rebuild clickhouse");
    assert_eq!(say("SELECT segment_id FROM rollcall.members_by_segment FORMAT TSV").await, "theirs\n");
    worker.terminate().await.unwrap();
}

fn tells(task: &Value, what: &str, repair: &str) {
    let text = |name: &str| task[name].as_str().unwrap_or_default();
    assert!(text("error").contains(what), "the cause is not named: {task:#}");
    assert!(text("repair").contains(repair), "the repair is not named: {task:#}");
}

/// Waits until the source has failed with this repair: the failure before may still stand.
async fn until_failed_with(worker: &Worker, repair: &str) -> Result<Value, Failure> {
    for _ in 0..600 {
        let task = until(worker, "source/core", "failed").await?;
        if task["repair"].as_str().is_some_and(|said| said.contains(repair)) {
            return Ok(task);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(format!("not failed with {repair}: {:#}", task(worker, "source/core").await?).into())
}
