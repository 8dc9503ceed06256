//! What a simulated world begins with.

use std::time::Duration;

use crate::core::{CoreSettings, IndexKey, TreeRules, ViewType};

/// What a simulated world begins with; [`SimSettings::default`] is a quiet one.
#[derive(Clone, Debug)]
pub struct SimSettings {
    /// Everything that is left to chance comes from it.
    pub seed: u64,
    /// Virtual time at the start, in microseconds since 1970.
    pub start_us: i64,
    /// How much faster than real time virtual time runs; 0: it moves only when it is put forward.
    pub speed: u32,
    /// The table.
    pub table: String,
    /// Its key.
    pub key_name: String,
    /// Its index.
    pub index: IndexKey,
    /// Where it pretends to be.
    pub region: String,
    /// Whose it pretends to be.
    pub account: String,
    /// What its stream carries; `None`: it has none yet.
    pub view: Option<ViewType>,
    /// How many shards a stream begins with.
    pub shards: u32,
    /// How long a shard stays open (each up to a tenth shorter); `None` is for ever.
    pub roll: Option<Duration>,
    /// How many of a hundred shards split where they would roll.
    pub split_percent: u8,
    /// Whether DescribeStream lists shards in an order of no meaning.
    pub shuffled: bool,
    /// How long records stay.
    pub retention: Duration,
    /// How far eventually consistent reads are behind.
    pub lag: Duration,
    /// The only access key that is let in; `None`: all are.
    pub access_key_id: Option<String>,
    /// Whether GetRecords is refused beyond 5 a second and shard, DescribeStream beyond 10 a second, in real time.
    pub enforce_rates: bool,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            // 2026-01-15T12:00:00Z
            start_us: 1_768_478_400_000_000,
            speed: 0,
            table: "flagsmith_identities".to_owned(),
            key_name: "composite_key".to_owned(),
            index: IndexKey {
                name: "environment_api_key-identifier-index".to_owned(),
                hash: "environment_api_key".to_owned(),
                range: "identifier".to_owned(),
            },
            region: "eu-west-2".to_owned(),
            account: "000000000000".to_owned(),
            view: Some(ViewType::NewAndOldImages),
            shards: 2,
            roll: Some(Duration::from_secs(4 * 3600)),
            split_percent: 10,
            shuffled: true,
            retention: Duration::from_secs(24 * 3600),
            lag: Duration::ZERO,
            access_key_id: None,
            enforce_rates: false,
        }
    }
}

impl SimSettings {
    pub(crate) fn core(&self) -> CoreSettings {
        CoreSettings {
            seed: self.seed,
            region: self.region.clone(),
            account: self.account.clone(),
            table: self.table.clone(),
            key_name: self.key_name.clone(),
            index: self.index.clone(),
            rules: TreeRules {
                roots: self.shards,
                roll_us: self.roll.map(micros),
                split_percent: self.split_percent,
                shuffled: self.shuffled,
            },
            retention_us: micros(self.retention),
            lag_us: micros(self.lag),
        }
    }
}

/// In microseconds, as times are.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
