//! A roster's store emptied and filled anew, because an operator said so.
//!
//! ```text
//! order  partition/rebuild ▸ Order       beside the store it is about, on the disk of the worker that has it
//! start of the roster's task:  emptied ─▶ archive, page by page ─▶ meta: from where on the topics know more ─▶ caught up
//! ```
//!
//! In: an order, an archive. Out: a store that catches up with its topics as ever. Right for the reason that catching up
//! is: what a store holds of an identity is its last record of `identities` beside its last of `memberships`, of a pair
//! its last count, and each topic's records are taken in the topic's order, first the archive's, then the log's from
//! where the archive ends. So the three may be covered up to different commits: each has a place of its own to go on
//! from, and all have been read to their ends before the roster looks at any of it.
//!
//! In one file of an archive an identity that moved may stand under its new environment before it stands under its old one:
//! of images the one with the highest version counts. They are all read before the first set is, so a row's version is
//! theirs.
//!
//! Each page and the cursor behind it are one batch: a kill loses neither. The order stays until the store is whole, so a
//! store half filled is never taken for one. Who is gone for good (a null record) is not in an archive: the archive's
//! tombstone stands, as it does in a store that did not sweep yet, and is swept again.

use std::time::Duration;

use rollcall_model::archive::{ArchiveFilter, ArchiveReader, Archived};
use rollcall_model::{Fault, Log, Partition, Seq};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use tracing::info;

use crate::archives::{Archives, Reading, goes_on};
use crate::clock::now_us;
use crate::crash;
use crate::roster_store::{Meta, PartitionStore, RosterStores, TOPICS, failed, unreadable};

/// What a store is to be rebuilt from, and how far that is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Order {
    /// The archive; the log alone when `None`.
    from: Option<String>,
    /// What is left of it; `None` before the store was emptied.
    reading: Option<Reading>,
}

/// What a rebuild needs besides the store.
pub(crate) struct Rebuilding<'a> {
    pub(crate) log: &'a dyn Log,
    pub(crate) archives: &'a Archives,
    /// The last commit of the roster.
    pub(crate) seq: Seq,
    pub(crate) tombstone_retention: Duration,
}

fn key(partition: Partition) -> Vec<u8> {
    [&partition.0.to_be_bytes()[..], b"/rebuild"].concat()
}

/// The parts of an archive that fill the store of a partition.
pub(crate) fn parts(held: &[Archived], partition: Partition) -> Vec<Archived> {
    let fills = |held: &&Archived| held.partition == partition && TOPICS.contains(&held.topic);
    held.iter().filter(fills).copied().collect()
}

impl RosterStores {
    /// Orders that a partition's store is rebuilt when its task starts next; takes the place of an earlier order.
    pub(crate) fn order_rebuild(&self, partition: Partition, from: Option<String>) -> Result<(), Fault> {
        let order = serde_json::to_vec(&Order { from, reading: None }).map_err(unreadable)?;
        let mut batch = self.db.batch();
        batch.insert(&self.meta, key(partition), order);
        let _one = self.orders();
        batch.durability(Some(fjall::PersistMode::SyncAll)).commit().map_err(failed)
    }

    /// Commits what belongs to an order, if that is still the one that stands: a newer one isn't overwritten by it.
    fn commit_of(
        &self,
        partition: Partition,
        known: &[u8],
        batch: fjall::OwnedWriteBatch,
    ) -> Result<(), Fault> {
        let _one = self.orders();
        if self.meta.get(key(partition)).map_err(failed)?.is_none_or(|standing| *standing != *known) {
            return Err(Fault::retry("another rebuild of this store was ordered meanwhile"));
        }
        batch.commit().map_err(failed)
    }

    /// Carries out what was ordered, if anything was; the store is opened after that.
    pub(crate) async fn rebuild_if_ordered(
        &self,
        partition: Partition,
        with: &Rebuilding<'_>,
        mut shown: impl FnMut(Option<serde_json::Value>),
    ) -> Result<(), Fault> {
        let known = self.meta.get(key(partition)).map_err(failed)?;
        let Some(known) = known else { return Ok(()) };
        let mut order: Order = serde_json::from_slice(&known).map_err(unreadable)?;
        let mut store = PartitionStore::view(self.clone(), partition);
        let Some(archive) = order.from.clone() else {
            // Without its meta it is one that knows nothing.
            self.meta.remove(partition.0.to_be_bytes()).map_err(failed)?;
            store.clear()?;
            self.meta.remove(key(partition)).map_err(failed)?;
            shown(None);
            return Ok(());
        };
        let pin = order.reading.as_ref().map(Reading::pin);
        let mut reader = with.archives.open(with.log, &archive, pin).await?;
        let parts = parts(reader.holds(), partition);
        // What is refused leaves the store as it is.
        let mut meta = meta(with, &archive, &parts).await?;
        let mut reading = match order.reading.take() {
            Some(reading) => reading,
            None => {
                self.meta.remove(partition.0.to_be_bytes()).map_err(failed)?;
                store.clear()?;
                Reading::of(&archive, &*reader, &parts)
            }
        };
        shown(Some(reading.shown()));
        let known = self.fill(&store, &mut *reader, (&mut reading, known.to_vec()), &mut shown).await?;
        let mut batch = self.db.batch();
        meta.at_us = now_us();
        let meta = serde_json::to_vec(&meta).map_err(unreadable)?;
        batch.insert(&self.meta, partition.0.to_be_bytes(), meta);
        batch.remove(&self.meta, key(partition));
        self.commit_of(partition, &known, batch.durability(Some(fjall::PersistMode::SyncAll)))?;
        shown(None);
        info!(
            partition = partition.0,
            archive, "the store is filled from the lake; catching up with the log"
        );
        Ok(())
    }

    async fn fill(
        &self,
        store: &PartitionStore,
        reader: &mut dyn ArchiveReader,
        (reading, mut known): (&mut Reading, Vec<u8>),
        shown: &mut impl FnMut(Option<serde_json::Value>),
    ) -> Result<Vec<u8>, Fault> {
        let everything = ArchiveFilter::default();
        while let Some(part) = reading.next() {
            let page = reader.read(part.at(), part.cursor(), &everything).await?;
            reading.advance(page.deliveries.len(), page.next);
            let order = Order { from: Some(reading.archive.clone()), reading: Some(reading.clone()) };
            let order = serde_json::to_vec(&order).map_err(unreadable)?;
            block_in_place(|| {
                let records = page.deliveries.into_iter().map(|delivery| delivery.record);
                let mut batch = store.archived(records)?;
                batch.insert(&self.meta, key(part.at().1), order.as_slice());
                self.commit_of(part.at().1, &known, batch)
            })?;
            known = order;
            crash::here("archive-stored");
            shown(Some(reading.shown()));
        }
        Ok(known)
    }
}

/// What the filled store says of itself: it misses what is behind the archive, topic by topic.
async fn meta(with: &Rebuilding<'_>, archive: &str, parts: &[Archived]) -> Result<Meta, Fault> {
    let places = goes_on(with.log, archive, parts, with.tombstone_retention).await?;
    let from = places.into_iter().map(|((topic, _), place)| (topic, place)).collect();
    // What it holds of every topic. A topic that the archive doesn't have is read from its start.
    let covered = |topic| parts.iter().find(|part| part.topic == topic).map_or(0, |part| part.covered.seq.0);
    let seq = TOPICS.into_iter().map(covered).min().unwrap_or_default().min(with.seq.0);
    Ok(Meta { log_id: with.log.id().clone(), seq: Seq(seq), from, at_us: 0 })
}
