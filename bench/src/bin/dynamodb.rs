//! DynamoDB as a source, against the simulator: what a stream's reader, a scan and the end of a shard take.
//!
//! `dynamodb [RECORDS]` (default 200000) prints a line of JSON each for: records of 1 and of 64 shards read by the SDK alone (the
//! rival: GetRecords in a loop, nothing done with what comes), by our reader into nothing, and into the embedded log; the same
//! items by a scan, and from an export, beside gunzip alone; memory with 1,000 shards; and from a parent's end to its child's first
//! record. The simulator runs in this process and takes its share of the cores: all of them meet it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rollcall_aws::{AwsConfig, Credentials};
use rollcall_backfill_s3::{Export, ExportConfig};
use rollcall_dynamo_sim::export as made;
use rollcall_dynamo_sim::{DynamoSim, SimSettings};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_model::shards::{Shards, Stream, StreamStart};
use rollcall_model::{
    Attribute, ChangeRecord, Commit, Committed, IdentityKey, Image, Input, Item, ItemChange, ItemPages, Log,
    Precedence, Progress, Record, SavedShards, ShardSource, Topic, Traits,
};
use rollcall_source_dynamodb::{DynamoShards, DynamoSourceConfig, Scan, ScanConfig, begin_stream};
use serde_json::json;

const TABLE: &str = "flagsmith_identities";
const KEY: &str = "composite_key";
const PARTITIONS: u16 = 8;
/// Events of one commit, about.
const COMMIT_RECORDS: usize = 8_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let records: u64 = std::env::args().nth(1).map_or(Ok(200_000), |arg| arg.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        for shards in [1, 64] {
            let sim = filled(shards, records)?;
            streams(&sim, shards, records).await?;
            if shards == 1 {
                scans(&sim, records).await?;
            }
        }
        exports(records).await?;
        thousand_shards().await?;
        ends().await
    })
}

fn aws(sim: &DynamoSim) -> AwsConfig {
    let key = "bench".to_owned();
    let credentials =
        Credentials::Static { access_key_id: key.clone(), secret_access_key: key, session_token: None };
    AwsConfig { region: "eu-west-2".to_owned(), endpoint: Some(sim.url()), credentials }
}

fn item(n: u64) -> Item {
    let text = |text: String| Attribute::S(text);
    let entry = |key: &str, value: Attribute| {
        Attribute::M(Item::from([
            ("trait_key".to_owned(), text(key.to_owned())),
            ("trait_value".to_owned(), value),
        ]))
    };
    Item::from([
        (KEY.to_owned(), text(format!("environment-key_user-{n}@example.com"))),
        ("environment_api_key".to_owned(), text("environment-key".to_owned())),
        ("identifier".to_owned(), text(format!("user-{n}@example.com"))),
        ("created_date".to_owned(), text("2026-11-27T10:00:00Z".to_owned())),
        (
            "identity_traits".to_owned(),
            Attribute::L(vec![
                entry("plan", text("team".to_owned())),
                entry("logins", Attribute::N((n % 1_000).to_string())),
                entry("beta", Attribute::Bool(n.is_multiple_of(2))),
            ]),
        ),
    ])
}

fn filled(shards: u32, records: u64) -> Outcome<DynamoSim> {
    let sim = DynamoSim::start(SimSettings { shards, roll: None, ..SimSettings::default() });
    for n in 0..records {
        sim.put(item(n)).map_err(|error| format!("{error:?}"))?;
    }
    Ok(sim)
}

fn source(sim: &DynamoSim) -> DynamoSourceConfig {
    DynamoSourceConfig {
        start: StreamStart::TrimHorizon,
        readers: 1,
        // What DynamoDB allows is not what a reader can do.
        calls_per_shard_per_s: 100_000,
        ..DynamoSourceConfig::new("edge".into(), TABLE, KEY, aws(sim))
    }
}

async fn streams(sim: &DynamoSim, shards: u32, records: u64) -> Outcome<()> {
    let sdk = by_the_sdk(sim, records).await?;
    let nothing = drain(sim, records, None).await?;
    let folder = tempfile::tempdir()?;
    let log = EmbeddedLog::open(
        folder.path().join("log"),
        EmbeddedLogConfig { partitions: PARTITIONS, ..Default::default() },
    )?;
    let log: Arc<dyn Log> = Arc::new(log);
    let embedded = drain(sim, records, Some(&log)).await?;
    let rate = |time: Duration| (records as f64 / time.as_secs_f64()).round();
    println!(
        "{}",
        json!({
            "what": "stream", "shards": shards, "records": records,
            "sdk_records_per_s": rate(sdk), "null_records_per_s": rate(nothing.0), "embedded_records_per_s": rate(embedded.0),
            "first_record_ms": nothing.1.as_millis() as u64, "resident_mib": memory_mib("VmRSS")?,
        })
    );
    Ok(())
}

