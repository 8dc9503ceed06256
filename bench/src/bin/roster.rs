//! One roster partition with its store on disk and the embedded log: changes per second by a plain loop over the
//! segments, beside the store's own speed for the same writes.
//!
//! `roster [IDENTITIES] [SEGMENTS] [CHANGES]` (defaults 100000 1000 100000) prints one line of JSON per figure.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{
    CatalogDoc, Change, ChangeRecord, Condition, EnvironmentDoc, Image, Input, Log, NativeId, Partition,
    Patch, Place, Precedence, Producer, Progress, Rule, RuleType, SegmentDoc, Seq, Traits, Value,
};
use rollcall_roster::{CatalogBuilder, Output, Roster, RosterState, Turn};
use rollcall_runtime::roster_store::{PartitionStore, RosterStores};

const BATCH: usize = 1_000;
const TRAITS: usize = 20;
const TOMBSTONES_US: i64 = i64::MAX / 2;

fn segment(rng: &mut StdRng, id: i64) -> SegmentDoc {
    let mut condition = |operator: &str| Condition {
        operator: operator.into(),
        property: Some(format!("trait-{}", rng.random_range(0..200))),
        value: Some(rng.random_range(0..50_i64).to_string()),
    };
    let inner = Rule {
        rule_type: RuleType::Any,
        conditions: vec![condition("EQUAL"), condition("GREATER_THAN"), condition("IN")],
        rules: vec![],
    };
    let conditions = vec![condition("IS_SET"), condition("LESS_THAN")];
    SegmentDoc {
        id: id.into(),
        project_id: 1.into(),
        name: format!("segment {id}"),
        rules: vec![Rule { rule_type: RuleType::All, conditions, rules: vec![inner] }],
        invalid: None,
        deleted: false,
    }
}

fn change(id: i64, change: Change, at: usize) -> Input {
    Input::Change(ChangeRecord {
        source: "core".into(),
        id: NativeId::Int(id),
        change,
        source_time_us: at as i64,
        position: String::new(),
        backfill: None,
        precedence: Precedence::Place,
    })
}

struct Bench {
    roster: Roster,
    store: PartitionStore,
    producer: Box<dyn Producer>,
    offset: u64,
}

impl Bench {
    /// One commit of the log and the store, as a roster task makes it.
    async fn turn(&mut self, inputs: &[Input]) -> Result<(usize, f64), Box<dyn Error>> {
        let began = Instant::now();
        let output = self.judge(inputs)?;
        let judged = began.elapsed().as_secs_f64();
        let events = output.changes.len();
        let state = serde_json::to_value(self.roster.state())?;
        let commit = output.to_commit(Partition(0), 1, Progress { state, ..Progress::default() })?;
        let committed = self.producer.commit(commit).await?;
        self.store.write(output, &committed)?;
        Ok((events, judged))
    }

    fn judge(&mut self, inputs: &[Input]) -> Result<Output, Box<dyn Error>> {
        let mut session = self.roster.session(&self.store);
        for input in inputs {
            self.offset += 1;
            if session.apply(Place { epoch: 0, offset: self.offset }, input)? != Turn::Done {
                return Err("an input was not taken at once".into());
            }
        }
        Ok(session.finish())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let mut arg = |default| args.next().unwrap_or(Ok(default));
    let (identities, segments, changes) = (arg(100_000)?, arg(1_000)?, arg(100_000)?);
    let folder = tempfile::tempdir()?;
    let config = EmbeddedLogConfig { partitions: 1, ..EmbeddedLogConfig::default() };
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(folder.path().join("log"), config)?);
    let stores = RosterStores::open(&folder.path().join("store"))?;
    let (store, _) =
        PartitionStore::open(stores, &log, Partition(0), Seq::default(), Duration::MAX, |_| {}).await?;
    let producer = log.open("roster/0").await?.producer;
    let mut rng = StdRng::seed_from_u64(1);
    let mut catalog = CatalogBuilder::default();
    let entry = |doc| CatalogEntry { writer: "core".into(), number: 1, doc };
    catalog.apply(entry(CatalogDoc::Environment(EnvironmentDoc {
        id: 1.into(),
        key: "key".into(),
        name: "Production".into(),
        project_id: 1.into(),
        organisation_id: 1.into(),
        owner: "core".into(),
        called: Default::default(),
        composite_identity_key: true,
        deleted: false,
    })));
    for id in 0..segments as i64 {
        catalog.apply(entry(CatalogDoc::Segment(segment(&mut rng, id))));
    }
    let state = RosterState::default();
    let mut roster = Roster::new(log.id().clone(), Partition(0), state, Default::default(), TOMBSTONES_US);
    roster.set_catalog(catalog.snapshot());
    let mut bench = Bench { roster, store, producer, offset: 0 };

    let ids: Vec<i64> = (0..identities as i64).collect();
    let began = Instant::now();
    for batch in ids.chunks(BATCH) {
        let inputs: Vec<_> = batch.iter().map(|id| change(*id, whole(&mut rng, *id), 1)).collect();
        bench.turn(&inputs).await?;
    }
    report("first images", identities, began.elapsed().as_secs_f64(), segments, 0);

    let (mut events, mut judged) = (0, 0.0);
    let began = Instant::now();
    for batch in 0..changes / BATCH {
        let inputs: Vec<_> = (0..BATCH)
            .map(|n| {
                let key = format!("trait-{}", rng.random_range(0..200));
                let set = [(key, Value::Int(rng.random_range(0..50)))].into();
                let patch = Patch { set, ..Patch::default() };
                let id = rng.random_range(0..identities as i64);
                change(id, Change::Patch { patch }, batch * BATCH + n)
            })
            .collect();
        let (more, seconds) = bench.turn(&inputs).await?;
        events += more;
        judged += seconds;
    }
    let done = changes / BATCH * BATCH;
    report("changes, all of it", done, began.elapsed().as_secs_f64(), segments, events);
    report("changes, judging and store reads alone", done, judged, segments, events);
    own_speed(done, folder.path())
}

/// The rival: the store alone, reading and writing as many rows of the same size.
fn own_speed(changes: usize, folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let db = fjall::Database::builder(folder.join("rival")).open()?;
    let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
    let mut rng = StdRng::seed_from_u64(2);
    let value = vec![b'x'; 900];
    let began = Instant::now();
    for _ in 0..changes / BATCH {
        let mut batch = db.batch();
        for _ in 0..BATCH {
            let key = rng.random_range(0..changes as u64).to_be_bytes();
            let known = rows.get(key)?;
            std::hint::black_box(&known);
            batch.insert(&rows, key, value.as_slice());
        }
        batch.commit()?;
    }
    report("the store alone, same reads and writes", changes, began.elapsed().as_secs_f64(), 0, 0);
    Ok(())
}

fn whole(rng: &mut StdRng, id: i64) -> Change {
    let mut traits = Traits::new();
    for _ in 0..TRAITS {
        traits.insert(format!("trait-{}", rng.random_range(0..200)), Value::Int(rng.random_range(0..50)));
    }
    let identifier = format!("user-{id}");
    let image = Image { environment_id: 1.into(), identifier, traits, system_traits: Traits::new() };
    Change::Upsert { image }
}

fn report(what: &str, count: usize, seconds: f64, segments: usize, events: usize) {
    let line = serde_json::json!({
        "figure": what, "segments": segments, "count": count, "events": events,
        "seconds": (seconds * 1e3).round() / 1e3, "per_second": (count as f64 / seconds).round(),
    });
    println!("{line}");
}
