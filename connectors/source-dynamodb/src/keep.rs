//! The keeper of a reader's shards: what is listed and what is in the log in; one task for each shard that can be read out.
//!
//! ```text
//!   DescribeStream ──▶ listing ┐
//!   saved, others ─────────────┼─▶ tree::plan ─▶ notes (first), then a ShardReader for each shard to read
//!   a reader's end ─▶ list soon┘              └▶ losses, seen in two listings ─▶ a refusal
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_model::shards::{ShardId, ShardProgress};
use rollcall_model::{Fault, FaultKind, Shards};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

use crate::begin::current;
use crate::list::{Listed, Lister, Status};
use crate::listing::Listing;
use crate::loss::refusal;
use crate::queue::{Closed, Parcel};
use crate::read::{ShardReader, Shared, Stop, is_trimmed};
use crate::tree::{Loss, Plan, RETENTION_US, View};

/// After a shard's end its children are looked for so often before it is left to the usual looks, at such distances.
const SOON_MS: u64 = 500;
const SOON_TRIES: u32 = 10;
/// At every so many listings the table is looked at too.
const LOOKS_AT_TABLE: u32 = 6;

/// What the log says of the shards, as last heard.
pub(crate) struct Heard {
    /// Of this reader.
    pub(crate) saved: watch::Receiver<Shards>,
    /// Of the others.
    pub(crate) others: watch::Receiver<BTreeMap<u16, Shards>>,
}

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    index: u16,
    heard: Heard,
    /// Whether this epoch's first note is in the outbox.
    begun: bool,
    listing: Listing,
    status: Status,
    /// Noted down, and not heard of from the log yet.
    notes: BTreeMap<ShardId, Option<ShardProgress>>,
    readers: JoinSet<(ShardId, Stop)>,
    running: BTreeSet<ShardId>,
    /// Read to the end; the log has not said so yet.
    ended: BTreeSet<ShardId>,
    /// Seen in the last listing.
    suspected: BTreeSet<ShardId>,
    lister: Lister,
    lists: JoinSet<Result<Listed, Fault>>,
    next_list: Instant,
    /// Read to the end, and no child is listed yet.
    childless: BTreeSet<ShardId>,
    soon: u32,
    looks: u32,
    /// When the stream was first seen not to go on.
    disabled_us: Option<i64>,
}

enum Stopped {
    Closed,
    Fault(Fault),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Closed> for Stopped {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, index: u16, heard: Heard, listed: Listed) -> Self {
        let begun = heard.saved.borrow().epoch >= shared.stream.epoch;
        let lister = Lister::new(&shared.clients, &shared.config, shared.stream.name.clone());
        let next_list = Instant::now() + Duration::from_millis(shared.config.discover_ms);
        Self {
            shared,
            index,
            heard,
            begun,
            listing: listed.listing,
            status: listed.status,
            notes: BTreeMap::new(),
            readers: JoinSet::new(),
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            suspected: BTreeSet::new(),
            lister,
            lists: JoinSet::new(),
            next_list,
            childless: BTreeSet::new(),
            soon: 0,
            looks: 0,
            disabled_us: None,
        }
    }

    /// Goes on until the source is dropped or a fault is said.
    pub(crate) async fn run(mut self) {
        match Box::pin(self.keep()).await {
            Err(Stopped::Fault(fault)) => self.shared.outbox.fail(fault).await,
            Ok(()) | Err(Stopped::Closed) => {}
        }
    }

    async fn keep(&mut self) -> Result<(), Stopped> {
        self.accept().await?;
        // What was just listed is what there is.
        self.act(true).await?;
        loop {
            tokio::select! {
                changed = self.heard.saved.changed() => {
                    changed.map_err(|_| Stopped::Closed)?;
                    self.act(false).await?;
                }
                changed = self.heard.others.changed() => {
                    changed.map_err(|_| Stopped::Closed)?;
                    self.act(false).await?;
                }
                Some(ended) = self.readers.join_next() => {
                    self.reader_ended(ended.map_err(|error| Fault::bug(format!("a shard's task: {error}")))?)?;
                }
                Some(listed) = self.lists.join_next() => {
                    let listed = listed.map_err(|error| Fault::bug(format!("a listing's task: {error}")))??;
                    self.listing = listed.listing;
                    self.status = listed.status;
                    self.childless.retain(|shard| !self.listing.has_child(shard));
                    self.act(true).await?;
                }
                () = sleep_until(self.next_list), if self.lists.is_empty() => self.list(),
            }
        }
    }

