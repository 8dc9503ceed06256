//! Events on their way to the consumer: bounded in number and in bytes.

use std::sync::Arc;

use rollcall_model::{Fault, SourceEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Events that wait for the consumer.
pub(crate) const EVENTS_AHEAD_MAX: usize = 1_024;
/// Bytes of messages behind the events that wait; in memory they are a few times that.
const EVENT_BYTES_AHEAD_MAX: u32 = 8 << 20;

/// An event with the room that it takes up until it is taken.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) event: Result<SourceEvent, Fault>,
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Where events are put.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
}

/// The consumer is gone.
#[derive(Debug)]
pub(crate) struct Closed;

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Parcel>) {
        let (queue, events) = mpsc::channel(EVENTS_AHEAD_MAX);
        (Self { queue, room: Arc::new(Semaphore::new(EVENT_BYTES_AHEAD_MAX as usize)) }, events)
    }

    /// Waits for room and puts an event.
    pub(crate) async fn put(&self, event: SourceEvent, bytes: usize) -> Result<(), Closed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, EVENT_BYTES_AHEAD_MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room.map_err(|_| Closed)?,
            () = self.queue.closed() => return Err(Closed),
        };
        self.queue.send(Parcel { event: Ok(event), _room: Some(room) }).await.map_err(|_| Closed)
    }

    /// Puts the fault that ends the stream.
    pub(crate) async fn end(&self, fault: Fault) {
        // A consumer that is gone needs no fault.
        drop(self.queue.send(Parcel { event: Err(fault), _room: None }).await);
    }

    /// Completes when the consumer is gone.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}
