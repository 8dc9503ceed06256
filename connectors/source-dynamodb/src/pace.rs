//! How fast a table is read: read capacity units per second.
//!
//! What a call costs is known only by its answer. So a call begins when nothing is owed, leaves what it is expected to
//! cost, and is corrected when the answer says what it did: over any time, what was spent is at most the rate times that
//! time, and one second's worth, and what the calls in flight cost more than expected.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rollcall_model::Fault;

/// A bucket of read capacity units. Pure: time is an argument, in microseconds since any beginning.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Pace {
    units_per_s: f64,
    /// What may be spent; less than nothing is owed.
    units: f64,
    at_us: u64,
}

impl Pace {
    /// A full bucket: a second's worth.
    pub(crate) fn new(units_per_s: f64, now_us: u64) -> Self {
        Self { units_per_s, units: units_per_s, at_us: now_us }
    }

    /// Takes what a call is expected to cost; or says for how long nothing may begin, in microseconds.
    pub(crate) fn take(&mut self, expected: f64, now_us: u64) -> Result<(), u64> {
        let passed_s = now_us.saturating_sub(self.at_us) as f64 / 1e6;
        self.at_us = self.at_us.max(now_us);
        self.units = (self.units + passed_s * self.units_per_s).min(self.units_per_s);
        if self.units > 0.0 {
            self.units -= expected;
            return Ok(());
        }
        Err(((-self.units / self.units_per_s * 1e6).ceil() as u64).saturating_add(1))
    }

    /// A call that was expected to cost so much cost `spent`.
    pub(crate) fn settle(&mut self, expected: f64, spent: f64) {
        self.units += expected - spent;
    }
}

/// A pace that tasks share.
#[derive(Debug)]
pub(crate) struct Rate {
    pace: Option<Mutex<Pace>>,
    began: Instant,
}

impl Rate {
    /// `None` is as fast as it goes.
    pub(crate) fn new(units_per_s: Option<f64>) -> Result<Self, Fault> {
        if let Some(units) = units_per_s.filter(|units| !units.is_finite() || *units <= 0.0) {
            return Err(Fault::config(format!(
                "a rate of {units} read capacity units per second reads nothing"
            ))
            .repair("set more than 0, or leave it out to read as fast as the table allows"));
        }
        Ok(Self { pace: units_per_s.map(|units| Mutex::new(Pace::new(units, 0))), began: Instant::now() })
    }

    /// Waits until a call that is expected to cost so much may begin. The call settles what it took.
    pub(crate) async fn take(&self, expected: f64) {
        let Some(pace) = &self.pace else { return };
        loop {
            let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let taken = pace.lock().unwrap_or_else(PoisonError::into_inner).take(expected, now_us);
            match taken {
                Ok(()) => return,
                Err(wait_us) => tokio::time::sleep(Duration::from_micros(wait_us)).await,
            }
        }
    }

    /// The call cost `spent`.
    pub(crate) fn settle(&self, expected: f64, spent: f64) {
        if let Some(pace) = &self.pace {
            pace.lock().unwrap_or_else(PoisonError::into_inner).settle(expected, spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_owed_is_waited_for() {
        let mut pace = Pace::new(10.0, 0);
        assert_eq!(pace.take(5.0, 0), Ok(()));
        pace.settle(5.0, 30.0);
        assert_eq!(pace.take(5.0, 0), Err(2_000_001));
        assert_eq!(pace.take(5.0, 1_000_000), Err(1_000_001));
        assert_eq!(pace.take(5.0, 2_000_001), Ok(()));
        // A clock that goes back gives nothing.
        assert!(pace.take(5.0, 0).is_err());
        // A pause gives a second's worth, not an hour's.
        assert_eq!(pace.take(0.0, 3_600_000_000), Ok(()));
        pace.settle(0.0, 10.0);
        assert!(pace.take(0.0, 3_600_000_000).is_err());
    }

    #[test]
    fn a_rate_that_reads_nothing_is_refused() {
        for units in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Rate::new(Some(units)).is_err(), "{units}");
        }
        assert!(Rate::new(None).is_ok() && Rate::new(Some(0.5)).is_ok());
    }

    proptest! {
        /// However many calls run at a time and whatever they cost, the rate holds.
        #[test]
        fn the_rate_is_kept(
            rate in 1.0_f64..500.0,
            costs in prop::collection::vec((0.5_f64..130.0, 1_u64..200_000), 1..200),
            in_flight in 1_usize..8,
        ) {
            let (mut pace, mut now_us, mut spent, mut expected) = (Pace::new(rate, 0), 0_u64, 0.0, 1.0);
            // Calls under way: when they end, what they were expected to cost, what they do.
            let mut calls: Vec<(u64, f64, f64)> = Vec::new();
            let most = costs.iter().map(|(cost, _)| *cost).fold(0.0, f64::max);
            for (cost, takes_us) in costs {
                loop {
                    let full = calls.len() >= in_flight;
                    match if full { Err(1) } else { pace.take(expected, now_us) } {
                        Ok(()) => break,
                        Err(wait_us) => {
                            let soonest = calls.iter().map(|call| call.0).min();
                            now_us = if full { soonest.unwrap() } else { soonest.unwrap_or(u64::MAX).min(now_us + wait_us) };
                        }
                    }
                    calls.retain(|(ends_us, expected, cost)| {
                        let ended = *ends_us <= now_us;
                        if ended {
                            pace.settle(*expected, *cost);
                        }
                        !ended
                    });
                }
                calls.push((now_us + takes_us, expected, cost));
                spent += cost;
                expected = cost;
                let allowed = rate * (1.0 + now_us as f64 / 1e6) + most * in_flight as f64;
                prop_assert!(spent <= allowed + 1e-6 * spent, "{spent} > {allowed} at {now_us}");
            }
        }
    }
}
