//! AWS's clock, from the `Date` of its answers.
//!
//! What a stream or a backfill says of time is said by AWS. Our own clock may be minutes off, so it serves only to count
//! on from the last answer. `Date` is in whole seconds: the time told is never ahead of AWS's, and up to a second behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

/// Nothing measured yet.
const UNKNOWN: i64 = i64::MIN;

/// AWS's clock as last heard; shared by all clones. Add it to a client as an interceptor.
#[derive(Clone, Debug)]
pub struct ServerClock {
    offset_us: Arc<AtomicI64>,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self { offset_us: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl ServerClock {
    /// AWS's time, in microseconds since 1970; our own until the first answer.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        local_us().saturating_add(self.offset_us().unwrap_or_default())
    }

    /// How far AWS's clock is ahead of ours, up to a second too little; `None` before the first answer.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        let offset = self.offset_us.load(Ordering::Acquire);
        (offset != UNKNOWN).then_some(offset)
    }

    /// An answer said it is `server_us`.
    pub fn heard(&self, server_us: i64) {
        self.offset_us.store(server_us.saturating_sub(local_us()), Ordering::Release);
    }
}

#[dyn_dispatch_hint]
impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(server_us) = date_us(context.response()) {
            self.heard(server_us);
        }
        Ok(())
    }
}

/// The time of an answer.
pub(crate) fn date_us(response: &HttpResponse) -> Option<i64> {
    let date = DateTime::from_str(response.headers().get("date")?, Format::HttpDate).ok()?;
    i64::try_from(date.as_nanos() / 1_000).ok()
}

/// Our own clock, in microseconds since 1970.
pub(crate) fn local_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or_default()
}

/// A time as people and AWS's tools write it: `2026-11-27T21:55:42Z`.
#[must_use]
pub fn iso_time(us: i64) -> String {
    let seconds = DateTime::from_secs(us.div_euclid(1_000_000));
    seconds.fmt(Format::DateTime).unwrap_or_else(|_| format!("{us} µs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_on_from_what_was_heard() {
        let clock = ServerClock::default();
        assert_eq!(clock.offset_us(), None);
        clock.clone().heard(local_us() - 3_600_000_000);
        let behind = local_us() - clock.now_us();
        assert!((3_599_000_000..3_601_000_000).contains(&behind), "{behind}");
    }

    #[test]
    fn dates_of_answers_are_read() {
        let mut response = HttpResponse::new(200.try_into().expect("a status"), "".into());
        assert_eq!(date_us(&response), None);
        response.headers_mut().insert("date", "Fri, 27 Nov 2026 21:55:42 GMT");
        let at = date_us(&response).expect("a time");
        assert_eq!(iso_time(at), "2026-11-27T21:55:42Z");
        response.headers_mut().insert("date", "yesterday");
        assert_eq!(date_us(&response), None);
    }
}
