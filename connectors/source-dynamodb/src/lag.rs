//! How far each shard has been read in; how old what is unread may be out, and an alarm before it is trimmed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rollcall_model::shards::ShardId;

/// Ages at which an unread record is warned of, in hours; at 24 it is gone.
const ALARM_HOURS: [i64; 3] = [6, 12, 20];
const HOUR_US: i64 = 3_600 * 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Lag {
    through_us: i64,
    /// Alarms given.
    alarms: usize,
}

/// Every shard of a reader that is not read to its end.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    shards: Mutex<BTreeMap<ShardId, Lag>>,
}

impl Lags {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<ShardId, Lag>) -> T) -> T {
        act(&mut self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything of a shard before `through_us` has been read.
    pub(crate) fn set(&self, shard: &ShardId, through_us: i64) {
        self.with(|shards| match shards.get_mut(shard) {
            Some(lag) => lag.through_us = through_us.max(lag.through_us),
            None => {
                shards.insert(shard.clone(), Lag { through_us, alarms: 0 });
            }
        });
    }

    /// It was read to its end, or is not this reader's any more.
    pub(crate) fn remove(&self, shard: &ShardId) {
        self.with(|shards| shards.remove(shard));
    }

    /// The shard whose unread records may be the oldest, and how old in microseconds.
    pub(crate) fn oldest(&self, now_us: i64) -> Option<(ShardId, i64)> {
        self.with(|shards| {
            let (shard, lag) = shards.iter().min_by_key(|(_, lag)| lag.through_us)?;
            Some((shard.clone(), now_us.saturating_sub(lag.through_us).max(0)))
        })
    }

    /// Shards whose unread records have just become as old as an alarm says, with their hours.
    pub(crate) fn alarms(&self, now_us: i64) -> Vec<(ShardId, i64)> {
        self.with(|shards| {
            let mut due = Vec::new();
            for (shard, lag) in shards {
                let age_us = now_us.saturating_sub(lag.through_us);
                let reached = ALARM_HOURS.iter().filter(|hours| age_us >= *hours * HOUR_US).count();
                if let Some(hours) = reached.checked_sub(1).and_then(|last| ALARM_HOURS.get(last))
                    && reached > lag.alarms
                {
                    due.push((shard.clone(), *hours));
                }
                lag.alarms = reached;
            }
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_is_given_once_and_again_only_after_it_was_caught_up() {
        let lags = Lags::default();
        let shard = "a".to_owned();
        lags.set(&shard, 0);
        lags.set(&"b".to_owned(), 30 * HOUR_US);
        let hours =
            |at: i64| lags.alarms(at * HOUR_US).into_iter().map(|(_, hours)| hours).collect::<Vec<_>>();
        assert_eq!(hours(5), [0; 0]);
        assert_eq!(hours(6), [6]);
        assert_eq!(hours(7), [0; 0]);
        assert_eq!(hours(21), [20], "the highest alone");
        assert_eq!(lags.oldest(21 * HOUR_US), Some((shard.clone(), 21 * HOUR_US)));
        lags.set(&shard, 20 * HOUR_US);
        assert_eq!(hours(21), [0; 0]);
        assert_eq!(hours(33), [12]);
        lags.remove(&shard);
        assert_eq!(lags.oldest(0), Some(("b".to_owned(), 0)));
    }
}
