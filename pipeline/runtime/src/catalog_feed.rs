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
    reporter.running();
    loop {
        let changed = published != Some(documents);
        let end = log.range(at.0, at.1).await?.end;
        let is_whole = has_reached(&*consumer, &BTreeMap::from([(at, end)]));
        if changed && is_whole {
            catalog.send_replace(builder.snapshot());
            published = Some(documents);
        }
        // A log's own marks behind the last document are passed without bringing a record.
        let limit = PollLimit { wait: if is_whole { POLL.wait } else { Duration::from_millis(10) }, ..POLL };
        for fetched in own(consumer.poll(limit).await?) {
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
