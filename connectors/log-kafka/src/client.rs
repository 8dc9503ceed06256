//! One client for questions: what topics there are, where partitions begin and end, what may be dropped.
//!
//! librdkafka's questions block; each is asked on a thread for that.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, TopicPartitionList};
use rollcall_model::Fault;

use crate::config::{KafkaLogConfig, SaslConfig};
use crate::context::{Context, Health};
use crate::fault::fault;

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
    let made = T::from_config_and_context(client, context).map_err(|e| match e {
        KafkaError::ClientConfig(_, why, name, value) => {
            Fault::config(format!("librdkafka doesn't take log.client.{name} = '{value}': {why}"))
                .repair("set it as librdkafka's CONFIGURATION.md says, or remove it")
        }
        other => Fault::config("a client of Kafka can't be made")
            .from_source(other)
            .repair("check log.tls, log.sasl and log.client"),
    })?;
    Ok((made, health))
}

/// Runs a question on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::bug("work on Kafka died").from_source(e))?
}

/// Where questions go.
pub(crate) struct Questions {
    config: KafkaLogConfig,
    committed: Client<BaseConsumer<Context>>,
    uncommitted: Client<BaseConsumer<Context>>,
    admin: Client<AdminClient<Context>>,
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
            health,
        })
    }

    pub(crate) fn admin(&self) -> Result<&Arc<AdminClient<Context>>, Fault> {
        self.admin.get()
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
        let (config, health) = (self.config.clone(), self.health.clone());
        blocking(move || {
            let ask = |reader: &BaseConsumer<Context>| {
                // What is answered in error serves its events, too.
                drop(reader.poll(Duration::ZERO));
                reader.fetch_watermarks(&topic, partition, timeout).map_err(|e| {
                    fault_with(&config, &health, &format!("can't tell where {topic}/{partition} ends"), e)
                })
            };
            let (start, stable) = ask(&committed)?;
            let (_, end) = ask(&uncommitted)?;
            health.good();
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
            reader
                .offsets_for_times(times, timeout)
                .map_err(|e| fault_with(&config, &health, "can't tell which records are how old", e))
        })
        .await
    }
}

/// The client's own trouble is the cause where the answer only failed to come.
pub(crate) fn fault_with(config: &KafkaLogConfig, health: &Health, doing: &str, error: KafkaError) -> Fault {
    match health.last() {
        Some((code, text)) => {
            let mut cause = fault(config, doing, KafkaError::Global(code));
            cause.what = format!("{}: {text}", cause.what);
            match fault(config, doing, error) {
                own if own.kind == rollcall_model::FaultKind::Retry => cause,
                own => own,
            }
        }
        None => fault(config, doing, error),
    }
}
