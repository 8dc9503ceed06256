//! One client for questions: what topics there are, where partitions begin and end, what may be dropped.
//!
//! librdkafka's questions block; each is asked on a thread for that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};
use rollcall_model::{Fault, FaultKind};

use crate::config::{Clock, KafkaLogConfig, SaslConfig};
use crate::context::{Context, Health, Trouble};
use crate::fault::fault;
use crate::oauth;

/// How often it is asked anew who leads a partition.
const LEADER_LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that outlives its use on an async thread: librdkafka takes up to a second to end one.
pub(crate) struct Client<T: Send + Sync + 'static> {
    inner: Option<Arc<T>>,
}

impl<T: Send + Sync + 'static> Client<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner: Some(Arc::new(inner)) }
    }

    pub(crate) fn get(&self) -> Result<&Arc<T>, Fault> {
        self.inner.as_ref().ok_or_else(|| Fault::bug("a client of Kafka is used after its end"))
    }
}

impl<T: Send + Sync + 'static> Drop for Client<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Where no thread is to be had, it ends here and now.
        let ended = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || drop(inner));
        if let Err(e) = ended {
            tracing::warn!("a client of Kafka was ended on the spot: {e}");
        }
    }
}

/// Makes a client of a kind.
pub(crate) fn make<T: FromClientConfigAndContext<Context>>(
    config: &KafkaLogConfig,
    client: &ClientConfig,
) -> Result<(T, Health), Fault> {
    let oauth = match &config.sasl {
        Some(SaslConfig::OauthBearer(oauth)) => Some(oauth.clone()),
        Some(SaslConfig::Plain { .. } | SaslConfig::Scram { .. }) | None => None,
    };
    let context = Context::new(oauth);
    let health = context.health.clone();
    // Why a connection ended is said in the log alone.
    let mut client = client.clone();
    client.set_log_level(RDKafkaLogLevel::Info);
    let made = T::from_config_and_context(&client, context).map_err(|e| {
        if let KafkaError::ClientConfig(_, why, name, value) = e {
            return Fault::config(format!("librdkafka doesn't take log.client.{name} = '{value}': {why}"))
                .repair("set it as librdkafka's CONFIGURATION.md says, or remove it");
        }
        Fault::config("a client of Kafka can't be made")
            .from_source(e)
            .repair("check log.tls, log.sasl and log.client")
    })?;
    Ok((made, health))
}

/// Runs a question on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::bug("work on Kafka died").from_source(e))?
}

/// A client's side talk stands in a queue that somebody must serve: its errors, its wish for a token, its log lines.
pub(crate) trait Serve {
    /// One of what it has to say.
    fn serve_one(&self);
    /// All that it has to say by now.
    fn serve(&self) {
        for _ in 0..SERVED_MAX {
            self.serve_one();
        }
    }
}

/// More than a client has to say between two questions. Asking in vain costs less than a microsecond.
const SERVED_MAX: usize = 64;

impl Serve for BaseConsumer<Context> {
    fn serve_one(&self) {
        // Only where nothing is assigned: no record can be among it.
        drop(self.poll(Duration::ZERO));
    }
}

impl Serve for BaseProducer<Context> {
    fn serve_one(&self) {
        self.poll(Duration::ZERO);
    }
}

/// Where questions go.
pub(crate) struct Questions {
    config: KafkaLogConfig,
    committed: Client<BaseConsumer<Context>>,
    uncommitted: Client<BaseConsumer<Context>>,
    admin: Client<AdminClient<Context>>,
    /// Until when the admin's token is good enough, in milliseconds since 1970.
    admin_token_until: Mutex<i64>,
    health: Health,
}

/// `[start, stable)` is decided, `end` is above everything written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offsets {
    pub(crate) start: i64,
    pub(crate) stable: i64,
    pub(crate) end: i64,
}

impl Questions {
    pub(crate) fn new(config: &KafkaLogConfig) -> Result<Self, Fault> {
        let (committed, health) = make::<BaseConsumer<Context>>(config, &config.reader(true))?;
        let (uncommitted, _) = make::<BaseConsumer<Context>>(config, &config.reader(false))?;
        let (admin, _) = make::<AdminClient<Context>>(config, &config.base())?;
        Ok(Self {
            config: config.clone(),
            committed: Client::new(committed),
            uncommitted: Client::new(uncommitted),
            admin: Client::new(admin),
            admin_token_until: Mutex::new(0),
            health,
        })
    }

