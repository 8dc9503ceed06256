//! How long to wait before asking again.

/// Growing pauses with full jitter: the n-th is anything up to `first_ms × 2ⁿ`, at most `max_ms`, and never less than
/// half of `first_ms`, so that those who were refused together don't come back together, nor at once.
///
/// Pure: randomness is an argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    first_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// None has failed yet.
    #[must_use]
    pub fn new(first_ms: u64, max_ms: u64) -> Self {
        Self { first_ms: first_ms.max(1), max_ms: max_ms.max(first_ms).max(1), failures: 0 }
    }

    /// The pause after one more failure; `random` is any number.
    pub fn next_ms(&mut self, random: u64) -> u64 {
        let most = self.first_ms.saturating_mul(1 << self.failures.min(32)).min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        let least = (self.first_ms / 2).max(1).min(most);
        least + random % (most - least + 1)
    }

    /// How many failed since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_spread() {
        let mut high = Backoff::new(100, 5_000);
        let mut low = high.clone();
        let most: Vec<_> = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].into();
        for want in most {
            assert_eq!(high.next_ms(want - 50), want, "the longest");
            assert_eq!(low.next_ms(0), 50, "the shortest");
        }
        assert_eq!(high.failures(), 8);
        high.reset();
        assert!(high.next_ms(u64::MAX) <= 100);
    }

    #[test]
    fn nothing_overflows() {
        let mut backoff = Backoff::new(u64::MAX, 0);
        for _ in 0..100 {
            assert!(backoff.next_ms(u64::MAX) >= 1);
        }
        let mut zero = Backoff::new(0, 0);
        assert_eq!(zero.next_ms(7), 1);
    }
}
