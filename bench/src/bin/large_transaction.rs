//! One transaction of many rows through the whole worker: how long until it is counted, and what memory it took.
//!
//! `large_transaction [ROWS] [IDENTITIES]` (defaults 1000000 100000). Resident memory is VmHWM of the worker's
//! process, before the transaction and at its end.

use std::error::Error;
use std::time::Instant;

use rollcall_e2e::Worker;
use rollcall_kit::flagsmith::{Scale, create_schema, populate};
use rollcall_test_servers::{PgVersion, Postgres};
use tokio_postgres::NoTls;

type Failure = Box<dyn Error + Send + Sync>;

/// The most memory the process has held, in MB.
fn peak_mb(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    let kb: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kb / 1024)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let (rows, identities) = (args.next().unwrap_or(Ok(1_000_000))?, args.next().unwrap_or(Ok(100_000))?);
    let postgres = Postgres::start(PgVersion::V15, &[]);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    create_schema(&client).await?;
    let scale = Scale {
        organisations: 1,
        environments: 2,
        segments: 20,
        identities,
        traits_per_identity: 1,
        unsupported: false,
    };
    populate(&client, scale, 1).await?;
    let mut worker = Worker::new(&format!(
        "rollcall: 1\nlog: {{ type: embedded, path: ./data, partitions: 4 }}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{url}\", heartbeat_ms: 500 }}\n\
         sinks:\n  counts: {{ type: counts, url: \"{url}\", preset: flagsmith }}\n\
         http: {{ listen: \"HTTP\" }}\n"
    ))?;
    let (code, _, said) = worker.say(&["setup"]).await?;
    if code != 0 {
        return Err(said.into());
    }
    worker.start(None)?;
    worker.wait_until_ready().await?;
    worker.wait_until_as_of(1).await?;
    let pid = worker.pid().ok_or("the worker has ended")?;
    let before = peak_mb(pid)?;
    let per_identity = rows.div_ceil(identities);
    let sql = format!(
        "INSERT INTO environments_trait (identity_id, trait_key, value_type, integer_value, created_date)
         SELECT i.id, 'bulk-' || k, 'int', k, now() FROM environments_identity i, generate_series(1, {per_identity}) k"
    );
    let began = Instant::now();
    let written = client.execute(&sql, &[]).await?;
    let committed = began.elapsed();
    let row = client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::int8", &[]).await?;
    worker.wait_until_as_of(row.get(0)).await?;
    println!(
        "{}",
        serde_json::json!({
            "figure": "one transaction through the whole worker", "rows": written, "identities": identities,
            "insert_seconds": committed.as_secs_f64().round(),
            "commit_to_counted_seconds": ((began.elapsed() - committed).as_secs_f64() * 10.0).round() / 10.0,
            "peak_mb_before": before, "peak_mb_after": peak_mb(pid)?,
        })
    );
    worker.terminate().await?;
    Ok(())
}
