//! One broker for the tests that run at the same time, and logs of their own on it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::Fault;
use rollcall_test_servers::Kafka;

static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
static LOGS: AtomicU32 = AtomicU32::new(0);

/// The broker: started by who comes first, stopped when the last has gone.
pub(crate) fn kafka() -> Arc<Kafka> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kafka) = shared.upgrade() {
        return kafka;
    }
    let kafka = Arc::new(Kafka::start());
    *shared = Arc::downgrade(&kafka);
    kafka
}

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    format!("log{}", LOGS.fetch_add(1, Ordering::SeqCst))
}

/// A log of one's own on one node.
pub(crate) fn config(brokers: &str, prefix: &str, partitions: u16) -> KafkaLogConfig {
    KafkaLogConfig {
        replication_factor: 1,
        min_insync_replicas: 1,
        ..KafkaLogConfig::new(brokers, prefix, partitions)
    }
}

pub(crate) fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

/// Opens from a place that can't wait.
pub(crate) fn open(config: KafkaLogConfig) -> Result<KafkaLog, Fault> {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(KafkaLog::open(config)))
}
