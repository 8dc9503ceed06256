//! What shards say in, in each shard's order; events of the source out, few and large when there is much, and bounded.

use std::sync::Arc;

use rollcall_model::shards::{ShardId, ShardProgress};
use rollcall_model::{Fault, ItemChange, ShardEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Duration, Instant, timeout_at};

/// Answers that wait for the log; each is at most 1,000 records or 1 MB.
const PARCELS_MAX: usize = 256;
/// An event takes no more in.
const EVENT_CHANGES_MAX: usize = 10_000;
/// The unit in which bytes are counted: a semaphore's permits are few.
const PERMIT_BYTES: usize = 1_024;

/// What one shard, or the keeper, says at once.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) changes: Vec<ItemChange>,
    pub(crate) progress: Vec<(ShardId, Option<ShardProgress>)>,
    /// It is passed on at once: others wait for it. Without this, an event of progress alone waits for company.
    pub(crate) urgent: bool,
    room: Option<OwnedSemaphorePermit>,
}

impl Parcel {
    pub(crate) fn new(
        changes: Vec<ItemChange>,
        progress: Vec<(ShardId, Option<ShardProgress>)>,
        urgent: bool,
    ) -> Self {
        Self { changes, progress, urgent, room: None }
    }
}

/// Where shards put what they say. It waits while too much is queued.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    parcels: mpsc::Sender<Result<Parcel, Fault>>,
    room: Arc<Semaphore>,
    permits_max: usize,
}

impl Outbox {
    /// `Err` when nobody listens any more.
    pub(crate) async fn put(&self, mut parcel: Parcel, bytes: usize) -> Result<(), Closed> {
        let permits = (bytes / PERMIT_BYTES).clamp(1, self.permits_max);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        parcel.room = Some(room.map_err(|_| Closed)?);
        self.parcels.send(Ok(parcel)).await.map_err(|_| Closed)
    }

    pub(crate) async fn fail(&self, fault: Fault) {
        // Where nobody listens, nobody wants to know.
        let _ = self.parcels.send(Err(fault)).await;
    }
}

/// The source has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// Where events come out.
#[derive(Debug)]
pub(crate) struct Inbox {
    parcels: mpsc::Receiver<Result<Parcel, Fault>>,
    quiet: Duration,
    quiet_until: Instant,
    event: ShardEvent,
    urgent: bool,
    fault: Option<Fault>,
}

pub(crate) fn queue(bytes_max: usize, quiet_ms: u64) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(PARCELS_MAX);
    let permits_max = (bytes_max / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let outbox = Outbox { parcels: sender, room: Arc::new(Semaphore::new(permits_max)), permits_max };
    let inbox = Inbox {
        parcels: receiver,
        quiet: Duration::from_millis(quiet_ms),
        quiet_until: Instant::now(),
        event: ShardEvent::default(),
        urgent: false,
        fault: None,
    };
    (outbox, inbox)
}

impl Inbox {
    /// The next event. Cancel-safe: what was taken in stays here.
    pub(crate) async fn next(&mut self) -> Result<ShardEvent, Fault> {
        loop {
            while self.fault.is_none() && self.event.changes.len() < EVENT_CHANGES_MAX {
                match self.parcels.try_recv() {
                    Ok(said) => self.take(said),
                    Err(_) => break,
                }
            }
            if self.urgent || !self.event.changes.is_empty() {
                return Ok(self.give());
            }
            if let Some(fault) = self.fault.take() {
                // Progress that waits is of no use to a source that ends.
                return Err(fault);
            }
            let said = if self.event.progress.is_empty() {
                self.parcels.recv().await
            } else {
                match timeout_at(self.quiet_until, self.parcels.recv()).await {
                    Ok(said) => said,
                    Err(_) => return Ok(self.give()),
                }
            };
            match said {
                Some(said) => self.take(said),
                None => return Err(Fault::retry("the DynamoDB source has ended")),
            }
        }
    }

    fn take(&mut self, said: Result<Parcel, Fault>) {
        match said {
            Ok(parcel) => {
                self.event.changes.extend(parcel.changes);
                self.event.progress.extend(parcel.progress);
                self.urgent |= parcel.urgent;
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn give(&mut self) -> ShardEvent {
        self.urgent = false;
        self.quiet_until = Instant::now() + self.quiet;
        std::mem::take(&mut self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(shard: &str, through_us: i64) -> Vec<(ShardId, Option<ShardProgress>)> {
        let progress = ShardProgress {
            parent: None,
            after: None,
            through_us,
            finished: false,
            children: Default::default(),
        };
        vec![(shard.to_owned(), Some(progress))]
    }

    fn quiet(shard: &str, through_us: i64) -> Parcel {
        Parcel::new(Vec::new(), progress(shard, through_us), false)
    }

    #[tokio::test]
    async fn progress_alone_waits_for_company_and_urgent_things_do_not() {
        let (outbox, mut inbox) = queue(1 << 20, 3_600_000);
        outbox.put(quiet("a", 1), 0).await.expect("room");
        assert_eq!(inbox.next().await.expect("the first").progress.len(), 1);
        outbox.put(quiet("a", 2), 0).await.expect("room");
        outbox.put(quiet("b", 2), 0).await.expect("room");
        // Dropped while it waits: nothing is lost.
        assert!(timeout_at(Instant::now() + Duration::from_millis(10), inbox.next()).await.is_err());
        outbox.put(quiet("a", 3), 0).await.expect("room");
        outbox.put(Parcel::new(Vec::new(), progress("c", 1), true), 0).await.expect("room");
        let merged = inbox.next().await.expect("at once");
        assert_eq!(merged.progress.len(), 3);
        assert_eq!(merged.progress["a"].as_ref().map(|a| a.through_us), Some(3));
        outbox.put(Parcel::new(Vec::new(), Vec::new(), true), 0).await.expect("room");
        assert_eq!(inbox.next().await.expect("at once, though empty"), ShardEvent::default());
    }

    #[tokio::test]
    async fn what_was_said_before_a_fault_comes_before_it() {
        let (outbox, mut inbox) = queue(1 << 20, 0);
        outbox.put(Parcel::new(Vec::new(), progress("a", 1), true), 0).await.expect("room");
        outbox.fail(Fault::refused("lost")).await;
        assert_eq!(inbox.next().await.expect("an event").progress.len(), 1);
        assert_eq!(inbox.next().await.expect_err("a fault").what, "lost");
        drop(outbox);
        assert!(inbox.next().await.is_err(), "it has ended");
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_one_that_is_larger_than_all_passes() {
        let (outbox, mut inbox) = queue(10_240, 0);
        outbox.put(quiet("a", 1), 1 << 30).await.expect("room");
        let more = outbox.put(quiet("b", 1), 1);
        tokio::pin!(more);
        assert!(timeout_at(Instant::now(), &mut more).await.is_err(), "full");
        inbox.next().await.expect("an event");
        more.await.expect("room again");
    }
}