/// What reading costs at least: every shard in turn, nothing done with what comes.
async fn by_the_sdk(sim: &DynamoSim, records: u64) -> Outcome<Duration> {
    let client = aws_sdk_dynamodbstreams::Client::new(&rollcall_aws::load(&aws(sim)).await?);
    let arn = sim.stream_arn().ok_or("no stream")?;
    let began = Instant::now();
    let mut read = 0;
    for shard in sim.shards() {
        let iterator = client.get_shard_iterator().stream_arn(&arn).shard_id(&shard.id);
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
        let mut iterator = iterator.shard_iterator;
        while let Some(at) = iterator.take() {
            let got = client.get_records().shard_iterator(at).limit(1_000).send().await?;
            let count = got.records().len() as u64;
            read += count;
            if count > 0 {
                iterator = got.next_shard_iterator;
            }
        }
    }
    if read != records {
        return Err(format!("the SDK read {read} of {records} records").into());
    }
    Ok(began.elapsed())
}

/// Reads everything, into a log or into nothing. Answers how long it took, and to the first record.
async fn drain(sim: &DynamoSim, records: u64, log: Option<&Arc<dyn Log>>) -> Outcome<(Duration, Duration)> {
    let began = Instant::now();
    let mut first = None;
    let mut producer = match log {
        Some(log) => Some(log.open("source/edge/0").await?.producer),
        None => None,
    };
    let stream: Stream = begin_stream(&source(sim)).await?;
    let stream = Stream { epoch: 1, ..stream };
    let mut own = Shards { epoch: 1, ..Shards::default() };
    let mut reader =
        Box::pin(DynamoShards::start(source(sim), stream, 0, own.clone(), BTreeMap::new())).await?;
    let (mut read, mut waiting) = (0, Vec::new());
    while read < records {
        let event = reader.next().await?;
        read += event.changes.len() as u64;
        if !event.changes.is_empty() {
            first.get_or_insert_with(|| began.elapsed());
        }
        for (shard, progress) in event.progress {
            match progress {
                Some(progress) => own.shards.insert(shard, progress),
                None => own.shards.remove(&shard),
            };
        }
        if producer.is_some() {
            waiting.extend(event.changes);
        }
        let committed = match &mut producer {
            Some(producer) if waiting.len() >= COMMIT_RECORDS || read == records => {
                let records = waiting.drain(..).map(record).collect::<Outcome<Vec<_>>>()?;
                let progress = Progress { state: serde_json::to_value(&own)?, ..Progress::default() };
                producer.commit(Commit { records, progress: Some(progress) }).await?
            }
            Some(_) => continue,
            None => Committed::default(),
        };
        reader.saved(&SavedShards::by(&committed, own.clone()))?;
    }
    Ok((began.elapsed(), first.ok_or("no record came")?))
}

/// A change as the runtime writes it, but for what the platform makes of the item.
fn record(change: ItemChange) -> Outcome<Record> {
    let key = IdentityKey { source: "edge".into(), id: change.id.clone() };
    let image = Image {
        environment_id: "environment-key".into(),
        identifier: change.id.to_string(),
        traits: Traits::new(),
        system_traits: Traits::new(),
    };
    let input = Input::Change(ChangeRecord {
        source: key.source.clone(),
        id: change.id,
        change: rollcall_model::Change::Upsert { image },
        source_time_us: change.at_us,
        position: change.position.to_string(),
        backfill: None,
        precedence: Precedence::Streamed,
    });
    Ok(Record {
        topic: Topic::IdentityChanges,
        partition: key.partition(PARTITIONS),
        key: key.to_string().into_bytes(),
        value: Some(serde_json::to_vec(&input)?),
        headers: Vec::new(),
    })
}

async fn scans(sim: &DynamoSim, items: u64) -> Outcome<()> {
    for segments in [1, 4] {
        let began = Instant::now();
        let config = ScanConfig {
            table: TABLE.to_owned(),
            key: KEY,
            aws: aws(sim),
            segments,
            read_units_per_s: None,
            page_items: 1_000,
            pages_in_flight_max: 16,
            environment: None,
            clock_slack_ms: 5_000,
        };
        let mut scan = Box::pin(Scan::start(&config, None)).await?;
        let mut found = 0;
        loop {
            let page = scan.next().await?;
            found += page.items.len() as u64;
            if page.done {
                break;
            }
        }
        if found != items {
            return Err(format!("the scan found {found} of {items} items").into());
        }
        let rate = (items as f64 / began.elapsed().as_secs_f64()).round();
        println!("{}", json!({ "what": "scan", "segments": segments, "items": items, "items_per_s": rate }));
    }
    Ok(())
}