    fn list(&mut self) {
        let pause = if self.soon > 0 && !self.childless.is_empty() {
            self.soon -= 1;
            SOON_MS.min(self.shared.config.discover_ms)
        } else {
            self.childless.clear();
            self.shared.config.discover_ms
        };
        self.next_list = Instant::now() + Duration::from_millis(pause);
        let mut lister = self.lister.clone();
        self.lists.spawn(async move { Box::pin(lister.list()).await });
    }

    /// A raised epoch accepts what is lost: shards that can't be read on from where they stand begin anew.
    async fn accept(&mut self) -> Result<(), Fault> {
        if self.begun {
            return Ok(());
        }
        let now_us = self.shared.clock().now_us();
        let own = self.heard.saved.borrow().shards.clone();
        for (shard, progress) in own {
            let Some(after) = progress.after.as_ref().filter(|_| !progress.finished) else { continue };
            // What was read within the retention can be read on, trimmed or not: see `ShardReader`.
            if progress.through_us < now_us - RETENTION_US
                && self.listing.shards.contains_key(&shard)
                && is_trimmed(&self.shared, &shard, after).await?
            {
                self.notes.insert(shard, Some(ShardProgress { after: None, ..progress }));
            }
        }
        Ok(())
    }

    /// This reader's shards: what the log has, and what was noted since.
    fn own(&mut self) -> BTreeMap<ShardId, ShardProgress> {
        let saved = self.heard.saved.borrow_and_update();
        let heard = self.begun && saved.epoch >= self.shared.stream.epoch;
        if heard {
            self.notes.retain(|shard, note| saved.shards.contains_key(shard) != note.is_some());
        }
        let mut own = saved.shards.clone();
        drop(saved);
        for (shard, note) in &self.notes {
            match note {
                Some(progress) => own.insert(shard.clone(), progress.clone()),
                None => own.remove(shard),
            };
        }
        own
    }

    async fn act(&mut self, listed: bool) -> Result<(), Stopped> {
        let own = self.own();
        let now_us = self.shared.clock().now_us();
        let plan = {
            let others = self.heard.others.borrow_and_update();
            let view = View {
                stream: &self.shared.stream,
                index: self.index,
                begun: self.begun,
                listing: &self.listing,
                own: &own,
                others: &others,
                now_us,
                slack_us: self.shared.config.slack_us(),
            };
            view.plan()
        };
        self.ended.retain(|shard| own.get(shard).is_some_and(|progress| !progress.finished));
        self.note(&plan).await?;
        self.lose(&plan, listed, now_us)?;
        if listed {
            self.report(now_us);
            self.still_current(&plan, now_us).await?;
        }
        for (shard, through_us) in plan.waiting {
            self.shared.lags.set(&shard, through_us);
        }
        for (shard, progress) in plan.read {
            if self.ended.contains(&shard) || !self.running.insert(shard.clone()) {
                continue;
            }
            self.shared.lags.set(&shard, progress.through_us);
            let reader = ShardReader::new(Arc::clone(&self.shared), shard.clone(), progress);
            self.readers.spawn(async move { (shard, reader.run().await) });
        }
        Ok(())
    }

    /// Before anything is read, it is noted down; and that an epoch has begun is said even if there is nothing to note.
    async fn note(&mut self, plan: &Plan) -> Result<(), Closed> {
        let mut notes = plan.note.clone();
        if !self.begun {
            // What was accepted before the plan stands in the same event.
            for (shard, note) in &self.notes {
                notes.entry(shard.clone()).or_insert_with(|| note.clone());
            }
        }
        if self.begun && notes.is_empty() {
            return Ok(());
        }
        for (shard, note) in &notes {
            if note.is_none() {
                self.shared.lags.remove(shard);
            }
            self.notes.insert(shard.clone(), note.clone());
        }
        self.begun = true;
        self.shared.outbox.put(Parcel::new(Vec::new(), notes.into_iter().collect(), true), 0).await
    }

