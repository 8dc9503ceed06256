//! The wall clock, for what is shown, for routing and for how old a store is; never for versions or order.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
