//! Virtual time: it stands still but for [`Clock::advance`], or runs at a multiple of real time.

/// Microseconds since 1970 of a simulated world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    start_us: i64,
    advanced_us: i64,
    speed: u32,
}

impl Clock {
    /// A clock that shows `start_us` and runs `speed` times as fast as real time; 0 stands still.
    pub(crate) fn new(start_us: i64, speed: u32) -> Self {
        Self { start_us, advanced_us: 0, speed }
    }

    /// What it shows, so much real time after it was made.
    pub(crate) fn at(&self, real_us: u64) -> i64 {
        let ran = i64::try_from(real_us.saturating_mul(u64::from(self.speed))).unwrap_or(i64::MAX);
        self.start_us.saturating_add(self.advanced_us).saturating_add(ran)
    }

    /// Puts it forward.
    pub(crate) fn advance(&mut self, by_us: i64) {
        self.advanced_us = self.advanced_us.saturating_add(by_us);
    }
}