/// An export in one file, read by one core: checksum, gunzip, lines, items; beside gunzip and a count of lines alone.
async fn exports(items: u64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let line = |n| Ok::<_, serde_json::Error>(json!({ "Item": serde_json::to_value(item(n))? }).to_string());
    let lines = (0..items).map(line).collect::<Result<Vec<_>, _>>()?;
    let made = made::Export::full(&[lines]);
    let location = made.write(folder.path());
    let data = made.objects.get(&made.data(0)).ok_or("no data file")?;
    let began = Instant::now();
    let counted =
        std::io::BufRead::lines(std::io::BufReader::new(flate2::read::MultiGzDecoder::new(&data[..])))
            .count();
    let gunzip = began.elapsed();
    let config = ExportConfig {
        location: location.display().to_string(),
        aws: AwsConfig { region: "eu-west-2".to_owned(), endpoint: None, credentials: Credentials::Default },
        table: made::TABLE.to_owned(),
        key: KEY,
        page_items: 1_000,
        files_in_flight_max: 1,
        clock_slack_ms: 5_000,
        spool: folder.path().join("spool"),
    };
    let began = Instant::now();
    let mut export = Box::pin(Export::open(&config, None)).await?;
    let mut found = 0;
    loop {
        let page = export.next().await?;
        found += page.items.len() as u64;
        if page.done {
            break;
        }
    }
    if (found, counted as u64) != (items, items) {
        return Err(format!("the export gave {found}, gunzip {counted} of {items} items").into());
    }
    let rate = |time: Duration| (items as f64 / time.as_secs_f64()).round();
    println!(
        "{}",
        json!({
            "what": "export", "items": items, "gzip_bytes": data.len(),
            "gunzip_lines_per_s": rate(gunzip), "items_per_s": rate(began.elapsed()),
        })
    );
    Ok(())
}

/// Opens a stream of 1,000 idle shards and says what that takes.
async fn thousand_shards() -> Outcome<()> {
    let sim = DynamoSim::start(SimSettings { shards: 1_000, roll: None, ..SimSettings::default() });
    for n in 0..1_000 {
        sim.put(item(n)).map_err(|error| format!("{error:?}"))?;
    }
    let before = memory_mib("VmRSS")?;
    let (took, first) = drain(&sim, 1_000, None).await?;
    println!(
        "{}",
        json!({
            "what": "1000 shards", "records": 1_000, "all_ms": took.as_millis() as u64, "first_record_ms": first.as_millis() as u64,
            "resident_before_mib": before, "resident_after_mib": memory_mib("VmRSS")?,
        })
    );
    Ok(())
}

/// From the commit of a parent's end to the first record of its child.
async fn ends() -> Outcome<()> {
    let sim = DynamoSim::start(SimSettings { shards: 1, roll: None, ..SimSettings::default() });
    let stream = Stream { epoch: 1, ..begin_stream(&source(&sim)).await? };
    let mut own = Shards { epoch: 1, ..Shards::default() };
    let mut reader =
        Box::pin(DynamoShards::start(source(&sim), stream, 0, own.clone(), BTreeMap::new())).await?;
    let mut times = Vec::new();
    let mut ended: Option<Instant> = None;
    let put = |n| sim.put(item(n)).map_err(|error| format!("{error:?}"));
    put(0)?;
    while times.len() < 20 {
        let event = reader.next().await?;
        if !event.changes.is_empty() {
            times.extend(ended.take().map(|ended| ended.elapsed()));
            let open = sim.open_shards();
            sim.roll(open.first().ok_or("no shard is open")?);
            put(times.len() as u64 + 1)?;
        }
        let ends = event.progress.values().flatten().any(|progress| progress.finished);
        for (shard, progress) in event.progress {
            match progress {
                Some(progress) => own.shards.insert(shard, progress),
                None => own.shards.remove(&shard),
            };
        }
        if ends {
            ended = Some(Instant::now());
        }
        reader.saved(&SavedShards::by(&Committed::default(), own.clone()))?;
    }
    times.sort_unstable();
    let at = |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0, |time| time.as_micros() as u64);
    println!(
        "{}",
        json!({ "what": "parent finished to first record of its child", "times": times.len(), "p50_us": at(0.5), "max_us": at(0.99) })
    );
    Ok(())
}

fn memory_mib(line: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib: u64 = found.ok_or("no such line")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
