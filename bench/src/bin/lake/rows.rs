//! Identities as they usually are.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_columns::{LAKE_TABLES, LakeTable, lake_batch};
use rollcall_model::{
    IdentityRecord, IdentityState, Image, LogId, NativeId, OutRecord, Partition, Place, Seq, Traits, Value,
    Version,
};

use crate::Outcome;

/// Rows of a batch.
pub(crate) const BATCH: i64 = 8_192;

pub(crate) const PARTITION: Partition = Partition(3);

pub(crate) const IDENTITIES: &LakeTable = &LAKE_TABLES[0];

/// The log of the rows.
pub(crate) fn log_id() -> LogId {
    LogId("8f14e45f-ceea-467f-9575-3b1a2b1f6a10".into())
}

fn text(text: impl Into<String>) -> Value {
    Value::Str(text.into())
}

/// Six traits of the usual kinds.
pub(crate) fn usual_traits(random: &mut StdRng) -> Traits {
    Traits::from([
        ("plan".to_owned(), text(["free", "pro", "team", "enterprise"][random.random_range(0..4)])),
        ("country".to_owned(), text(["de", "gb", "fr", "us", "jp", "br"][random.random_range(0..6)])),
        ("age".to_owned(), Value::Int(random.random_range(16..90))),
        ("score".to_owned(), Value::Float(random.random::<f64>() * 1_000.0)),
        ("beta".to_owned(), Value::Bool(random.random())),
        (
            "signup".to_owned(),
            text(format!("2024-{:02}-{:02}", random.random_range(1..13), random.random_range(1..29))),
        ),
    ])
}

/// The usual ones and twenty of three hundred further keys.
pub(crate) fn many_traits(random: &mut StdRng) -> Traits {
    let mut traits = usual_traits(random);
    for _ in 0..20 {
        let key = random.random_range(0..300);
        let value = match key % 3 {
            0 => Value::Int(random.random_range(0..1_000_000)),
            1 => text(format!("value {}", random.random_range(0..5_000))),
            _ => Value::Bool(random.random()),
        };
        traits.insert(format!("feature_usage_{key}"), value);
    }
    traits
}

/// Images in the order of the table: of an environment all ids, which have as many digits.
pub(crate) struct Images {
    random: StdRng,
    next: i64,
    rows: i64,
}

impl Images {
    pub(crate) fn new(rows: i64) -> Self {
        Self { random: StdRng::seed_from_u64(1), next: 0, rows }
    }
}

impl Iterator for Images {
    type Item = OutRecord;

    fn next(&mut self) -> Option<OutRecord> {
        if self.next == self.rows {
            return None;
        }
        let n = self.next;
        self.next += 1;
        let id = 10_000_000 + n;
        let environment = n * 6 / self.rows.max(1);
        let key = format!("V8wEpT2cXKqN4sHhZ7yJ{environment}");
        // Changes come at any time and names follow no order: with a step between rows a file would hold them for nothing.
        let came = self.random.random_range(0..self.rows);
        let name = format!("user{}@example.org", self.random.random::<u32>());
        Some(OutRecord::Identity(IdentityRecord {
            log_id: log_id(),
            partition: PARTITION,
            // Commits of fifty identities.
            seq: Seq(came as u64 / 50 + 1),
            version: Version(1_700_000_000_000_000 + came * 131),
            deleted: false,
            source: "core".into(),
            id: NativeId::Int(id),
            identity_key: Some(format!("{key}_{name}")),
            environment_key: Some(key),
            state: IdentityState::Live(Image {
                environment_id: (environment + 1).into(),
                identifier: name,
                traits: usual_traits(&mut self.random),
                system_traits: Traits::new(),
            }),
            left_environment_keys: BTreeSet::new(),
            place: Place { epoch: 0, offset: came as u64 },
            parked: Vec::new(),
            seen: Default::default(),
        }))
    }
}

/// Batches of the lake's table.
pub(crate) fn batches(records: &[OutRecord]) -> Outcome<Vec<RecordBatch>> {
    let batches = records.chunks(BATCH as usize).map(|records| lake_batch(IDENTITIES, PARTITION, records));
    Ok(batches.collect::<Result<_, _>>()?)
}
