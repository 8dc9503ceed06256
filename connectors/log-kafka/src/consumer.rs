//! A reader of some partitions: only what is committed, from given places on.
//!
//! ```text
//! broker ─▶ librdkafka: one queue per partition ─▶ one record of each in turn ─▶ pieces joined ─▶ the task
//! ```
//!
//! Partitions are assigned, never subscribed to: where reading goes on is the task's progress, and a place that is gone
//! is an error. A partition has a queue of its own so that one with much doesn't hold up one with little. The place
//! reached comes from librdkafka's position, which also passes the marks of commits and what was aborted, unlike the
//! records' offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{Consumer, Fault, FaultKind, Fut, Partition, Place, Record, Retention, Topic};
use rollcall_schema_registry::AvroCodec;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::{Client, Serve as _, blocking, fault_of, fault_with, make};
use crate::config::KafkaLogConfig;
use crate::context::{Context, Health, is_refusal};
use crate::pieces::{Part, Pending, part_of};
use crate::producer::WRITER;

/// How long no broker may answer before the task is told; elections are over by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a reader that waits looks at what its client met.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pieces are looked for so many records before their head at most.
const LOOK_BACK_MAX: i64 = 1_000_000;

/// Queues and their client, which end together.
struct Reader {
    queues: Vec<PartitionQueue<Context>>,
    consumer: Arc<BaseConsumer<Context>>,
}

struct Cursor {
    topic: Topic,
    partition: Partition,
    name: String,
    start: Place,
    pending: Pending,
}

/// A head whose pieces were passed before this reader began.
struct Missing {
    cursor: usize,
    id: String,
    pieces: u32,
    fetched: Fetched,
}

/// The reader.
pub(crate) struct KafkaConsumer {
    config: KafkaLogConfig,
    epoch: u32,
    reader: Client<Reader>,
    health: Health,
    cursors: Vec<Cursor>,
    turn: usize,
    nonempty: Arc<Notify>,
    /// Taken, not yet handed on: a poll that is dropped loses nothing.
    ready: Vec<Fetched>,
    missing: Option<Missing>,
    /// Taken, but above the limit of the poll that took it.
    held: Option<Fetched>,
    codec: Option<Arc<AvroCodec>>,
    /// So many of `ready` are JSON by now.
    decoded: usize,
}

impl KafkaConsumer {
    /// Begins to read at places that are there.
    pub(crate) fn new(
        config: &KafkaLogConfig,
        epoch: u32,
        from: &BTreeMap<(Topic, Partition), Place>,
        codec: Option<Arc<AvroCodec>>,
    ) -> Result<Self, Fault> {
        let (consumer, health) = make::<BaseConsumer<Context>>(config, &config.reader(true))?;
        let consumer = Arc::new(consumer);
        let nonempty = Arc::new(Notify::new());
        let mut places = TopicPartitionList::new();
        let mut cursors = Vec::with_capacity(from.len());
        for ((topic, partition), place) in from {
            let name = config.topic(*topic);
            let offset = i64::try_from(place.offset).unwrap_or(i64::MAX);
            let added = places.add_partition_offset(&name, partition.0.into(), Offset::Offset(offset));
            added.map_err(|e| Fault::bug(format!("{offset} is no offset")).from_source(e))?;
            let pending = Pending::default();
            cursors.push(Cursor { topic: *topic, partition: *partition, name, start: *place, pending });
        }
        // Before anything is fetched: what comes earlier than its queue falls into the common one.
        let mut queues = Vec::with_capacity(cursors.len());
        for cursor in &cursors {
            let queue = consumer.split_partition_queue(&cursor.name, cursor.partition.0.into());
            let mut queue = queue.ok_or_else(|| Fault::bug(format!("{} has no queue", cursor.name)))?;
            let nonempty = Arc::clone(&nonempty);
            queue.set_nonempty_callback(move || nonempty.notify_one());
            queues.push(queue);
        }
        consumer.assign(&places).map_err(|e| fault_with(config, &health, "can't read", e))?;
        let reader = Client::new(Reader { queues, consumer });
        let config = config.clone();
        let ready = Vec::new();
        Ok(Self {
            config,
            epoch,
            reader,
            health,
            cursors,
            turn: 0,
            nonempty,
            ready,
            missing: None,
            held: None,
            codec,
            decoded: 0,
        })
    }

