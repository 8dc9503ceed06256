//! The embedded log keeps the contract of a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rollcall_kit::contract::log::{LogSettings, UnderTest};
use rollcall_log_embedded::{Clock, EmbeddedLog, EmbeddedLogConfig};
use tempfile::TempDir;

fn under_test(folder: Arc<TempDir>, settings: LogSettings, now_ms: Arc<AtomicU64>) -> UnderTest {
    let config = EmbeddedLogConfig {
        partitions: settings.partitions,
        retention_ms: settings.retention_ms,
        retention_bytes_max: settings.retention_bytes_max,
        tombstone_retention_ms: settings.tombstone_retention_ms,
        // Only the tests decide when upkeep runs.
        upkeep_interval_ms: u64::from(u32::MAX),
        clock: {
            let now_ms = Arc::clone(&now_ms);
            Clock::new(move || now_ms.load(Ordering::SeqCst))
        },
        ..EmbeddedLogConfig::default()
    };
    let log = Arc::new(EmbeddedLog::open(folder.path(), config).unwrap_or_else(|fault| panic!("{fault}")));
    let (compacting, retaining, clock) = (Arc::clone(&log), Arc::clone(&log), Arc::clone(&now_ms));
    UnderTest {
        log,
        set_now_ms: Box::new(move |now_ms| clock.store(now_ms, Ordering::SeqCst)),
        compact: Box::new(move || {
            let log = Arc::clone(&compacting);
            Box::pin(async move { log.compact_now().await })
        }),
        retain: Box::new(move |now_ms| {
            let log = Arc::clone(&retaining);
            Box::pin(async move { log.retain_now(now_ms).await })
        }),
        log_ms: Box::new(|ms| ms),
        reopen: Box::new(move || under_test(folder, settings, now_ms)),
    }
}

fn make(settings: LogSettings) -> UnderTest {
    let folder = tempfile::tempdir().expect("a temporary folder");
    under_test(Arc::new(folder), settings, Arc::new(AtomicU64::new(1)))
}

rollcall_kit::log_contract!(own_upkeep: make);
