//! Commit in Postgres → count visible in Postgres, while other changes go on beside it.
//!
//! `latency [CHANGES_PER_SECOND] [SECONDS] [embedded|kafka]` (defaults 1000 30 embedded). A prober makes an identity enter and leave a segment
//! by one trait, and looks at the count until it moves; prints p50 and p99 and the rate that was really written.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use rollcall_e2e::Worker;
use rollcall_kit::flagsmith::{Scale, create_schema, populate};
use rollcall_test_servers::{Kafka, KafkaSettings, PgVersion, Postgres};
use tokio_postgres::{Client, NoTls};

type Failure = Box<dyn Error + Send + Sync>;

const WRITERS: u64 = 4;
/// A count that doesn't move for so long will not move.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).map_or(Ok(default), |arg| arg.parse());
    let (rate, seconds) = (number(0, 1_000)?, number(1, 30)?);
    let kafka = match args.get(2).map(String::as_str) {
        None | Some("embedded") => None,
        Some("kafka") => Some(Kafka::start_with(KafkaSettings { full_compiler: true, ..Default::default() })),
        Some(other) => return Err(format!("'{other}' is neither embedded nor kafka").into()),
    };
    let log = match &kafka {
        None => "{ type: embedded, path: ./data, partitions: 4 }".to_owned(),
        Some(kafka) => format!(
            "{{ type: kafka, brokers: \"{}\", partitions: 4, replication_factor: 1, min_insync_replicas: 1 }}",
            kafka.brokers()
        ),
    };
    let postgres = Postgres::start(PgVersion::V15, &[("fsync", "on")]);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port());
    let client = connect(&url).await?;
    create_schema(&client).await?;
    let scale = Scale {
        organisations: 1,
        environments: 2,
        segments: 50,
        identities: 20_000,
        traits_per_identity: 6,
        unsupported: false,
    };
    let world = populate(&client, scale, 1).await?;
    let (identity, environment) = world.identities[0];
    let segment = probe_segment(&client).await?;
    let mut worker = Worker::new(&format!(
        "rollcall: 1\nlog: {log}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{url}\", heartbeat_ms: 500 }}\n\
         sinks:\n  counts: {{ type: counts, url: \"{url}\", preset: flagsmith, flush_age_ms: 20 }}\n\
         http: {{ listen: \"HTTP\" }}\n"
    ))?;
    let (code, _, said) = worker.say(&["setup"]).await?;
    if code != 0 {
        return Err(said.into());
    }
    worker.start(None)?;
    worker.wait_until_ready().await?;
    worker.wait_until_as_of(1).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let client = connect(&url).await?;
        let ids: Vec<i32> = world.identities[1..].iter().map(|(id, _)| *id).collect();
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        writers.push(tokio::spawn(write(client, ids, rate / WRITERS, stop, written)));
    }
    let began = Instant::now();
    let mut times = Vec::new();
    let mut member = false;
    while began.elapsed() < Duration::from_secs(seconds) {
        member = !member;
        times.push(probe(&client, identity, environment, segment, member).await?);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..120))).await;
    }
    let elapsed = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{}",
        serde_json::json!({
            "figure": "commit to count visible", "log": if kafka.is_some() { "kafka" } else { "embedded" }, "samples": times.len(),
            "written_per_second": (written.load(Ordering::Relaxed) as f64 / elapsed).round(),
            "p50_ms": (at(0.5) * 10.0).round() / 10.0, "p99_ms": (at(0.99) * 10.0).round() / 10.0,
        })
    );
    worker.terminate().await?;
    Ok(())
}

/// A segment of everybody whose trait `probe` is `in`.
async fn probe_segment(client: &Client) -> Result<i32, Failure> {
    let rules =
        r#"[{"type":"ALL","rules":[],"conditions":[{"property":"probe","operator":"EQUAL","value":"in"}]}]"#;
    let sql = format!(
        "WITH new AS (SELECT max(id) + 1000 AS id FROM segments_segment)
         INSERT INTO segments_segment (id, uuid, name, project_id, version, version_of_id, rules_data, created_at,
                                       updated_at, is_system_segment, managed_by)
         SELECT id, gen_random_uuid(), 'probe', 1, 1, id, '{rules}'::jsonb, now(), now(), false, '' FROM new
         RETURNING id"
    );
    Ok(client.query_one(&sql, &[]).await?.get(0))
}

/// Single-row commits at a steady rate.
async fn write(
    client: Client,
    ids: Vec<i32>,
    rate: u64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE environments_trait SET value_type = 'int', integer_value = $2 \
               WHERE id = (SELECT min(id) FROM environments_trait WHERE identity_id = $1)";
    let statement = client.prepare(sql).await?;
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let (id, value) = (ids[rand::rng().random_range(0..ids.len())], rand::rng().random_range(0..1_000));
        client.execute(&statement, &[&id, &value]).await?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One change, and the time until its count is there.
async fn probe(
    client: &Client,
    identity: i32,
    environment: i32,
    segment: i32,
    member: bool,
) -> Result<Duration, Failure> {
    let value = if member { "in" } else { "out" };
    client
        .execute(
            "INSERT INTO environments_trait (identity_id, trait_key, value_type, string_value, created_date)
             VALUES ($1, 'probe', 'unicode', $2, now())
             ON CONFLICT (trait_key, identity_id) DO UPDATE SET string_value = excluded.string_value",
            &[&identity, &value],
        )
        .await?;
    let committed = Instant::now();
    let sql = "SELECT coalesce((SELECT count FROM segment_membership_segmentmembershipcount
                                WHERE segment_id = $1 AND environment_id = $2), 0)";
    let expected = i32::from(member);
    loop {
        let count: i32 = client.query_one(sql, &[&segment, &environment]).await?.get(0);
        if count == expected {
            return Ok(committed.elapsed());
        }
        if committed.elapsed() > PATIENCE {
            return Err(format!("the count stayed at {count}").into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
