//! One of the readers that share a table's stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::log::Fut;
use rollcall_model::shards::{ShardId, Stream};
use rollcall_model::{Fault, SavedShards, ShardEvent, ShardSource, Shards};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::begin::current;
use crate::clients::Clients;
use crate::config::DynamoSourceConfig;
use crate::keep::{Heard, Keeper};
use crate::lag::Lags;
use crate::list::{Lister, Status};
use crate::queue::{Inbox, queue};
use crate::read::Shared;

/// Reads the shards of a stream that fall to one reader. Dropping it ends all of it.
///
/// Its first event after a [`Stream::epoch`] was begun or raised says so: it may be empty, and must be saved all the same,
/// with that epoch.
#[derive(Debug)]
pub struct DynamoShards {
    inbox: Inbox,
    shared: Arc<Shared>,
    saved: watch::Sender<Shards>,
    others: watch::Sender<BTreeMap<u16, Shards>>,
    keeper: JoinHandle<()>,
}

impl DynamoShards {
    /// Goes on from what the log has: of this reader, and of the others.
    ///
    /// # Errors
    /// A [`Fault`] when the stream can't be listed, a permission is missing, or the progress is of a later stream.
    pub async fn start(
        config: DynamoSourceConfig,
        stream: Stream,
        index: u16,
        own: Shards,
        others: BTreeMap<u16, Shards>,
    ) -> Result<Self, Fault> {
        if index >= stream.readers || own.epoch > stream.epoch {
            return Err(Fault::bug(format!(
                "reader {index} of {} can't go on from epoch {} in epoch {}",
                stream.readers, own.epoch, stream.epoch
            )));
        }
        let clients = Clients::new(&config.aws).await?;
        let listed = Box::pin(Lister::new(&clients, &config, stream.name.clone()).list()).await?;
        if listed.status == Status::Gone {
            return Err(gone(&clients, &config, &stream).await);
        }
        let (outbox, inbox) = queue(config.queue_bytes_max, config.progress_ms);
        let in_flight = Semaphore::new(config.shards_in_flight_max.max(1));
        let shared = Arc::new(Shared { config, stream, clients, outbox, in_flight, lags: Lags::default() });
        let (saved, own) = watch::channel(own);
        let (told, others) = watch::channel(others);
        let keeper = Keeper::new(Arc::clone(&shared), index, Heard { saved: own, others }, listed);
        let keeper = tokio::spawn(keeper.run());
        Ok(Self { inbox, shared, saved, others: told, keeper })
    }
}

async fn gone(clients: &Clients, config: &DynamoSourceConfig, stream: &Stream) -> Fault {
    let now = match Box::pin(current(clients, config)).await {
        Ok(Some(name)) => format!("the table has the stream {name} now"),
        Ok(None) => format!("the table has no stream now. Enable it: {}", config.enable_stream()),
        Err(fault) => fault.what,
    };
    let (name, table) = (&stream.name, &config.table);
    Fault::refused(format!(
        "the stream {name} of the table {table} is no more, and what it held unread: {now}"
    ))
    .repair(config.repair())
}

impl Drop for DynamoShards {
    fn drop(&mut self) {
        // Its shards' tasks end with it.
        self.keeper.abort();
    }
}

impl ShardSource for DynamoShards {
    fn next(&mut self) -> Fut<'_, ShardEvent> {
        Box::pin(self.inbox.next())
    }

    fn saved(&mut self, saved: &SavedShards) -> Result<(), Fault> {
        let shards = saved.shards();
        let news = |old: &mut Shards| {
            let before = shape(old);
            *old = shards.clone();
            // Only what lets another shard begin, or be forgotten, is worth a look.
            before != shape(old)
        };
        self.saved.send_if_modified(news);
        // If it has ended, `next` says why.
        Ok(())
    }

    fn others(&mut self, others: &BTreeMap<u16, Shards>) -> Result<(), Fault> {
        let all = |others: &BTreeMap<u16, Shards>| -> Vec<_> {
            others.iter().map(|(index, shards)| (*index, shape(shards))).collect()
        };
        self.others.send_if_modified(|old| {
            let before = all(old);
            others.clone_into(old);
            before != all(old)
        });
        Ok(())
    }

    fn oldest_unread(&self) -> Option<(ShardId, u64)> {
        let (shard, age_us) = self.shared.lags.oldest(self.shared.clock().now_us())?;
        Some((shard, u64::try_from(age_us / 1_000).unwrap_or_default()))
    }
}

/// What of a reader's progress decides about other shards: which there are, which have begun, which are finished.
fn shape(shards: &Shards) -> (u64, Vec<(ShardId, bool, bool)>) {
    let all = shards.shards.iter();
    let all = all.map(|(id, progress)| (id.clone(), progress.after.is_some(), progress.finished));
    (shards.epoch, all.collect())
}