    /// One record of each partition in turn, until the limit is reached, nothing is left or pieces are missing.
    fn take(&mut self, limit: PollLimit) -> Result<(), Fault> {
        let reader = Arc::clone(self.reader.get()?);
        while let Some(event) = reader.consumer.poll(Duration::ZERO) {
            match event {
                Err(error) => self.pass_or_fail("can't read", error)?,
                Ok(message) => {
                    let (topic, partition) = (message.topic(), message.partition());
                    return Err(Fault::retry(format!("a record of {topic}/{partition} came past its queue")));
                }
            }
        }
        let count = reader.queues.len();
        let (mut dry, mut bytes) = (0, 0);
        if let Some(held) = self.held.take() {
            bytes += size_of(&held.record);
            self.ready.push(held);
        }
        while dry < count && self.missing.is_none() && self.ready.len() < limit.records_max.max(1) {
            let index = self.turn % count;
            self.turn = index + 1;
            let Some(queue) = reader.queues.get(index) else { break };
            match queue.poll(Duration::ZERO) {
                None => dry += 1,
                Some(Err(error)) => {
                    let name = self
                        .cursors
                        .get(index)
                        .map_or(String::new(), |c| format!("{}/{}", c.name, c.partition));
                    self.pass_or_fail(&format!("can't read {name}"), error)?;
                }
                Some(Ok(message)) => {
                    dry = 0;
                    self.health.good();
                    let before = self.ready.len();
                    self.keep(index, &message)?;
                    bytes +=
                        self.ready.iter().skip(before).map(|fetched| size_of(&fetched.record)).sum::<usize>();
                    if bytes > limit.bytes_max && self.ready.len() > 1 {
                        self.held = self.ready.pop();
                    }
                    if self.ready.len() >= limit.records_max.max(1) || bytes >= limit.bytes_max {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, index: usize, message: &BorrowedMessage<'_>) -> Result<(), Fault> {
        let Some(cursor) = self.cursors.get_mut(index) else { return Ok(()) };
        let (mut headers, foreign) = headers_of(message);
        let place = Place { epoch: self.epoch, offset: u64::try_from(message.offset()).unwrap_or_default() };
        let value = message.payload().map(<[u8]>::to_vec);
        let part = if foreign { Part::Whole } else { part_of(&mut headers) };
        let record = |headers, value| Record {
            topic: cursor.topic,
            partition: cursor.partition,
            key: message.key().unwrap_or_default().to_vec(),
            value,
            headers,
        };
        match part {
            Part::Piece => cursor.pending.keep(&headers, value),
            Part::Whole => self.ready.push(Fetched { place, record: record(headers, value), foreign }),
            Part::Head { id, pieces } => {
                let joined = cursor.pending.join(&id, pieces, value.unwrap_or_default());
                let is_whole = joined.is_ok();
                let value = Some(joined.unwrap_or_else(|last| last));
                let fetched = Fetched { place, record: record(headers, value), foreign };
                if is_whole {
                    self.ready.push(fetched);
                } else {
                    self.missing = Some(Missing { cursor: index, id, pieces, fetched });
                }
            }
        }
        Ok(())
    }

    /// Brokers come and go; what stays is a fault.
    fn pass_or_fail(&self, doing: &str, error: KafkaError) -> Result<(), Fault> {
        // Who refuses us for a moment, as a broker that starts may, is asked again by the check of our health.
        if crate::fault::code_of(&error).is_some_and(is_refusal) {
            return Ok(());
        }
        let found = fault_with(&self.config, &self.health, doing, error);
        if found.kind == FaultKind::Retry { Ok(()) } else { Err(found) }
    }

    /// Reads a head's pieces, which stand before the place that this reader began at.
    async fn look_back(&mut self) -> Result<(), Fault> {
        let Some(missing) = &self.missing else { return Ok(()) };
        let Some(cursor) = self.cursors.get(missing.cursor) else { return Ok(()) };
        let at = (cursor.name.clone(), i32::from(cursor.partition.0));
        let is_compacted = cursor.topic.retention() == Retention::Compacted;
        let head = i64::try_from(missing.fetched.place.offset).unwrap_or(i64::MAX);
        let (id, pieces) = (missing.id.clone(), missing.pieces);
        let last = missing.fetched.record.value.clone().unwrap_or_default();
        let config = self.config.clone();
        let began = i64::try_from(cursor.start.offset).unwrap_or(i64::MAX);
        let joined = blocking(move || join_before(&config, &at.0, at.1, (began, head), (&id, pieces), last));
        let joined = joined.await?;
        if matches!(joined, Joined::Lost) && !is_compacted {
            // It stays missing: asking again must not pass over it.
            return Err(Fault::refused(format!(
                "a record of {}/{} at offset {head} has lost its pieces",
                cursor.name, cursor.partition
            ))
            .repair(
                "rollcall rebuild the sink that reads it, or rollcall backfill the source that wrote it",
            ));
        }
        let Some(Missing { cursor, id, mut fetched, .. }) = self.missing.take() else { return Ok(()) };
        if let Some(cursor) = self.cursors.get_mut(cursor) {
            cursor.pending.forget(&id);
        }
        match joined {
            Joined::Whole(value) => {
                fetched.record.value = Some(value);
                self.ready.push(fetched);
            }
            // Compacted: newer pieces of the key have taken the place of these, and its newer head comes. By time: it
            // began before what retention left.
            Joined::Lost | Joined::Gone => {}
        }
        Ok(())
    }

    async fn poll(&mut self, limit: PollLimit) -> Result<Vec<Fetched>, Fault> {
        let until = Instant::now() + limit.wait;
        loop {
            if self.missing.is_some() {
                self.look_back().await?;
            }
            if self.ready.is_empty() {
                self.take(limit)?;
            }
            if self.missing.is_some() {
                continue;
            }
            if !self.ready.is_empty() {
                self.decode().await?;
                self.decoded = 0;
                return Ok(std::mem::take(&mut self.ready));
            }
            self.check_health().await?;
            let look = until.min(Instant::now() + LOOK_EVERY);
            tokio::select! {
                biased;
                () = self.nonempty.notified() => {}
                () = tokio::time::sleep_until(look) => if Instant::now() >= until { return Ok(Vec::new()) },
            }
        }
    }

    /// What is taken, from Avro to JSON. A schema of another version is fetched first.
    async fn decode(&mut self) -> Result<(), Fault> {
        while let Some(fetched) = self.ready.get_mut(self.decoded) {
            let record = &mut fetched.record;
            if let Some(value) = record.value.as_ref().filter(|v| v.first() == Some(&0) && !fetched.foreign) {
                let Some(codec) = &self.codec else {
                    let (name, partition) = (record.topic.name(), record.partition);
                    return Err(Fault::config(format!("records of {name}/{partition} are in Avro"))
                        .repair("set log.schema_registry to the registry that they were written with"));
                };
                if let Some(id) = codec.unknown_schema(value) {
                    codec.learn(id).await?;
                }
                let value = record.value.take().unwrap_or_default();
                record.value = Some(codec.decode(record.topic, &record.key, value)?);
            }
            self.decoded += 1;
        }
        Ok(())
    }

    /// Whether brokers answer at all. One that came back doesn't say so: it is asked.
    async fn check_health(&self) -> Result<(), Fault> {
        let Some(trouble) = self.health.trouble(PATIENCE) else { return Ok(()) };
        let Some(cursor) = self.cursors.first() else { return Ok(()) };
        let reader = Arc::clone(self.reader.get()?);
        let (name, partition) = (cursor.name.clone(), i32::from(cursor.partition.0));
        let asked = tokio::task::spawn_blocking(move || {
            reader.consumer.fetch_watermarks(&name, partition, Duration::from_secs(2))
        });
        if matches!(asked.await, Ok(Ok(_))) {
            self.health.good();
            return Ok(());
        }
        Err(fault_of(&self.config, "can't read", trouble))
    }
}

fn size_of(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Vec::len)
}

fn headers_of(message: &BorrowedMessage<'_>) -> (Vec<(String, String)>, bool) {
    let mut headers = Vec::new();
    let mut foreign = true;
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        if header.key == WRITER {
            foreign = false;
        } else {
            let text = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
            headers.push((header.key.to_owned(), text));
        }
    }
    (headers, foreign)
}

/// What became of a head whose pieces were not seen before it.
enum Joined {
    Whole(Vec<u8>),
    /// Not all of them are where they were written.
    Lost,
    /// They stood before where the partition begins by now.
    Gone,
}

/// The whole value of the record whose head stands at `head`, from the pieces before it. Blocks.
fn join_before(
    config: &KafkaLogConfig,
    name: &str,
    partition: i32,
    (began, head): (i64, i64),
    (id, pieces): (&str, u32),
    last: Vec<u8>,
) -> Result<Joined, Fault> {
    let (consumer, health) = make::<BaseConsumer<Context>>(config, &config.reader(true))?;
    consumer.serve();
    let cant = |e| fault_with(config, &health, &format!("can't read {name}/{partition}"), e);
    let (start, _) = consumer.fetch_watermarks(name, partition, config.request_timeout()).map_err(cant)?;
    // A reader that began where the partition begins has passed all that is there.
    if began <= start {
        return Ok(Joined::Gone);
    }
    let mut places = TopicPartitionList::new();
    let from = Offset::Offset(start.max(head - LOOK_BACK_MAX));
    places.add_partition_offset(name, partition, from).map_err(cant)?;
    consumer.assign(&places).map_err(cant)?;
    let mut pending = Pending::default();
    let mut silent = std::time::Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.offset() >= head => break,
            Some(Ok(message)) => {
                let (mut headers, foreign) = headers_of(&message);
                let of_this = headers.iter().any(|(_, text)| text.split('/').next() == Some(id));
                if !foreign && of_this && matches!(part_of(&mut headers), Part::Piece) {
                    pending.keep(&headers, message.payload().map(<[u8]>::to_vec));
                }
                silent = std::time::Instant::now();
            }
            Some(Err(error)) => match fault_with(config, &health, "can't read", error) {
                found if found.kind == FaultKind::Retry => {}
                found => return Err(found),
            },
            None if silent.elapsed() > PATIENCE => {
                return Err(Fault::retry(format!("{name}/{partition} brings no record within {PATIENCE:?}")));
            }
            None => {}
        }
    }
    Ok(pending.join(id, pieces, last).map_or(Joined::Lost, Joined::Whole))
}