    /// The client for topics and their settings.
    pub(crate) async fn admin(&self) -> Result<&Arc<AdminClient<Context>>, Fault> {
        let admin = self.admin.get()?;
        let Some(SaslConfig::OauthBearer(oauth)) = &self.config.sasl else { return Ok(admin) };
        let now = i64::try_from(Clock::system().now_ms()).unwrap_or(i64::MAX);
        if now < *self.admin_token_until.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(admin);
        }
        // Nobody serves this client's queue, where it wishes for a token: it is given one.
        let oauth = oauth.clone();
        let token = blocking(move || oauth::token(&oauth)).await?;
        let until = now + (token.lifetime_ms - now) * 4 / 5;
        oauth::give(admin.inner(), token)?;
        *self.admin_token_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        Ok(admin)
    }

    pub(crate) fn reader(&self) -> Result<Arc<BaseConsumer<Context>>, Fault> {
        self.committed.get().cloned()
    }

    /// A failed question as a fault: what the client met on the side says more than "timed out".
    pub(crate) fn fault(&self, doing: &str, error: KafkaError) -> Fault {
        fault_with(&self.config, &self.health, doing, error)
    }

    /// Where a partition begins and ends.
    pub(crate) async fn offsets(&self, topic: String, partition: i32) -> Result<Offsets, Fault> {
        let (committed, uncommitted) =
            (Arc::clone(self.committed.get()?), Arc::clone(self.uncommitted.get()?));
        let timeout = self.config.request_timeout();
        let config = self.config.clone();
        blocking(move || {
            let doing = format!("can't tell where {topic}/{partition} ends");
            let topics = BTreeSet::from([topic.clone()]);
            let ask = |reader: &BaseConsumer<Context>| {
                reader.serve();
                let health = &reader.context().health;
                let asked = || reader.fetch_watermarks(&topic, partition, timeout);
                let ends = ask_leaders(reader, &topics, timeout, asked).map_err(|e| {
                    reader.serve();
                    fault_with(&config, health, &doing, e)
                })?;
                health.good();
                Ok(ends)
            };
            let (start, stable) = ask(&committed)?;
            let (_, end) = ask(&uncommitted)?;
            Ok(Offsets { start, stable, end })
        })
        .await
    }

    /// Of each partition, the first offset at or after a time; the end where all are older.
    pub(crate) async fn offsets_at(&self, times: TopicPartitionList) -> Result<TopicPartitionList, Fault> {
        let reader = Arc::clone(self.committed.get()?);
        let timeout = self.config.request_timeout();
        let (config, health) = (self.config.clone(), self.health.clone());
        blocking(move || {
            reader.serve();
            let topics: BTreeSet<String> =
                times.elements().iter().map(|element| element.topic().to_owned()).collect();
            let ask = || {
                let answered = reader.offsets_for_times(times.clone(), timeout)?;
                let errors = answered
                    .elements()
                    .iter()
                    .filter_map(|element| element.error().err())
                    .collect::<Vec<_>>();
                errors.into_iter().find(is_of_old_leader).map_or(Ok(answered), Err)
            };
            ask_leaders(&reader, &topics, timeout, ask).map_err(|e| {
                reader.serve();
                fault_with(&config, &health, "can't tell which records are how old", e)
            })
        })
        .await
    }
}

/// Asks those who lead some topics, and once more as long as one answers that it doesn't, or not any more: librdkafka sends
/// such questions to the leader that it knew last. After a restart of brokers every answer is that, until somebody asks who
/// leads now.
fn ask_leaders<T>(
    reader: &BaseConsumer<Context>,
    topics: &BTreeSet<String>,
    timeout: Duration,
    ask: impl Fn() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let until = Instant::now() + timeout;
    loop {
        match ask() {
            Err(e) if is_of_old_leader(&e) && Instant::now() < until => {}
            answered => return answered,
        }
        std::thread::sleep(LEADER_LOOK_EVERY);
        for topic in topics {
            // An answer that doesn't come is told by the next question.
            let _refreshed = reader.fetch_metadata(Some(topic), timeout);
        }
    }
}

/// Whether somebody was asked who doesn't lead, or not any more.
fn is_of_old_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

/// The client's own trouble is the cause where the answer only failed to come.
pub(crate) fn fault_with(config: &KafkaLogConfig, health: &Health, doing: &str, error: KafkaError) -> Fault {
    let own = fault(config, doing, error);
    match health.last() {
        Some(trouble) if own.kind == FaultKind::Retry => fault_of(config, doing, trouble),
        Some(_) | None => own,
    }
}

/// A client's trouble as a fault.
pub(crate) fn fault_of(config: &KafkaLogConfig, doing: &str, trouble: Trouble) -> Fault {
    if let Some((kind, repair)) = trouble.token {
        return Fault { repair, ..Fault::new(kind, format!("{doing}: {}", trouble.text)) };
    }
    let found = fault(config, doing, KafkaError::Global(trouble.code));
    Fault { what: format!("{}: {}", found.what, trouble.text), ..found }
}
