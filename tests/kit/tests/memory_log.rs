//! The log in memory keeps the contract of a log.

use std::sync::Arc;

use rollcall_kit::contract::log::{LogSettings, UnderTest};
use rollcall_kit::{MemoryLimits, MemoryLog};

fn under_test(log: MemoryLog) -> UnderTest {
    let (clock, compacting, retaining, again) = (log.clone(), log.clone(), log.clone(), log.clone());
    UnderTest {
        log: Arc::new(log),
        set_now_ms: Box::new(move |now_ms| clock.set_now_ms(now_ms)),
        compact: Box::new(move || {
            compacting.compact_now();
            Box::pin(std::future::ready(Ok(())))
        }),
        retain: Box::new(move |now_ms| {
            retaining.retain_now(now_ms);
            Box::pin(std::future::ready(Ok(())))
        }),
        log_ms: Box::new(|ms| ms),
        reopen: Box::new(move || under_test(again)),
    }
}

fn make(settings: LogSettings) -> UnderTest {
    let LogSettings { partitions, retention_ms, retention_bytes_max, tombstone_retention_ms } = settings;
    let limits = MemoryLimits { retention_ms, retention_bytes_max, tombstone_retention_ms };
    under_test(MemoryLog::with_limits("memory", partitions, limits))
}

rollcall_kit::log_contract!(own_upkeep: make);
