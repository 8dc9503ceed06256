//! A ClickHouse of the test's own, and identities in it as our sink writes them.

use std::collections::BTreeSet;

use rollcall_model::{
    Delivery, IdentityRecord, IdentityState, Image, LogId, NativeId, OutRecord, Partition, Place, Seq, Sink,
    Topic, Version,
};
use rollcall_sink_clickhouse::{ClickHouseSink, ClickHouseSinkConfig};
use rollcall_test_servers::ClickHouse;

use crate::case::Case;

const PARTITIONS: u16 = 1;

/// The engine with the sink's tables.
#[derive(Debug)]
pub struct Server {
    pub(super) url: String,
    pub(super) http: reqwest::Client,
    sink: ClickHouseSink,
    /// Rows ever written: the next id, seq and version.
    written: i64,
    _engine: ClickHouse,
}

fn log_id() -> LogId {
    LogId("differential".into())
}

impl Server {
    /// Starts it.
    ///
    /// # Panics
    /// If the engine is missing (`make servers` brings it) or the sink can't make its tables.
    pub async fn start() -> Self {
        let engine = ClickHouse::temporary();
        let url = engine.url();
        let config = ClickHouseSinkConfig::new("differential", &url);
        let mut sink = ClickHouseSink::connect(config).expect("a good configuration");
        sink.prepare(&log_id(), PARTITIONS).await.expect("the sink makes its tables");
        Self { url, http: reqwest::Client::new(), sink, written: 0, _engine: engine }
    }

    /// Writes the identities of cases, in the environments of their cases, instead of those written before. Returns
    /// their ids, in order.
    ///
    /// # Panics
    /// If the sink does not take every row.
    pub async fn hold(&mut self, cases: &[Case]) -> Vec<String> {
        self.run("TRUNCATE TABLE rollcall.IDENTITIES").await.expect("the table is emptied");
        let batch: Vec<Delivery> = cases.iter().map(|case| self.delivery(case)).collect();
        let written = self.sink.write(&batch).await.expect("the sink writes");
        assert!(written.rejected.is_empty(), "ClickHouse refuses rows: {:?}", written.rejected);
        assert_eq!(written.rows, cases.len() as u64);
        (self.written - cases.len() as i64 + 1..=self.written).map(|id| id.to_string()).collect()
    }

    fn delivery(&mut self, case: &Case) -> Delivery {
        self.written += 1;
        let image = Image {
            environment_id: "1".into(),
            identifier: case.identifier.clone(),
            traits: case.traits.clone(),
            system_traits: case.system_traits.clone(),
        };
        let record = IdentityRecord {
            log_id: log_id(),
            partition: Partition(0),
            seq: Seq(self.written as u64),
            version: Version(self.written),
            deleted: false,
            source: "core".into(),
            id: NativeId::Int(self.written),
            environment_key: Some(case.environment_key.clone()),
            identity_key: Some(case.identity_key.clone()),
            state: IdentityState::Live(image),
            left_environment_keys: BTreeSet::new(),
            place: Place::default(),
            parked: Vec::new(),
            seen: Default::default(),
        };
        Delivery {
            topic: Topic::Identities,
            partition: Partition(0),
            place: Place::default(),
            record: OutRecord::Identity(record),
        }
    }
}
