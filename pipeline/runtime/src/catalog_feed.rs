//! The topic `catalog`, read once per worker and shared by its roster partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::log::PollLimit;
use rollcall_model::{Fault, Log, Partition, Topic};
use rollcall_roster::{Catalog, CatalogBuilder};
use tokio::sync::watch;

use crate::foreign::own;
use crate::read_to_end::has_reached;
use crate::tasks::Reporter;

const POLL: PollLimit = PollLimit { records_max: 10_000, bytes_max: 64 << 20, wait: Duration::from_secs(5) };

/// Follows the catalog for ever, publishing each state after everything that was there has been read: half a commit,
/// or the beginning of the topic, would be taken for the whole.
pub(crate) async fn follow(
    log: Arc<dyn Log>,
    catalog: watch::Sender<Arc<Catalog>>,
    reporter: Reporter,
) -> Result<(), Fault> {
    let at = (Topic::Catalog, Partition(0));
    let range = log.range(at.0, at.1).await?;
    let mut consumer = log.consumer(BTreeMap::from([(at, range.start)])).await?;
    let mut builder = CatalogBuilder::default();
    let mut documents: u64 = 0;
    let mut published = None;
    // What has to be read before the next state is whole. It stands still until then: the end of a busy topic is never
    // reached.
    let (mut whole_at, mut is_cut) = (Some(range.stable), false);
    reporter.running();
    loop {
        if whole_at.is_none() && published != Some(documents) {
            whole_at = Some(log.range(at.0, at.1).await?.stable);
        }
        // A poll that was cut may have cut a commit.
        let is_whole = whole_at.is_some_and(|end| has_reached(&*consumer, &BTreeMap::from([(at, end)])));
        if is_whole && !is_cut {
            catalog.send_replace(builder.snapshot());
            published = Some(documents);
            whole_at = None;
        }
        // A log's own marks behind the last document are passed without bringing a record.
        let wait = if whole_at.is_none() { POLL.wait } else { Duration::from_millis(10) };
        let limit = PollLimit { wait, ..POLL };
        let records = consumer.poll(limit).await?;
        is_cut = records.len() >= POLL.records_max;
        for fetched in own(records) {
            let Some(value) = &fetched.record.value else { continue };
            let entry: CatalogEntry = serde_json::from_slice(value).map_err(|e| {
                Fault::refused(format!(
                    "the catalog document '{}' at offset {} can't be read",
                    String::from_utf8_lossy(&fetched.record.key),
                    fetched.place.offset
                ))
                .from_source(e)
                .repair("run the version of rollcall that wrote it, or `rollcall backfill` its source to write it anew")
            })?;
            builder.apply(entry);
            documents += 1;
        }
        reporter.fact("documents_read", documents);
    }
}