    /// A loss counts when two listings in a row show it.
    fn lose(&mut self, plan: &Plan, listed: bool, now_us: i64) -> Result<(), Fault> {
        let seen: BTreeSet<ShardId> = plan.losses.iter().map(|loss| loss.shard.clone()).collect();
        if listed {
            let sure: Vec<Loss> =
                plan.losses.iter().filter(|loss| self.suspected.contains(&loss.shard)).cloned().collect();
            if !sure.is_empty() {
                return Err(refusal(&self.shared.config, &self.shared.stream, &sure, now_us));
            }
            self.suspected = seen;
            if !self.suspected.is_empty() {
                self.next_list = Instant::now();
            }
        }
        Ok(())
    }

    fn reader_ended(&mut self, (shard, stop): (ShardId, Stop)) -> Result<(), Stopped> {
        self.running.remove(&shard);
        match stop {
            Stop::Finished => {
                if !self.listing.has_child(&shard) {
                    self.childless.insert(shard.clone());
                    self.soon = SOON_TRIES;
                    self.next_list = Instant::now();
                }
                self.ended.insert(shard);
                Ok(())
            }
            Stop::Missing => {
                // If it is still listed it is read again, else it is lost.
                self.next_list = self.next_list.min(Instant::now() + Duration::from_millis(SOON_MS));
                Ok(())
            }
            // It said why.
            Stop::Closed => Err(Stopped::Closed),
        }
    }

    /// A stream that was disabled is read to its end, and then refused. Whoever has nothing to read looks at the table each
    /// time, and whoever has, now and then.
    async fn still_current(&mut self, plan: &Plan, now_us: i64) -> Result<(), Fault> {
        let busy = !self.running.is_empty() || !self.ended.is_empty() || !plan.waiting.is_empty();
        let idle = !busy && plan.read.is_empty();
        self.looks = self.looks.wrapping_add(1);
        let due = idle || self.status != Status::Open || self.looks.is_multiple_of(LOOKS_AT_TABLE);
        if !due || !plan.losses.is_empty() {
            return Ok(());
        }
        let config = &self.shared.config;
        let now = match Box::pin(current(&self.shared.clients, config)).await {
            Ok(now) => now,
            // The next look will tell.
            Err(fault) if fault.kind == FaultKind::Retry => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let (stream, table) = (&self.shared.stream.name, &config.table);
        let what = match now {
            Some(name) if &name == stream && self.status == Status::Open => {
                self.disabled_us = None;
                return Ok(());
            }
            Some(name) if &name == stream => format!("the stream {stream} of the table {table} is no more"),
            Some(name) => format!(
                "the table {table} has another stream, {name}, than the one that was begun, {stream}: what was \
                 written between the two is missing"
            ),
            None => format!(
                "the stream {stream} of the table {table} is disabled: all that it held has been read, what is \
                 written now is missing. Enable it again: {}",
                config.enable_stream()
            ),
        };
        let since_us = *self.disabled_us.get_or_insert(now_us);
        // Some leave the shards of a disabled stream open: then it is read when all is that could be written.
        let read = self.shared.lags.oldest(now_us).is_none_or(|(_, age_us)| now_us - age_us >= since_us);
        if idle || read { Err(Fault::refused(what).repair(config.repair())) } else { Ok(()) }
    }

    fn report(&self, now_us: i64) {
        let lags = &self.shared.lags;
        let (source, reader) = (self.shared.config.name.to_string(), self.index.to_string());
        let age_us = lags.oldest(now_us).map_or(0, |(_, age_us)| age_us);
        metrics::gauge!("rollcall_dynamodb_oldest_unread_seconds", "source" => source.clone(), "reader" => reader.clone())
            .set(age_us as f64 / 1e6);
        metrics::gauge!("rollcall_dynamodb_shards_reading", "source" => source, "reader" => reader)
            .set(self.running.len() as f64);
        for (shard, hours) in lags.alarms(now_us) {
            tracing::warn!(
                source = %self.shared.config.name,
                shard,
                "unread records of this shard may be {hours} hours old: at 24 hours they are gone"
            );
        }
    }
}
