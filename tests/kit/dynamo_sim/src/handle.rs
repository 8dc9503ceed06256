//! The handle by which a test moves the world and looks at what is true in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollcall_model::Item;

use crate::core::{ApiError, Clock, Core, ErrorCode, SequenceNumber, Shard, Stream, ViewType, Written};
use crate::counts::Counts;
use crate::faults::{FaultPlan, Faults, Rates};
use crate::server::{Server, Shared, World, lock};
use crate::settings::{SimSettings, micros};
use crate::wire::Action;

/// A running simulator; it ends when this is dropped.
#[derive(Debug)]
pub struct DynamoSim {
    world: Shared,
    server: Server,
}

/// A shard as it is, whatever a reader can see of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardView {
    /// Its stream.
    pub stream_arn: String,
    /// Its name.
    pub id: String,
    /// The shard that it came from.
    pub parent: Option<String>,
    /// When it was opened, in microseconds.
    pub opened_us: i64,
    /// When it was closed.
    pub closed_us: Option<i64>,
    /// Where its numbers begin.
    pub starting: SequenceNumber,
    /// Where they end.
    pub ending: Option<SequenceNumber>,
    /// How many records were ever written to it.
    pub written: u64,
    /// How many of them are there.
    pub held: u64,
    /// The newest record that was trimmed.
    pub trimmed_through: Option<SequenceNumber>,
    /// It is listed no longer.
    pub gone: bool,
}

impl ShardView {
    fn of(stream: &Stream, shard: &Shard) -> Self {
        Self {
            stream_arn: stream.arn.clone(),
            id: shard.id.to_string(),
            parent: shard.parent.as_ref().map(ToString::to_string),
            opened_us: shard.opened_us,
            closed_us: shard.closed_us,
            starting: shard.starting,
            ending: shard.ending,
            written: shard.written,
            held: shard.records.len() as u64,
            trimmed_through: shard.trimmed_through,
            gone: shard.gone,
        }
    }
}

