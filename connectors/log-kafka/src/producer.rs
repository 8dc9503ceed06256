//! A task's writer: one Kafka transaction per commit.
//!
//! ```text
//! open:    init_transactions (fences older writers, ends what they left open) ─▶ read progress as it is then
//! commit:  begin ─▶ records, cut where too large ─▶ progress ─▶ all delivered ─▶ commit
//!                       └ any failure ─▶ abort; the task opens again and learns where it stands
//! ```
//!
//! The transactional id is the task's, so a worker that was taken for dead and comes back is refused at its next write,
//! whatever it believes. A writer whose commit failed is of no use any more: what became of it only a new one can tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use rollcall_model::{Commit, Committed, Fault, FaultKind, Fut, Partition, Place, Producer, Record, Topic};
use rollcall_schema_registry::AvroCodec;

use crate::client::{Client, Serve as _, blocking, fault_of, fault_with, make};
use crate::config::KafkaLogConfig;
use crate::context::{Context, Health};
use crate::progress::{CUT, Kept};

/// Header of every record of a log: the task that wrote it. A record without it is somebody else's.
pub(crate) const WRITER: &str = "rollcall-task";
/// What a commit may hold in the client at once; it waits for room beyond.
const QUEUE_KBYTES_MAX: &str = "131072";
const QUEUE_RECORDS_MAX: &str = "200000";
/// librdkafka counts in milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// What is left undone is undone by the next writer all the same.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// Messages in a request take more than a message.
const BATCH_BYTES_MIN: u64 = 1_000;

/// The only writer of a transactional id, until a newer one is made.
pub(crate) struct Writer {
    config: KafkaLogConfig,
    task: String,
    epoch: u32,
    message_bytes_max: u64,
    codec: Option<Arc<AvroCodec>>,
    producer: Client<BaseProducer<Context>>,
    health: Health,
    kept: Kept,
    /// No two cut records of a log share it: random, then counted.
    next_cut: u64,
}

