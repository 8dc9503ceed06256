//! A simulated table, a log in memory, and the tasks between them, which end and come back as a test likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rollcall_aws::{AwsConfig, Credentials};
use rollcall_dynamo_sim::{DynamoSim, SimSettings, ViewType};
use rollcall_kit::{MemoryLog, MemoryStore};
use rollcall_model::shards::{ItemOrigin, StreamStart};
use rollcall_model::{
    Attribute, Change, Image, Input, Item, ItemPages, ItemState, Log, LogId, NativeId, Partition, Precedence,
    ShardSource, Topic,
};
use rollcall_platforms::ItemPlatform;
use rollcall_roster::counts::Counts;
use rollcall_roster::{Roster, RosterState, Turn};
use rollcall_source_dynamodb::{
    DynamoShards, DynamoSourceConfig, Scan, ScanConfig, begin_stream, raise_epoch,
};
use tokio::sync::{mpsc, oneshot};

use crate::reader_task::{ReaderTask, look_up};
use crate::source_task::{BackfillWanted, Commands, SourceCommand};
use crate::stream::{Needs, StreamState, read_through};
use crate::stream_task::StreamTask;
use crate::tasks::{TaskBody, TaskState, Tasks};
use crate::wiring::ItemSourceWiring;

const PARTITIONS: u16 = 3;
const SOURCE: &str = "edge";
const KEYS: usize = 7;
/// Virtual time runs so much faster than ours.
pub(super) const SPEED: u32 = 3_000;
/// Where days count: a busy machine must not take one for what takes minutes.
pub(super) const SPEED_OF_DAYS: u32 = 300;
/// A history that takes longer has come to a standstill.
const REST_WITHIN: Duration = Duration::from_secs(90);
const PLATFORM: ItemPlatform = ItemPlatform::FlagsmithEdge;

pub(super) struct World {
    pub(super) sim: DynamoSim,
    log: Arc<MemoryLog>,
    wiring: Arc<ItemSourceWiring>,
    commands: mpsc::Sender<SourceCommand>,
    receiver: Commands,
    tasks: Tasks,
    /// Doubles of readers, which the log has to fence.
    doubles: Tasks,
    written: u64,
    began: bool,
}

fn wiring(sim: &DynamoSim, readers: u16, start: StreamStart) -> ItemSourceWiring {
    let aws = AwsConfig {
        region: "eu-west-2".to_owned(),
        endpoint: Some(sim.url()),
        credentials: Credentials::Static {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
            session_token: None,
        },
    };
    let stream = DynamoSourceConfig {
        start,
        readers,
        idle_poll_ms: 4,
        idle_poll_max_ms: 12,
        discover_ms: 30,
        progress_ms: 10,
        calls_per_shard_per_s: 10_000,
        ..DynamoSourceConfig::new(SOURCE.into(), "flagsmith_identities", PLATFORM.key(), aws.clone())
    };
    let scan = ScanConfig {
        table: "flagsmith_identities".to_owned(),
        key: PLATFORM.key(),
        aws,
        segments: 2,
        read_units_per_s: None,
        page_items: 2,
        pages_in_flight_max: 3,
        environment: None,
        clock_slack_ms: stream.clock_slack_ms,
    };
    let (begins, raises) = (stream.clone(), stream.clone());
    ItemSourceWiring {
        name: SOURCE.into(),
        platform: PLATFORM,
        readers,
        clock_slack_ms: stream.clock_slack_ms,
        loads_by_itself: true,
        begin: Box::new(move || {
            let stream = begins.clone();
            Box::pin(async move { Box::pin(begin_stream(&stream)).await })
        }),
        accept_loss: Box::new(move |stream, readers| {
            let config = raises.clone();
            Box::pin(async move {
                let raised = Box::pin(raise_epoch(&config, &stream, &readers)).await?;
                Ok((raised.stream, raised.missing_from_us))
            })
        }),
        start_reader: Box::new(move |start| {
            let config = stream.clone();
            Box::pin(async move {
                let reader = DynamoShards::start(config, start.stream, start.index, start.own, start.others);
                Ok(Box::new(Box::pin(reader).await?) as Box<dyn ShardSource>)
            })
        }),
        start_backfill: Box::new(move |plan| {
            let scan = scan.clone();
            Box::pin(async move {
                assert_eq!(plan.origin, ItemOrigin::Scan { environment_key: None });
                Ok(Box::new(Box::pin(Scan::start(&scan, plan.cursor)).await?) as Box<dyn ItemPages>)
            })
        }),
    }
}