impl DynamoSim {
    /// Starts a world.
    ///
    /// # Panics
    /// If the machine has no free port or no thread for it.
    #[must_use]
    pub fn start(settings: SimSettings) -> Self {
        let mut core = Core::new(settings.core(), settings.start_us);
        if let Some(view) = settings.view {
            core.enable_stream(view);
        }
        let clock = Clock::new(settings.start_us, settings.speed);
        let mut world = World::new(core, clock, FaultPlan::new(settings.seed));
        world.access_key_id = settings.access_key_id;
        world.rates = settings.enforce_rates.then(Rates::default);
        let world = Arc::new(Mutex::new(world));
        let server = Server::start(Arc::clone(&world)).expect("a loopback port for the simulator");
        Self { world, server }
    }

    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = lock(&self.world);
        world.catch_up();
        act(&mut world)
    }

    /// Where it listens: the endpoint of both services.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Virtual time, in microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.with(|world| world.core.now_us)
    }

    /// Puts virtual time forward: what is due meanwhile happens.
    pub fn advance(&self, by: Duration) {
        self.with(|world| {
            world.clock.advance(micros(by));
            world.catch_up();
        });
    }

    /// Lets the `Date` header be off virtual time.
    pub fn set_date_offset_us(&self, offset_us: i64) {
        self.with(|world| world.date_offset_us = offset_us);
    }

    /// Lets in this access key alone.
    pub fn set_access_key_id(&self, id: Option<String>) {
        self.with(|world| world.access_key_id = id);
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|world| world.plan.faults = faults);
    }

    /// The next request for `action` is refused; said again, so are those after it.
    pub fn refuse_next(&self, action: Action, code: ErrorCode) {
        self.with(|world| world.plan.refuse_next(action, ApiError::new(code, "Refused on purpose")));
    }

    /// Writes an item.
    ///
    /// # Errors
    /// What PutItem would answer.
    pub fn put(&self, item: Item) -> Result<(), ApiError> {
        self.with(|world| world.core.put(item).map(drop))
    }

    /// Writes an item that today's DynamoDB would refuse: larger than 400 KB, or with attributes of types to come
    /// ([`rollcall_model::Attribute::Unknown`]).
    ///
    /// # Errors
    /// If it has no key.
    pub fn put_unchecked(&self, item: Item) -> Result<(), ApiError> {
        self.with(|world| world.core.put_unchecked(item))
    }

    /// Removes an item; whether it was there.
    pub fn delete(&self, key: &str) -> bool {
        self.with(|world| world.core.delete(key).is_some())
    }

    /// Removes an item as the time-to-live process does; whether it was there.
    pub fn expire(&self, key: &str) -> bool {
        self.with(|world| world.core.expire(key).is_some())
    }

    /// Splits an open shard in two; which, or `None` if it isn't open.
    pub fn split(&self, shard: &str) -> Option<Vec<String>> {
        self.replace(shard, 2)
    }

    /// Closes an open shard, which another follows; which, or `None` if it isn't open.
    pub fn roll(&self, shard: &str) -> Option<String> {
        self.replace(shard, 1).and_then(|children| children.into_iter().next())
    }

    fn replace(&self, shard: &str, ways: u8) -> Option<Vec<String>> {
        self.with(|world| {
            let now_us = world.core.now_us;
            let children = world.core.enabled_mut()?.tree.replace(shard, ways, now_us)?;
            Some(children.iter().map(ToString::to_string).collect())
        })
    }

    /// Forgets records and closed shards that are older than `age`, as the retention does.
    pub fn trim(&self, age: Duration) {
        self.with(|world| {
            let before_us = world.core.now_us.saturating_sub(micros(age));
            world.core.trim(before_us);
        });
    }

    /// Forgets a closed shard, read or not; `false` if it is open or gone already.
    pub fn vanish(&self, shard: &str) -> bool {
        self.with(|world| world.core.streams.iter_mut().any(|stream| stream.tree.vanish(shard)))
    }

    /// Forgets all closed shards; which.
    pub fn vanish_closed(&self) -> Vec<String> {
        self.with(|world| {
            world.core.streams.iter_mut().flat_map(|stream| stream.tree.vanish_closed()).collect()
        })
    }

    /// Ends the stream; what it holds stays readable for the retention. `false` if there is none.
    pub fn disable_stream(&self) -> bool {
        self.with(|world| world.core.disable_stream())
    }

    /// Begins a new stream; `false` while there is one.
    pub fn enable_stream(&self, view: ViewType) -> bool {
        self.with(|world| world.core.enable_stream(view))
    }

    /// The newest stream, enabled or not.
    #[must_use]
    pub fn stream_arn(&self) -> Option<String> {
        self.with(|world| world.core.streams.last().map(|stream| stream.arn.clone()))
    }

    /// The items as they are, by key.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Item> {
        self.with(|world| {
            let items = world.core.table.truth();
            items.map(|(key, stored)| (key.to_string(), (*stored.item).clone())).collect()
        })
    }

    /// An item as it is.
    #[must_use]
    pub fn item(&self, key: &str) -> Option<Item> {
        self.with(|world| world.core.table.get(key, true).map(|stored| (*stored.item).clone()))
    }

    /// All that was written, in order; what changed nothing is no write.
    #[must_use]
    pub fn history(&self) -> Vec<Written> {
        self.with(|world| world.core.history.clone())
    }

    /// All shards that ever were, of all streams, in the order of their making.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardView> {
        self.with(|world| {
            let streams = world.core.streams.iter();
            streams
                .flat_map(|stream| stream.tree.all().iter().map(|shard| ShardView::of(stream, shard)))
                .collect()
        })
    }

    /// The open shards, in the order of their making.
    #[must_use]
    pub fn open_shards(&self) -> Vec<String> {
        self.shards().into_iter().filter(|shard| shard.closed_us.is_none()).map(|shard| shard.id).collect()
    }

    /// What was asked and sent.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.with(|world| world.counts.clone())
    }

    /// Records that GetRecords sent.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        self.with(|world| world.counts.records_read())
    }
}