impl Writer {
    /// Fences older writers of the task. Blocks.
    pub(crate) fn open(
        config: &KafkaLogConfig,
        task: &str,
        epoch: u32,
        message_bytes_max: u64,
        codec: Option<Arc<AvroCodec>>,
    ) -> Result<Self, Fault> {
        let mut client = config.base();
        client
            .set("transactional.id", config.transactional_id(task))
            .set("transaction.timeout.ms", config.transaction_timeout_ms.to_string())
            .set("message.timeout.ms", config.transaction_timeout_ms.to_string())
            .set("message.max.bytes", message_bytes_max.clamp(BATCH_BYTES_MIN, 1_000_000_000).to_string());
        config.set_unless_given(&mut client, "queue.buffering.max.kbytes", QUEUE_KBYTES_MAX);
        config.set_unless_given(&mut client, "queue.buffering.max.messages", QUEUE_RECORDS_MAX);
        // A commit is flushed as a whole; nothing is gained by waiting for more.
        if !config.client.contains_key("queue.buffering.max.ms") {
            config.set_unless_given(&mut client, "linger.ms", "0");
        }
        if !config.client.contains_key("compression.codec") {
            config.set_unless_given(&mut client, "compression.type", "lz4");
        }
        let (producer, health) = make::<BaseProducer<Context>>(config, &client)?;
        let producer = Client::new(producer);
        let patience = Duration::from_millis(config.transaction_timeout_ms.into()) + config.request_timeout();
        let doing = format!("can't become the writer of task '{task}'");
        let own = producer.get()?;
        own.serve();
        if let Some(trouble) = health.no_token() {
            return Err(fault_of(config, &doing, trouble));
        }
        own.init_transactions(patience).map_err(|e| {
            own.serve();
            fault_with(config, &health, &doing, e)
        })?;
        health.good();
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Fault::retry("the operating system gave no random number").from_source(e))?;
        Ok(Self {
            config: config.clone(),
            task: task.to_owned(),
            epoch,
            message_bytes_max,
            codec,
            producer,
            health,
            kept: Kept::default(),
            next_cut: u64::from_be_bytes(random),
        })
    }

    /// Goes on from what was committed.
    pub(crate) fn resume(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// One transaction. Blocks. After a failure this writer must not be used again.
    pub(crate) fn commit(&mut self, commit: Commit) -> Result<Committed, Fault> {
        for record in &commit.records {
            known(&self.config, record.topic, record.partition)?;
        }
        let mut cut = self.kept.cut.clone();
        let mut records = Vec::with_capacity(commit.records.len() + 1);
        for mut record in commit.records {
            if let Some(codec) = &self.codec {
                let value = record.value.take();
                record.value =
                    value.map(|value| codec.encode(record.topic, &record.key, value)).transpose()?;
            }
            let limit = usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX);
            cut.cut(record, limit, self.next_cut, &mut records).map_err(too_many_cut)?;
            self.next_cut = self.next_cut.wrapping_add(1);
        }
        let moved = commit.progress.is_some();
        let kept = Kept { progress: commit.progress.or_else(|| self.kept.progress.clone()), cut };
        if moved || kept.cut != self.kept.cut {
            records.push(self.progress_record(&kept)?);
        } else if records.is_empty() {
            // Only a write tells whether a newer writer is there.
            records.push(self.own(&format!("fence/{}", self.task), None, Vec::new()));
        }
        let committed = self.write(&records)?;
        self.kept = kept;
        Ok(committed)
    }

    /// A record of the topic `progress` alone; for what isn't a task's: the label.
    pub(crate) fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), Fault> {
        self.write(&[self.own(key, value, Vec::new())]).map(drop)
    }

    fn own(&self, key: &str, value: Option<Vec<u8>>, headers: Vec<(String, String)>) -> Record {
        Record {
            topic: Topic::Progress,
            partition: Partition(0),
            key: key.as_bytes().to_vec(),
            value,
            headers,
        }
    }

    fn progress_record(&self, kept: &Kept) -> Result<Record, Fault> {
        let not_json = |e| Fault::bug("progress can't be written as JSON").from_source(e);
        // Null where a task only cut records up: it has no progress yet.
        let value = serde_json::to_vec(&kept.progress).map_err(not_json)?;
        let mut headers = Vec::new();
        if !kept.cut.is_empty() {
            headers.push((CUT.to_owned(), serde_json::to_string(&kept.cut).map_err(not_json)?));
        }
        Ok(self.own(&self.task, Some(value), headers))
    }

    fn write(&self, records: &[Record]) -> Result<Committed, Fault> {
        let producer = self.producer.get()?;
        let context = producer.client().context();
        drop(context.take_delivered());
        let written = producer.begin_transaction().map_err(|e| self.fault(e)).and_then(|()| {
            for record in records {
                self.send(producer, record)?;
            }
            self.wait_delivered(producer)?;
            let patience = self.patience();
            producer.commit_transaction(patience).map_err(|e| self.fault(e))
        });
        if let Err(fault) = written {
            if fault.kind != FaultKind::Fenced {
                self.take_back(producer);
            }
            return Err(fault);
        }
        self.health.good();
        Ok(self.committed(context))
    }

    fn take_back(&self, producer: &BaseProducer<Context>) {
        let until = Instant::now() + ABORT_WITHIN;
        // librdkafka waits until all that was sent is reported on, and reports only to who polls.
        producer.purge(PurgeConfig::default().queue());
        while producer.in_flight_count() > 0 && Instant::now() < until {
            producer.poll(TICK);
        }
        let left = until.saturating_duration_since(Instant::now()).max(TICK);
        if producer.abort_transaction(left).is_err() {
            tracing::debug!(
                task = self.task,
                "a transaction is left to its timeout or its task's next writer"
            );
        }
    }

    fn send(&self, producer: &BaseProducer<Context>, record: &Record) -> Result<(), Fault> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1)
            .insert(Header { key: WRITER, value: Some(&self.task) });
        for (name, text) in &record.headers {
            headers = headers.insert(Header { key: name, value: Some(text) });
        }
        let topic = self.config.topic(record.topic);
        let mut message = BaseRecord::<[u8], [u8]>::to(&topic)
            .partition(i32::from(record.partition.0))
            .key(&record.key)
            .timestamp(i64::try_from(self.config.clock.now_ms()).unwrap_or(i64::MAX))
            .headers(headers);
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        let started = Instant::now();
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back))
                    if started.elapsed() < self.patience() =>
                {
                    message = back;
                    producer.poll(TICK);
                }
                Err((error, _)) => return Err(self.fault(error)),
            }
        }
    }

    fn wait_delivered(&self, producer: &BaseProducer<Context>) -> Result<(), Fault> {
        while producer.in_flight_count() > 0 {
            producer.poll(TICK);
            if let Some((code, _)) = producer.client().fatal_error() {
                return Err(self.fault(KafkaError::Global(code)));
            }
        }
        let delivered = producer.client().context().take_delivered();
        if let Some(error) = delivered.failed {
            let is_purged =
                matches!(crate::fault::code_of(&error), Some(Code::PurgeQueue | Code::PurgeInflight));
            // The transaction had failed before: why, it says to whoever would commit it.
            let cause = if is_purged { producer.commit_transaction(self.patience()).err() } else { None };
            return Err(self.fault(cause.unwrap_or(error)));
        }
        *producer.client().context().delivered() = delivered;
        Ok(())
    }

    fn committed(&self, context: &Arc<Context>) -> Committed {
        let prefix = format!("{}.", self.config.prefix);
        let first = context.take_delivered().first.into_iter().filter_map(|((topic, partition), offset)| {
            let topic = Topic::by_name(topic.strip_prefix(&prefix)?)?;
            let partition = Partition(u16::try_from(partition).ok()?);
            let place = Place { epoch: self.epoch, offset: u64::try_from(offset).ok()? };
            (topic != Topic::Progress).then_some(((topic, partition), place))
        });
        Committed { first: first.collect() }
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.config.transaction_timeout_ms.into())
    }

    fn fault(&self, error: KafkaError) -> Fault {
        fault_with(&self.config, &self.health, &format!("a commit of task '{}' failed", self.task), error)
    }
}

