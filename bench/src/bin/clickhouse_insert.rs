//! The ClickHouse sink beside the same engine reading the same rows from a local Parquet file (DESIGN.md §7).
//!
//! ```text
//! ours    identity records ─▶ Arrow ─▶ HTTP ─▶ rollcall.IDENTITIES, batch by batch, counted again
//! rival   INSERT INTO … SELECT … FROM file('identities.parquet')  into a table of the same DDL
//! ```
//!
//! Both into empty tables, in turns, several times; prints one line of JSON per turn and the medians. The records are
//! made before the clock starts; the Parquet file is written by the engine from our own rows.
//!
//! `clickhouse_insert ROWS BATCH TURNS`, with a folder of its own for the engine.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_model::{
    Delivery, IdentityRecord, IdentityState, Image, LogId, NativeId, OutRecord, Partition, Place, Seq, Sink,
    Topic, Traits, Value, Version,
};
use rollcall_sink_clickhouse::{ClickHouseSink, ClickHouseSinkConfig};
use rollcall_test_servers::ClickHouse;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PARTITIONS: u16 = 8;
const COLUMNS: &str = "environment_id, id, identifier, identity_key, traits_json, traits_tagged, system_traits, \
                       inserted_at, is_deleted, source, partition, seq, log_id";

/// An identity with six traits of the usual kinds.
fn record(id: i64, random: &mut StdRng) -> IdentityRecord {
    let text = |text: String| Value::Str(text);
    let traits = Traits::from([
        ("plan".to_owned(), text(["free", "pro", "team", "enterprise"][random.random_range(0..4)].into())),
        ("country".to_owned(), text(["de", "gb", "fr", "us", "jp", "br"][random.random_range(0..6)].into())),
        ("age".to_owned(), Value::Int(random.random_range(16..90))),
        ("score".to_owned(), Value::Float(random.random::<f64>() * 1_000.0)),
        ("beta".to_owned(), Value::Bool(random.random())),
        (
            "signup".to_owned(),
            text(format!("2024-{:02}-{:02}", random.random_range(1..13), random.random_range(1..29))),
        ),
    ]);
    IdentityRecord {
        log_id: LogId("bench".into()),
        partition: Partition((id % i64::from(PARTITIONS)) as u16),
        seq: Seq(id as u64),
        version: Version(1_700_000_000_000_000 + id),
        deleted: false,
        source: "core".into(),
        id: NativeId::Int(id),
        environment_key: Some(format!("env{}", id % 6)),
        identity_key: Some(format!("env{}_user{id}", id % 6)),
        state: IdentityState::Live(Image {
            environment_id: "1".into(),
            identifier: format!("user{id}"),
            traits,
            system_traits: Traits::new(),
        }),
        left_environment_keys: BTreeSet::new(),
        place: Place::default(),
        parked: Vec::new(),
        seen: Default::default(),
    }
}

async fn run(server: &ClickHouse, sql: &str) -> Outcome<()> {
    let client = clickhouse::Client::default().with_url(server.url());
    Ok(client
        .with_setting("input_format_try_infer_dates", "0")
        .with_setting("input_format_try_infer_datetimes", "0")
        .query_raw(sql)
        .execute()
        .await?)
}

async fn ours(sink: &mut ClickHouseSink, batches: &[Vec<Delivery>]) -> Outcome<f64> {
    let start = Instant::now();
    for batch in batches {
        let written = sink.write(batch).await?;
        assert!(written.rejected.is_empty() && written.rows == batch.len() as u64);
    }
    Ok(start.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let mut next = |default: usize| args.next().unwrap_or(Ok(default));
    let (rows, batch, turns) = (next(400_000)?, next(100_000)?, next(5)?);
    let folder = tempfile::tempdir()?;
    let server = ClickHouse::start(folder.path());
    let parquet = folder.path().join("identities.parquet");
    let parquet = parquet.display();
    let mut sink = ClickHouseSink::connect(ClickHouseSinkConfig::new("clickhouse", server.url()))?;
    sink.prepare(&LogId("bench".into()), PARTITIONS).await?;

    let mut random = StdRng::seed_from_u64(1);
    let deliveries: Vec<Delivery> = (0..rows as i64)
        .map(|id| {
            let record = record(id, &mut random);
            let partition = record.partition;
            Delivery {
                topic: Topic::Identities,
                partition,
                place: Place::default(),
                record: OutRecord::Identity(record),
            }
        })
        .collect();
    let batches: Vec<Vec<Delivery>> = deliveries.chunks(batch).map(<[Delivery]>::to_vec).collect();
    drop(deliveries);

    ours(&mut sink, &batches).await?;
    run(&server, "CREATE TABLE default.rival AS rollcall.IDENTITIES").await?;
    let stored = COLUMNS.replace("traits_json", "CAST(traits, 'String') AS traits_json");
    run(
        &server,
        &format!(
            "INSERT INTO FUNCTION file('{parquet}', Parquet) SELECT {stored} FROM rollcall.IDENTITIES FINAL"
        ),
    )
    .await?;

    let (mut sink_s, mut parquet_s) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        run(&server, "TRUNCATE TABLE rollcall.IDENTITIES").await?;
        let ours = ours(&mut sink, &batches).await?;
        run(&server, "TRUNCATE TABLE default.rival").await?;
        let start = Instant::now();
        let load =
            format!("INSERT INTO default.rival ({COLUMNS}) SELECT {COLUMNS} FROM file('{parquet}', Parquet)");
        run(&server, &load).await?;
        let rival = start.elapsed().as_secs_f64();
        println!(
            "{{\"turn\":{turn},\"rows\":{rows},\"batch\":{batch},\"sink_rows_s\":{:.0},\"parquet_rows_s\":{:.0}}}",
            rows as f64 / ours,
            rows as f64 / rival
        );
        sink_s.push(ours);
        parquet_s.push(rival);
    }
    for times in [&mut sink_s, &mut parquet_s] {
        times.sort_by(f64::total_cmp);
    }
    let (ours, rival) = (sink_s[turns / 2], parquet_s[turns / 2]);
    println!(
        "{{\"median_sink_rows_s\":{:.0},\"median_parquet_rows_s\":{:.0},\"ratio\":{:.2}}}",
        rows as f64 / ours,
        rows as f64 / rival,
        rival / ours
    );
    Ok(())
}
