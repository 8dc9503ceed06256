//! Reading what a partition holds now, once: for topics that stay small, and for stores and sinks that catch up.
//!
//! An empty poll says nothing (a broker may be slow): only the place that a consumer has reached does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::log::PollLimit;
use rollcall_model::{Consumer, Fault, Fetched, Log, Partition, Place, Topic};

use tracing::warn;

use crate::foreign::own;

const POLL: PollLimit =
    PollLimit { records_max: 4_096, bytes_max: 16 << 20, wait: Duration::from_millis(200) };
/// What is committed is readable at once, but for another task's commit under way: those end within their timeout.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(60);
/// How often it is said that nothing comes.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Whether a consumer has brought everything below these ends.
pub(crate) fn has_reached(consumer: &dyn Consumer, ends: &BTreeMap<(Topic, Partition), Place>) -> bool {
    let reached = consumer.reached();
    ends.iter().all(|(at, end)| reached.get(at).is_none_or(|place| place >= end))
}

/// Reads from some places up to where the partitions end now, and hands each batch on. Answers the places reached.
///
/// # Errors
/// A [`Fault`] of the log, or of `take`.
pub(crate) async fn read_to_end(
    log: &Arc<dyn Log>,
    from: BTreeMap<(Topic, Partition), Place>,
    mut take: impl FnMut(Vec<Fetched>) -> Result<(), Fault>,
) -> Result<BTreeMap<(Topic, Partition), Place>, Fault> {
    let mut reached = from.clone();
    let mut unread = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for (at, place) in from {
        let end = log.range(at.0, at.1).await?.end;
        if place < end {
            unread.insert(at, place);
            ends.insert(at, end);
        }
    }
    if unread.is_empty() {
        return Ok(reached);
    }
    let mut consumer = log.consumer(unread).await?;
    let (mut moved, mut said) = (tokio::time::Instant::now(), Duration::ZERO);
    while !has_reached(&*consumer, &ends) {
        let records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            (moved, said) = (tokio::time::Instant::now(), Duration::ZERO);
            take(own(records).collect())?;
        } else if moved.elapsed() > said + SAY_EVERY {
            said = moved.elapsed();
            let reached = consumer.reached();
            let left = ends.iter().filter(|(at, end)| reached.get(at).is_some_and(|place| place < *end));
            for ((topic, partition), end) in left {
                let at = reached.get(&(*topic, *partition)).map_or(0, |place| place.offset);
                warn!(
                    topic = topic.name(),
                    partition = partition.0,
                    at,
                    end = end.offset,
                    "nothing more comes"
                );
            }
        } else if moved.elapsed() > STALLED_AFTER {
            return Err(stalled(log, consumer.reached(), &ends).await);
        }
    }
    reached.extend(consumer.reached());
    Ok(reached)
}

/// Why nothing more comes though there is more.
async fn stalled(
    log: &Arc<dyn Log>,
    reached: BTreeMap<(Topic, Partition), Place>,
    ends: &BTreeMap<(Topic, Partition), Place>,
) -> Fault {
    for (at, end) in ends.iter().filter(|(at, end)| reached.get(at).is_some_and(|place| place < *end)) {
        match log.range(at.0, at.1).await {
            Ok(range) if range.stable < *end => {
                return Fault::retry(format!(
                    "{}/{} can't be read to its end at {}: a commit at {} has been under way for longer than {} s",
                    at.0.name(),
                    at.1,
                    end.offset,
                    range.stable.offset,
                    STALLED_AFTER.as_secs()
                ))
                .repair("docs/runbook.md, \"A commit that never ends\"");
            }
            Ok(_) => {}
            Err(fault) => return fault,
        }
    }
    Fault::retry("the log brings nothing more, but says that there is more")
}

/// Everything that is in some partitions of a topic now.
///
/// # Errors
/// A [`Fault`] of the log.
pub(crate) async fn read_all(
    log: &Arc<dyn Log>,
    topic: Topic,
    partitions: impl IntoIterator<Item = Partition>,
) -> Result<Vec<Fetched>, Fault> {
    let mut from = BTreeMap::new();
    for partition in partitions {
        from.insert((topic, partition), log.range(topic, partition).await?.start);
    }
    let mut all = Vec::new();
    read_to_end(log, from, |records| {
        all.extend(records);
        Ok(())
    })
    .await?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use rollcall_model::log::ReadRange;
    use rollcall_model::{FaultKind, Fut, LogId, Opened, Progress};

    use super::*;

    const AT: (Topic, Partition) = (Topic::Identities, Partition(2));

    fn place(offset: u64) -> Place {
        Place { epoch: 0, offset }
    }

    /// A partition of which nothing comes beyond offset 3, and what its log says of it.
    struct Silent {
        id: LogId,
        range: ReadRange,
    }

    impl Log for Silent {
        fn id(&self) -> &LogId {
            &self.id
        }
        fn epoch(&self) -> u32 {
            0
        }
        fn partitions(&self) -> u16 {
            4
        }
        fn open<'a>(&'a self, _task: &'a str) -> Fut<'a, Opened> {
            Box::pin(async { Err(Fault::bug("nobody writes")) })
        }
        fn consumer(&self, _from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
            Box::pin(async { Ok(Box::new(Nothing) as Box<dyn Consumer>) })
        }
        fn range(&self, _topic: Topic, _partition: Partition) -> Fut<'_, ReadRange> {
            Box::pin(async { Ok(self.range) })
        }
        fn offset_at(&self, _topic: Topic, _partition: Partition, _time_ms: u64) -> Fut<'_, Place> {
            Box::pin(async { Err(Fault::bug("nobody asks for a time")) })
        }
        fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
            Box::pin(async { Ok(BTreeMap::new()) })
        }
        fn forget<'a>(&'a self, _task: &'a str) -> Fut<'a, ()> {
            Box::pin(async { Ok(()) })
        }
    }

    struct Nothing;

    impl Consumer for Nothing {
        fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>> {
            Box::pin(async move {
                tokio::time::sleep(limit.wait).await;
                Ok(Vec::new())
            })
        }
        fn reached(&self) -> BTreeMap<(Topic, Partition), Place> {
            BTreeMap::from([(AT, place(3))])
        }
    }

    async fn why(stable: u64) -> Fault {
        let range = ReadRange { start: place(0), stable: place(stable), end: place(9) };
        let log: Arc<dyn Log> = Arc::new(Silent { id: LogId("log".to_owned()), range });
        read_to_end(&log, BTreeMap::from([(AT, place(0))]), |_| Ok(())).await.expect_err("it never ends")
    }

    /// What holds readers up is told from a log that is merely silent.
    #[tokio::test(start_paused = true)]
    async fn a_commit_that_never_ends_is_named() {
        let undecided = why(3).await;
        assert_eq!(undecided.kind, FaultKind::Retry);
        let said = undecided.message();
        assert!(
            said.contains("identities/2") && said.contains("a commit at 3") && said.contains("end at 9"),
            "{said}"
        );
        assert!(undecided.repair.is_some_and(|repair| repair.contains("A commit that never ends")));
        let silent = why(9).await;
        assert!(silent.message().contains("brings nothing more"), "{silent}");
        assert_eq!(silent.repair, None);
    }
}