fn too_many_cut(record: Record) -> Fault {
    Fault::refused(format!(
        "too many keys of {} are larger than the topics' max.message.bytes",
        record.topic.name()
    ))
    .repair("raise max.message.bytes of the topics (kafka-configs.sh) and start again")
}

/// Refuses partitions that the log doesn't have.
pub(crate) fn known(config: &KafkaLogConfig, topic: Topic, partition: Partition) -> Result<(), Fault> {
    let count = config.partitions_of(topic);
    if partition.0 < count {
        return Ok(());
    }
    Err(Fault::bug(format!("{} has {count} partitions, {partition} is none of them", topic.name())))
}

/// The writer as the pipeline holds it.
pub(crate) struct KafkaProducer {
    /// Gone after a failure, or when a commit was given up on half-way.
    pub(crate) writer: Option<Box<Writer>>,
}

impl Producer for KafkaProducer {
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed> {
        Box::pin(async move {
            let Some(mut writer) = self.writer.take() else {
                return Err(Fault::retry("what became of this task's last commit is not known; open again"));
            };
            let (writer, committed) = blocking(move || {
                let committed = writer.commit(commit);
                Ok((writer, committed))
            })
            .await?;
            match committed {
                Ok(committed) => {
                    self.writer = Some(writer);
                    Ok(committed)
                }
                Err(fault) => {
                    // A newer writer stays newer, and a record that can't be written was not: neither is unknown.
                    if matches!(fault.kind, FaultKind::Fenced | FaultKind::Bug | FaultKind::Refused) {
                        self.writer = Some(writer);
                    }
                    Err(fault)
                }
            }
        })
    }
}

/// What has been read of each partition by its slowest task.
pub(crate) fn lowest_reads(tasks: &BTreeMap<String, Kept>) -> BTreeMap<(Topic, Partition), Place> {
    let mut lowest = BTreeMap::new();
    let reads = tasks.values().filter_map(|kept| kept.progress.as_ref()).flat_map(|progress| &progress.reads);
    for (at, place) in reads {
        lowest.entry(*at).and_modify(|known: &mut Place| *known = (*place).min(*known)).or_insert(*place);
    }
    lowest
}