impl Consumer for KafkaConsumer {
    fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>> {
        Box::pin(self.poll(limit))
    }

    fn reached(&self) -> BTreeMap<(Topic, Partition), Place> {
        let positions = self.reader.get().ok().and_then(|reader| reader.consumer.position().ok());
        self.cursors
            .iter()
            .map(|cursor| {
                let at = positions
                    .as_ref()
                    .and_then(|p| p.find_partition(&cursor.name, cursor.partition.0.into()));
                let offset = match at.map(|at| at.offset()) {
                    Some(Offset::Offset(offset)) => u64::try_from(offset).unwrap_or_default(),
                    Some(_) | None => cursor.start.offset,
                };
                // What is held back has not been brought.
                let back =
                    self.missing.iter().map(|missing| &missing.fetched).chain(&self.held).chain(&self.ready);
                let own =
                    back.filter(|f| (f.record.topic, f.record.partition) == (cursor.topic, cursor.partition));
                let offset = own.map(|f| f.place.offset).chain([offset]).min().unwrap_or(offset);
                ((cursor.topic, cursor.partition), Place { epoch: self.epoch, offset })
            })
            .collect()
    }
}

/// The words for a place that isn't one of this log's.
pub(crate) fn check_place(
    config: &KafkaLogConfig,
    epoch: u32,
    (topic, partition): (Topic, Partition),
    place: Place,
    (start, end): (i64, i64),
) -> Result<(), Fault> {
    let offset = i64::try_from(place.offset).unwrap_or(i64::MAX);
    let name = format!("{}/{partition}", config.topic(topic));
    if place.epoch != epoch || offset > end {
        return Err(Fault::refused(format!(
            "offset {offset} of epoch {} in {name} is not of this log, which ends at {end} of epoch {epoch}",
            place.epoch
        ))
        .repair("give the task its own log back, or rollcall rebuild what it keeps"));
    }
    if offset < start {
        let mut gone = crate::fault::fault(
            config,
            &format!("{name} starts at {start}"),
            KafkaError::Global(Code::OffsetOutOfRange),
        );
        gone.what = format!("{}, a reader stands at offset {offset}", gone.what);
        return Err(gone);
    }
    Ok(())
}