fn item(key: usize, value: u64) -> Item {
    let text = |text: String| Attribute::S(text);
    let entry = Attribute::M(Item::from([
        ("trait_key".to_owned(), text("value".to_owned())),
        ("trait_value".to_owned(), Attribute::N(value.to_string())),
    ]));
    Item::from([
        ("composite_key".to_owned(), text(format!("env_user{key}"))),
        ("environment_api_key".to_owned(), text("env".to_owned())),
        ("identifier".to_owned(), text(format!("user{key}"))),
        ("identity_traits".to_owned(), Attribute::L(vec![entry])),
    ])
}

impl World {
    pub(super) fn new(seed: u64, readers: u16, start: StreamStart, speed: u32) -> Self {
        let settings = SimSettings {
            seed,
            speed,
            shards: 1 + (seed % 3) as u32,
            split_percent: 20,
            ..SimSettings::default()
        };
        let sim = DynamoSim::start(settings);
        let (commands, receiver) = mpsc::channel(4);
        Self {
            wiring: Arc::new(wiring(&sim, readers, start)),
            sim,
            log: Arc::new(MemoryLog::new(PARTITIONS)),
            commands,
            receiver: Arc::new(tokio::sync::Mutex::new(receiver)),
            tasks: Tasks::default(),
            doubles: Tasks::default(),
            written: 0,
            began: false,
        }
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    fn names(&self) -> Vec<String> {
        let readers = (0..self.wiring.readers).map(|index| crate::reader_task::name(SOURCE, index));
        readers.chain([crate::source_task::name(SOURCE)]).collect()
    }

    fn body(&self, name: &str) -> TaskBody {
        let (log, wiring) = (self.log(), Arc::clone(&self.wiring));
        match name.rsplit_once('/').and_then(|(_, index)| index.parse().ok()) {
            Some(index) => {
                let task = ReaderTask { log, wiring, index };
                Box::new(move |reporter| Box::pin(task.clone().run(reporter)))
            }
            None => {
                let task = StreamTask { log, wiring, commands: Arc::clone(&self.receiver) };
                Box::new(move |reporter| Box::pin(task.clone().run(reporter)))
            }
        }
    }

    pub(super) fn start_all(&mut self) {
        self.began = true;
        for name in self.names() {
            self.tasks.start(&name, false, Arc::new(self.body(&name)));
        }
    }

    /// Ends as a killed process does: what is not committed did not happen.
    pub(super) fn stop_all(&mut self) {
        for name in self.names() {
            self.tasks.kill(&name);
            self.doubles.kill(&name);
        }
    }

    /// One task dies and comes back at once, perhaps elsewhere.
    pub(super) fn crash(&mut self, random: &mut StdRng) {
        let names = self.names();
        let name = &names[random.random_range(0..names.len())];
        self.tasks.kill(name);
        self.tasks.start(name, false, Arc::new(self.body(name)));
    }

    /// A second worker thinks that a reader is its own.
    pub(super) fn start_double(&mut self, random: &mut StdRng) {
        let index = random.random_range(0..self.wiring.readers);
        let name = crate::reader_task::name(SOURCE, index);
        self.doubles.kill(&name);
        self.doubles.start(&name, false, Arc::new(self.body(&name)));
    }

    pub(super) fn write(&mut self, random: &mut StdRng) {
        let key = random.random_range(0..KEYS);
        self.written += 1;
        match random.random_range(0..10) {
            0 => drop(self.sim.delete(&format!("env_user{key}"))),
            1 => drop(self.sim.expire(&format!("env_user{key}"))),
            _ => self.sim.put(item(key, self.written % 5)).unwrap(),
        }
    }

    pub(super) fn split_or_roll(&mut self, random: &mut StdRng) {
        let open = self.sim.open_shards();
        let Some(shard) = open.get(random.random_range(0..open.len().max(1))) else { return };
        if open.len() < 6 && random.random_bool(0.6) {
            drop(self.sim.split(shard));
        } else {
            drop(self.sim.roll(shard));
        }
    }

    pub(super) fn recreate_stream(&mut self) {
        self.sim.disable_stream();
        self.sim.advance(Duration::from_secs(60));
        self.sim.enable_stream(ViewType::NewAndOldImages);
    }

    /// Asks for a backfill; that one is under way already is an answer too.
    pub(super) async fn backfill(&mut self, repair: bool, from: Option<String>) {
        let since = Instant::now();
        loop {
            let (answer, said) = oneshot::channel();
            let wanted = BackfillWanted { from: from.clone(), environment: None, repair };
            self.commands.send(SourceCommand::Backfill(wanted, answer)).await.unwrap();
            let said = tokio::time::timeout(Duration::from_secs(20), said).await;
            match said {
                Ok(Ok(Ok(_))) => return,
                Ok(Ok(Err(fault))) if !repair && fault.message().contains("under way") => return,
                // Whoever was asked died, or met a fault of the moment.
                Ok(Ok(Err(fault))) if fault.kind == rollcall_model::FaultKind::Retry => {}
                Ok(Ok(Err(fault))) => panic!("{fault}"),
                Ok(Err(_)) | Err(_) => {}
            }
            assert!(since.elapsed() < REST_WITHIN, "the owner takes no backfill");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a reader stands, and answers what it says with its repair.
    pub(super) async fn refused(&self) -> String {
        let since = Instant::now();
        loop {
            for status in self.tasks.board().snapshot().into_values() {
                if let (TaskState::Failed, Some(error)) = (status.state, status.error) {
                    return format!("{error}; repair: {}", status.repair.unwrap_or_default());
                }
            }
            assert!(
                since.elapsed() < REST_WITHIN,
                "nothing was refused: {:?}",
                self.tasks.board().snapshot()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn state(&self) -> StreamState {
        let progress = self.log.tasks().await.unwrap().remove(&crate::source_task::name(SOURCE));
        progress.map(|progress| serde_json::from_value(progress.state).unwrap()).unwrap_or_default()
    }

    /// As [`World::rest`]; where more is lost meanwhile, since this world's days are short, that is repaired too.
    pub(super) async fn rest_repairing(&mut self) {
        self.rest_while(true).await;
    }

    /// Waits until everything written is in the log, and no backfill is under way.
    pub(super) async fn rest(&mut self) {
        self.rest_while(false).await;
    }

    async fn rest_while(&mut self, repairing: bool) {
        assert!(self.began);
        for name in self.names() {
            self.doubles.kill(&name);
        }
        // A fenced one starts anew by itself.
        let written_us = self.sim.now_us();
        let since = Instant::now();
        loop {
            let (state, known) = (self.state().await, look_up(&self.log(), SOURCE).await.unwrap());
            let through = state.stream.as_ref().and_then(|stream| read_through(stream, &known.readers));
            let all = repairing || self.is_all_in_the_log();
            let quiet =
                all && state.backfill.is_none() && state.needs == Needs::Nothing && state.stream.is_some();
            if quiet && through.is_some_and(|through_us| through_us > written_us) {
                return;
            }
            let stands = |status: crate::tasks::TaskStatus| status.state == TaskState::Failed;
            if repairing && self.tasks.board().snapshot().into_values().any(stands) {
                self.backfill(true, None).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(
                since.elapsed() < REST_WITHIN,
                "no rest: read through {through:?} of {written_us}, {state:?}\n{:?}\n{:#?}",
                self.tasks.board().snapshot(),
                known.readers
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every record of the log in the order of its partition, changes of the stream with their positions.
    fn streamed(&self) -> BTreeMap<NativeId, Vec<String>> {
        let mut streamed: BTreeMap<NativeId, Vec<String>> = BTreeMap::new();
        for input in self.inputs().into_values().flatten() {
            if let Input::Change(change) = input
                && change.precedence == Precedence::Streamed
            {
                streamed.entry(change.id).or_default().push(change.position);
            }
        }
        streamed
    }

    fn inputs(&self) -> BTreeMap<Partition, Vec<Input>> {
        let partitions = (0..PARTITIONS).map(Partition);
        let read = |partition| {
            let records = self.log.records(Topic::IdentityChanges, partition).into_iter();
            records
                .filter_map(|fetched| fetched.record.value)
                .map(|v| serde_json::from_slice(&v).unwrap())
                .collect()
        };
        partitions.map(|partition| (partition, read(partition))).collect()
    }

    /// Whether the last record of each key is in the log. A clock that runs thousands of times faster than ours makes of a
    /// moment between two calls an hour: here, times alone don't say it.
    fn is_all_in_the_log(&self) -> bool {
        let (history, streamed) = (self.history(), self.streamed());
        history.iter().all(|(key, all)| streamed.get(key).is_none_or(|got| got.last() == all.last()))
    }

    fn history(&self) -> BTreeMap<NativeId, Vec<String>> {
        let mut history: BTreeMap<NativeId, Vec<String>> = BTreeMap::new();
        for written in self.sim.history() {
            if let Some((shard, sequence)) = &written.record {
                let sequence: rollcall_model::Sequence = sequence.to_string().parse().unwrap();
                let key = NativeId::Text(written.key.as_ref().into());
                history.entry(key).or_default().push(format!("{shard}:{sequence}"));
            }
        }
        history
    }

    /// Each record once, in its key's order; none missing that the stream had to bring; and the state of the table.
    pub(super) fn assert_exact(&self) {
        let history = self.history();
        let streamed = self.streamed();
        for (key, all) in &history {
            let got = streamed.get(key).map_or(&[][..], Vec::as_slice);
            // LATEST begins somewhere; from there on it is all.
            assert!(all.ends_with(got), "{key}: written {all:#?}, in the log {got:#?}");
        }
        assert!(streamed.keys().all(|key| history.contains_key(key)), "keys that nobody wrote");
        self.assert_as_the_table();
    }

    /// What rosters make of the log is what the table holds.
    pub(super) fn assert_as_the_table(&self) {
        let mut stored: BTreeMap<String, Image> = BTreeMap::new();
        for (partition, inputs) in self.inputs() {
            let mut roster = Roster::new(
                LogId("log".into()),
                partition,
                RosterState::default(),
                Counts::default(),
                i64::MAX / 2,
            );
            let mut store = MemoryStore::default();
            for (offset, input) in inputs.iter().enumerate() {
                let place = rollcall_model::Place { epoch: 0, offset: offset as u64 + 1 };
                loop {
                    let mut session = roster.session(&store);
                    let turn = session.apply(place, input).unwrap();
                    let output = session.finish();
                    store.write(output.stored);
                    if turn == Turn::Done {
                        break;
                    }
                }
            }
            let live =
                store.rows.into_values().filter_map(|s| Some((s.key.id.to_string(), s.image()?.clone())));
            stored.extend(live);
        }
        let image = |item: Item| {
            let change = PLATFORM.change(&ItemState::Present(item));
            let Change::Upsert { image } = change else { panic!("{change:?}") };
            image
        };
        let table: BTreeMap<String, Image> =
            self.sim.items().into_iter().map(|(key, item)| (key, image(item))).collect();
        assert_eq!(stored, table);
    }
}
