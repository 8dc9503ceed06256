//! How a sink that holds nothing is filled: from an archive, if one was named, then from the compacted topics, then live.
//!
//! ```text
//! archive ── Covered.until ─┬─ identities ─────────────────────────────────────▶ goes on as it is
//!                           └─ memberships ──▶ ends, as of the beginning ─┐
//! membership-changes        (held from where it stood at the beginning)  └────▶ live
//! ```
//!
//! In: what the sink reads, an archive. Out: writes, and progress after each, so that a kill costs one buffer. Right
//! because each part is followed by the next without a gap: the archive holds every commit up to `until`, the compacted
//! topic all that is newer up to its end, the changes all since before that end. What two of them say is the same row
//! with the same version, or the same count with the same seq, and a sink takes those once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rollcall_model::archive::{ArchiveFilter, ArchiveReader, Archived};
use rollcall_model::{Fault, Log, Partition, Place, Topic};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::archives::{Archives, Reading, goes_on};
use crate::crash;
use crate::sink_task::{Running, SinkState};

/// Pages of an archive in the buffer: each is bounded by the archive in rows and bytes.
const PAGES_MAX: usize = 8;

type Reads = BTreeMap<(Topic, Partition), Place>;

/// Where a bootstrap ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    /// The compacted topics are read up to here.
    pub(crate) ends: Vec<(Topic, Partition, Place)>,
    /// `membership-changes` is read from here on, per partition.
    pub(crate) live: Vec<Place>,
    /// What is still to be read of an archive before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<Reading>,
}

/// What of an archive a sink is filled from.
#[derive(Debug)]
pub(crate) struct Start {
    reading: Reading,
    parts: Vec<Archived>,
    /// Where the log goes on, of each part.
    goes_on: Reads,
}

/// The compacted topic that holds what a live one says the changes of.
pub(crate) fn compacted(topic: Topic) -> Topic {
    if topic == Topic::MembershipChanges { Topic::Memberships } else { topic }
}

/// The parts of an archive that fill a sink of these topics.
pub(crate) fn parts<'a>(held: &'a [Archived], topics: &[Topic]) -> Vec<&'a Archived> {
    let topics: Vec<Topic> = topics.iter().copied().map(compacted).collect();
    held.iter().filter(|held| topics.contains(&held.topic)).collect()
}

/// Opens the archive that a sink is to be filled from, before the sink is emptied: what is refused leaves it as it is.
pub(crate) async fn open(
    archives: &Archives,
    log: &dyn Log,
    archive: &str,
    topics: &[Topic],
    tombstone_retention: Duration,
) -> Result<(Box<dyn ArchiveReader>, Start), Fault> {
    let reader = archives.open(log, archive, None).await?;
    let parts: Vec<Archived> = parts(reader.holds(), topics).into_iter().copied().collect();
    let places = goes_on(log, archive, &parts, tombstone_retention).await?;
    let reading = Reading::of(archive, &*reader, &parts);
    Ok((reader, Start { reading, parts, goes_on: places }))
}

/// Where a sink that holds nothing starts.
pub(crate) async fn begin(
    log: &dyn Log,
    topics: &[Topic],
    archive: Option<&Start>,
) -> Result<(SinkState, Reads), Fault> {
    let mut state = SinkState::default();
    let mut reads = Reads::new();
    let (mut ends, mut live) = (Vec::new(), Vec::new());
    for partition in (0..log.partitions()).map(Partition) {
        for topic in topics.iter().copied() {
            if topic == Topic::MembershipChanges {
                live.push(log.range(topic, partition).await?.stable);
            }
            let from = compacted(topic);
            let range = log.range(from, partition).await?;
            ends.push((from, partition, range.end));
            let behind = archive.and_then(|archive| archive.goes_on.get(&(from, partition)));
            reads.insert((from, partition), behind.copied().unwrap_or(range.start));
        }
    }
    if let Some(archive) = archive {
        // Everything up to there comes at once: a check before it can't be answered any more.
        for held in &archive.parts {
            let seq = state.brought.entry(held.partition).or_default();
            *seq = held.covered.seq.max(*seq);
        }
    }
    let reading = archive.map(|archive| archive.reading.clone());
    if !live.is_empty() || reading.is_some() {
        state.bootstrap = Some(Bootstrap { ends, live, reading });
    }
    Ok((state, reads))
}

impl Running {
    /// Reads what is left of the archive, if there is one, and says in the log how far it is after every write.
    pub(crate) async fn read_archive(&mut self, reader: &mut dyn ArchiveReader) -> Result<(), Fault> {
        let everything = ArchiveFilter::default();
        let (mut pages, mut records, mut since) = (0, 0, Instant::now());
        while let Some(part) = self.reading().and_then(|reading| reading.next()) {
            let page = reader.read(part.at(), part.cursor(), &everything).await?;
            pages += 1;
            records += page.deliveries.len();
            if let Some(reading) = self.reading() {
                reading.advance(page.deliveries.len(), page.next);
            }
            self.buffer.deliveries.extend(page.deliveries);
            self.buffer.oldest.get_or_insert_with(Instant::now);
            let is_last = self.reading().is_none_or(|reading| reading.next().is_none());
            if is_last || pages >= PAGES_MAX || self.buffer.deliveries.len() >= self.flush.rows {
                self.write().await?;
                crash::here("archive-written");
                pages = 0;
                self.report_rebuild();
                let rate = records as f64 / since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
                self.reporter.fact("records_per_second", rate.round());
                (records, since) = (0, Instant::now());
            }
        }
        if let Some(bootstrap) = &mut self.state.bootstrap {
            bootstrap.reading = None;
        }
        self.commit(Vec::new()).await?;
        self.report_rebuild();
        info!(sink = self.name, "the lake is read; going on with the log");
        Ok(())
    }

    fn reading(&mut self) -> Option<&mut Reading> {
        self.state.bootstrap.as_mut()?.reading.as_mut()
    }

    /// Says how far the archive is read; nothing once it is.
    pub(crate) fn report_rebuild(&self) {
        let reading = self.state.bootstrap.as_ref().and_then(|bootstrap| bootstrap.reading.as_ref());
        self.reporter.fact("rebuild", reading.map(Reading::shown));
    }
}
