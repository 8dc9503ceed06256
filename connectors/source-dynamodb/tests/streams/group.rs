//! Readers of one stream and a log in memory: what the runtime does with them, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_dynamo_sim::DynamoSim;
use rollcall_model::shards::{Stream, StreamStart};
use rollcall_model::{
    Attribute, Committed, Fault, Item, ItemChange, ItemState, NativeId, SavedShards, ShardEvent, ShardSource,
    Shards,
};
use rollcall_source_dynamodb::{DynamoShards, DynamoSourceConfig, Raised, begin_stream, raise_epoch};
use tokio::time::timeout;

/// A test that gets no further ends; no test is about how long things take.
const STUCK_S: u64 = 240;

pub(crate) fn config(url: &str, start: StreamStart, readers: u16) -> DynamoSourceConfig {
    let credentials = Credentials::Static {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    let aws = AwsConfig { region: "eu-west-2".to_owned(), endpoint: Some(url.to_owned()), credentials };
    DynamoSourceConfig {
        start,
        readers,
        idle_poll_ms: 5,
        idle_poll_max_ms: 20,
        discover_ms: 100,
        calls_per_shard_per_s: 1_000,
        progress_ms: 20,
        ..DynamoSourceConfig::new("edge".into(), "flagsmith_identities", "composite_key", aws)
    }
}

pub(crate) fn item(key: &str, version: u64) -> Item {
    let text = |text: &str| Attribute::S(text.to_owned());
    [
        ("composite_key".to_owned(), text(key)),
        ("environment_api_key".to_owned(), text("env")),
        ("identifier".to_owned(), text(key)),
        ("version".to_owned(), Attribute::N(version.to_string())),
    ]
    .into()
}

pub(crate) struct Group {
    pub(crate) config: DynamoSourceConfig,
    pub(crate) stream: Stream,
    /// What the log has.
    pub(crate) log: Vec<ItemChange>,
    pub(crate) saved: BTreeMap<u16, Shards>,
    pub(crate) readers: BTreeMap<u16, DynamoShards>,
}

impl Group {
    /// Begins a stream; nobody reads yet.
    pub(crate) async fn begin(config: DynamoSourceConfig) -> Self {
        let stream = begin_stream(&config).await.expect("a stream");
        Self { config, stream, log: Vec::new(), saved: BTreeMap::new(), readers: BTreeMap::new() }
    }

    pub(crate) async fn try_start(&mut self, index: u16) -> Result<(), Fault> {
        let mut others = self.saved.clone();
        let own = others.remove(&index).unwrap_or_default();
        let reader =
            DynamoShards::start(self.config.clone(), self.stream.clone(), index, own, others).await?;
        self.readers.insert(index, reader);
        Ok(())
    }

    pub(crate) async fn start(&mut self) {
        for index in 0..self.stream.readers {
            self.try_start(index).await.expect("a reader");
        }
    }

    /// All of them are gone, with what they had not saved.
    pub(crate) fn stop(&mut self) {
        self.readers.clear();
    }

    fn commit(&mut self, index: u16, event: ShardEvent) -> Result<(), Fault> {
        self.log.extend(event.changes);
        let own = self.saved.entry(index).or_default();
        own.epoch = self.stream.epoch;
        for (shard, progress) in event.progress {
            match progress {
                Some(progress) => own.shards.insert(shard, progress),
                None => own.shards.remove(&shard),
            };
        }
        for (reader, source) in &mut self.readers {
            if *reader == index {
                let own = self.saved.get(&index).cloned().unwrap_or_default();
                source.saved(&SavedShards::by(&Committed::default(), own))?;
            } else {
                let mut others = self.saved.clone();
                others.remove(reader);
                source.others(&others)?;
            }
        }
        Ok(())
    }

    /// One event of each reader that has one.
    pub(crate) async fn turn(&mut self) -> Result<(), Fault> {
        let indexes: Vec<_> = self.readers.keys().copied().collect();
        for index in indexes {
            let Some(reader) = self.readers.get_mut(&index) else { continue };
            // Given up and asked again: nothing may be lost by it.
            if let Ok(event) = timeout(Duration::from_millis(2), reader.next()).await {
                self.commit(index, event?)?;
            }
        }
        Ok(())
    }

    /// Goes on until it is so.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Fault> {
        let all = async {
            while !done(self) {
                self.turn().await?;
            }
            Ok(())
        };
        match timeout(Duration::from_secs(STUCK_S), all).await {
            Ok(result) => result,
            Err(_) => panic!("stuck: {:#?}", self.saved),
        }
    }

    /// Goes on until a reader gives up, and says why.
    pub(crate) async fn until_refused(&mut self) -> Fault {
        self.until(|_| false).await.expect_err("it can only end so")
    }

    /// What an operator's repair does to the stream.
    pub(crate) async fn raise(&mut self) -> Raised {
        self.stop();
        let raised = raise_epoch(&self.config, &self.stream, &self.saved).await.expect("a next epoch");
        self.stream = raised.stream.clone();
        raised
    }

    /// All that the simulator has written since, in order for each key, once, as it was written.
    pub(crate) fn expect_all_of(&self, sim: &DynamoSim, since: usize) {
        let place = |change: &ItemChange| change.position.to_string();
        let places: BTreeSet<_> = self.log.iter().map(place).collect();
        assert_eq!(places.len(), self.log.len(), "a record came twice");
        let mut came: BTreeMap<String, Vec<ItemState>> = BTreeMap::new();
        for change in &self.log {
            came.entry(key(change)).or_default().push(change.state.clone());
        }
        let mut wrote: BTreeMap<String, Vec<ItemState>> = BTreeMap::new();
        for written in sim.history().into_iter().skip(since) {
            let state = match written.new {
                Some(item) => ItemState::Present((*item).clone()),
                None => ItemState::Absent,
            };
            wrote.entry(written.key.to_string()).or_default().push(state);
        }
        assert_eq!(came, wrote);
    }
}

pub(crate) fn key(change: &ItemChange) -> String {
    match &change.id {
        NativeId::Text(text) => text.to_string(),
        NativeId::Int(id) => panic!("{id} is no key"),
    }
}
