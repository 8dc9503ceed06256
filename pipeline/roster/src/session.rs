//! One turn of a roster partition: inputs in, one [`Output`] out.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::{
    Cause, CheckReport, CheckScope, CheckTotal, CountRecord, CountState, EnvironmentId, Fault, Fingerprint,
    IdentityKey, Input, LogId, Partition, Place, QuarantineRecord, SegmentId, Seq, SourceName,
    WatermarkRecord,
};

use crate::catalog::Catalog;
use crate::counts::{Counts, Pair};
use crate::judge::RaisedOn;
use crate::output::{CheckPassed, Output, Passed};
use crate::state::{FillScope, RosterState};
use crate::store::{Store, Stored};
use crate::sweep::Sweep;

/// At most this many identities are listed by one answer to a check.
const CHECK_MEMBERS_MAX: usize = 100_000;
/// How many identities a scan reads, and a fill or a sweep takes into one commit, unless set otherwise: enough to
/// share a commit, little enough for live changes to come in between.
pub const DEFAULT_SCAN_ROWS: usize = 512;

/// What an input needs before the next one may come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing: it is applied.
    Done,
    /// Commit what there is and hand the same input in again: its sweep goes on.
    Unfinished,
    /// The catalog of `writer` at `number` or later.
    NeedsCatalog {
        /// The writer.
        writer: SourceName,
        /// The number.
        number: u64,
    },
    /// The quarantine records of an identity, by [`Session::replay`].
    NeedsQuarantine {
        /// The identity.
        key: IdentityKey,
    },
}

/// A roster partition between commits.
#[derive(Debug)]
pub struct Roster {
    pub(crate) log_id: LogId,
    pub(crate) partition: Partition,
    /// By which live changes are judged: the newest known.
    pub(crate) catalog: Arc<Catalog>,
    /// As of the catalog numbers in `state`: what the newest is compared with to find what to fill.
    pub(crate) reached: Arc<Catalog>,
    pub(crate) counts: Counts,
    pub(crate) state: RosterState,
    /// The sweep under way, and the place of its input.
    pub(crate) sweep: Option<(Place, Sweep)>,
    pub(crate) tombstone_retention_us: i64,
    pub(crate) scan_rows: usize,
}

impl Roster {
    /// A partition that goes on from `state`, with the counts its store or topic holds.
    #[must_use]
    pub fn new(
        log_id: LogId,
        partition: Partition,
        state: RosterState,
        counts: Counts,
        tombstone_retention_us: i64,
    ) -> Self {
        let catalog = Arc::new(Catalog::default());
        Self {
            log_id,
            partition,
            reached: Arc::clone(&catalog),
            catalog,
            counts,
            state,
            sweep: None,
            tombstone_retention_us,
            scan_rows: DEFAULT_SCAN_ROWS,
        }
    }

    /// Sets how many identities a fill or a sweep takes into one commit.
    #[must_use]
    pub fn with_scan_rows(mut self, scan_rows: usize) -> Self {
        self.scan_rows = scan_rows.max(1);
        self
    }

    /// Takes a newer catalog.
    ///
    /// When the one that goes was not reached, changes may have been judged by documents of it that the new one takes
    /// back: nothing can be called unchanged then until every number has been reached, and what is new fills.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        if !Arc::ptr_eq(&self.reached, &self.catalog) {
            self.reached = Arc::default();
        }
        self.catalog = catalog;
        self.adopt_if_reached();
    }

    /// The compared catalog moves only when every number in the newest has been reached: until then a document that
    /// is new in the newest must still look new.
    pub(crate) fn adopt_if_reached(&mut self) {
        let reached =
            self.state.catalog.iter().all(|(writer, number)| self.catalog.number(writer) <= *number);
        if reached && self.catalog.writers().all(|writer| self.state.catalog.contains_key(writer)) {
            self.reached = Arc::clone(&self.catalog);
        }
    }

    /// What `progress` must remember.
    #[must_use]
    pub fn state(&self) -> &RosterState {
        &self.state
    }

    /// Its counts.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether fills are under way.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        !self.state.fills.jobs.is_empty()
    }

    /// Starts a turn. After an error, or when its commit fails, the roster must be made anew from `progress`.
    pub fn session<'a>(&'a mut self, store: &'a dyn Store) -> Session<'a> {
        self.state.seq = Seq(self.state.seq.0 + 1);
        let out = Output { seq: self.state.seq, ..Output::default() };
        Session { roster: self, store, written: BTreeMap::new(), out, events: 0, raised: Vec::new() }
    }

    /// How the count of a pair is to be read.
    pub(crate) fn pair_state(&self, (segment_id, environment_id): &Pair) -> CountState {
        let Some(segment) = self.catalog.segment(segment_id).filter(|s| !s.doc.deleted) else {
            return CountState::Removed;
        };
        let environment = self.catalog.environment(environment_id).filter(|e| !e.deleted);
        let Some(environment) = environment.filter(|e| e.project_id == segment.doc.project_id) else {
            return CountState::Removed;
        };
        if !self.catalog.judges(environment, &environment.owner) {
            return CountState::Removed;
        }
        if let Some(reason) = segment.compiled.unsupported() {
            return CountState::Unsupported { reason: reason.to_owned() };
        }
        if let Some((number, reason)) = self.state.suspended.get(segment_id)
            && *number >= segment.number
        {
            return CountState::Unsupported { reason: reason.clone() };
        }
        let filling = self.state.fills.jobs.iter().any(|job| job.scope.covers(segment_id, environment_id));
        if filling || !self.state.loaded.contains(&environment.owner) {
            return CountState::Filling;
        }
        CountState::Live
    }
}

/// Identities in key order, and the key after which a scan goes on.
pub(crate) type Scanned = (Vec<(Vec<u8>, Stored)>, Option<Vec<u8>>);

/// A turn. Reads see what it wrote before.
pub struct Session<'a> {
    pub(crate) roster: &'a mut Roster,
    pub(crate) store: &'a dyn Store,
    pub(crate) written: BTreeMap<Vec<u8>, Option<Stored>>,
    pub(crate) out: Output,
    pub(crate) events: u64,
    pub(crate) raised: Vec<RaisedOn>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("partition", &self.roster.partition).finish_non_exhaustive()
    }
}

impl Session<'_> {
    /// Applies the input at a place of `identity-changes`.
    ///
    /// # Errors
    /// A [`Fault`] of the store, or a bug.
    pub fn apply(&mut self, place: Place, input: &Input) -> Result<Turn, Fault> {
        let turn = self.dispatch(place, input)?;
        self.suspend_raised();
        Ok(turn)
    }

    fn dispatch(&mut self, place: Place, input: &Input) -> Result<Turn, Fault> {
        match input {
            Input::Change(change) => self.apply_change(place, change).map(|()| Turn::Done),
            Input::Catalog { writer, number } => Ok(self.catalog_reached(writer, *number)),
            Input::Begin { source, backfill, gap } => {
                self.roster.state.backfills.insert(source.clone(), backfill.clone());
                if *gap && self.roster.state.loaded.remove(source) {
                    self.touch_everything();
                }
                Ok(Turn::Done)
            }
            Input::Page { source, from, to, present, source_time_us, .. } => {
                self.see_time(*source_time_us);
                self.sweep(place, || {
                    Sweep::page(source, from.as_ref(), to.as_ref(), present, *source_time_us)
                })
            }
            Input::End { source, backfill, unfound } => self.end_backfill(place, source, backfill, *unfound),
            Input::Truncate { source, what, source_time_us } => {
                self.see_time(*source_time_us);
                self.sweep(place, || Sweep::truncate(source, *what, *source_time_us))
            }
            Input::Watermark { source, position, at_us } => {
                self.see_time(*at_us);
                let watermark = WatermarkRecord {
                    source: source.clone(),
                    partition: self.roster.partition,
                    position: position.clone(),
                    at_us: *at_us,
                    seq: self.out.seq,
                };
                self.out.watermarks.retain(|w| w.source != *source);
                self.out.watermarks.push(watermark);
                self.sweep_tombstones(place)
            }
            // A check stands alone at the head of its commit: what came before it has a lower seq, what follows is
            // behind it in every topic.
            Input::Check { .. } if !self.is_pristine() => Ok(Turn::Unfinished),
            Input::Check { id, scope } => self.check(id, scope).map(|()| Turn::Done),
            Input::Fill { id, segment_id, environment_id } => {
                self.operator_fill(id, segment_id.as_ref(), environment_id.as_ref());
                Ok(Turn::Done)
            }
            Input::Replay { key } => Ok(Turn::NeedsQuarantine { key: key.clone() }),
            Input::Suspend { segment_id, number, reason } => {
                self.suspend(segment_id, *number, reason);
                Ok(Turn::Done)
            }
            Input::Repair { segment_id, environment_id, ids } => {
                for id in ids {
                    self.repair(segment_id, environment_id, id)?;
                }
                self.roster.counts.touch((segment_id.clone(), environment_id.clone()));
                Ok(Turn::Done)
            }
        }
    }

    /// Drives the quarantined changes of an identity again, in order, at the place of the `replay` record.
    ///
    /// # Errors
    /// A [`Fault`] of the store, or a bug.
    pub fn replay(
        &mut self,
        place: Place,
        key: &IdentityKey,
        records: &[QuarantineRecord],
    ) -> Result<(), Fault> {
        self.replay_parked(place, key, records)?;
        self.suspend_raised();
        Ok(())
    }

    /// Puts a record that is no input into quarantine; no identity waits for it.
    pub fn set_aside(&mut self, record: QuarantineRecord) {
        self.out.quarantined.push(record);
    }

    /// Ends the turn: writes the counts that moved.
    pub fn finish(mut self) -> Output {
        self.write_counts();
        self.out.stored = std::mem::take(&mut self.written).into_iter().collect();
        self.out
    }

    fn is_pristine(&self) -> bool {
        self.out.is_empty() && self.written.is_empty() && !self.roster.counts.is_dirty()
    }

    pub(crate) fn see_time(&mut self, at_us: i64) {
        self.roster.state.clock_us = self.roster.state.clock_us.max(at_us);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Stored>, Fault> {
        match self.written.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(key),
        }
    }

    /// The next identities in key order, with what this turn wrote laid over the store; and after which key to go on,
    /// which the number of rows can't tell: this turn may have dropped some of them. `None` at the end.
    pub(crate) fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Scanned, Fault> {
        let stored = self.store.scan(after, limit)?;
        let upto = if stored.len() < limit { None } else { stored.last().map(|(key, _)| key.clone()) };
        let mut rows: BTreeMap<_, _> = stored.into_iter().collect();
        let written = self.written.iter().filter(|(key, _)| {
            after.is_none_or(|after| key.as_slice() > after) && upto.as_ref().is_none_or(|upto| *key <= upto)
        });
        for (key, value) in written {
            match value {
                Some(stored) => rows.insert(key.clone(), stored.clone()),
                None => rows.remove(key),
            };
        }
        Ok((rows.into_iter().collect(), upto))
    }

    fn catalog_reached(&mut self, writer: &SourceName, number: u64) -> Turn {
        let after = self.roster.state.catalog.get(writer).copied().unwrap_or(0);
        if number <= after {
            return Turn::Done;
        }
        if self.roster.catalog.number(writer) < number {
            return Turn::NeedsCatalog { writer: writer.clone(), number };
        }
        let (mut scope, cause) = self.roster.catalog.changed(&self.roster.reached, writer, after, number);
        self.roster.state.catalog.insert(writer.clone(), number);
        scope.segments.extend(self.lift_suspensions());
        self.roster.adopt_if_reached();
        self.start_fill(scope, cause, None);
        Turn::Done
    }

    /// A suspension ends with the document that raised, whatever changed in it: the segment is empty and must be filled.
    fn lift_suspensions(&mut self) -> Vec<SegmentId> {
        let catalog = Arc::clone(&self.roster.catalog);
        let ended = |id: &SegmentId, at: u64| catalog.segment(id).is_none_or(|s| s.number > at);
        self.roster.state.suspended.extract_if(.., |id, (at, _)| ended(id, *at)).map(|(id, _)| id).collect()
    }

    fn operator_fill(&mut self, id: &str, segment: Option<&SegmentId>, environment: Option<&EnvironmentId>) {
        let scope = FillScope {
            segments: segment.cloned().into_iter().collect(),
            environments: Default::default(),
            everything: segment.is_none(),
            only: environment.cloned(),
        };
        self.start_fill(scope, Cause::Repair, Some(id.to_owned()));
    }

    /// Segments that raised on identities of this turn become unsupported, here and in all other partitions. Only
    /// between chunks of a fill, so that the new job joins where the cursor really stands.
    pub(crate) fn suspend_raised(&mut self) {
        for raised in std::mem::take(&mut self.raised) {
            let (segment_id, number, reason) = (raised.segment_id, raised.number, raised.reason);
            if self.suspend(&segment_id, number, &reason) {
                self.out.broadcast.push(Input::Suspend { segment_id, number, reason });
            }
        }
    }

    /// A segment raised: from here on it has no members, in this partition and, by broadcast, in all others.
    fn suspend(&mut self, segment_id: &SegmentId, number: u64, reason: &str) -> bool {
        let current = self.roster.catalog.segment(segment_id).is_some_and(|s| s.number == number);
        if !current || self.roster.state.suspended.get(segment_id).is_some_and(|(at, _)| *at >= number) {
            return false;
        }
        self.roster.state.suspended.insert(segment_id.clone(), (number, reason.to_owned()));
        let segments = [segment_id.clone()].into();
        self.start_fill(FillScope { segments, ..FillScope::default() }, Cause::Definition, None);
        true
    }

    fn write_counts(&mut self) {
        for pair in self.roster.counts.take_dirty() {
            let (count, fingerprint) = self.roster.counts.get(&pair);
            let state = self.roster.pair_state(&pair);
            self.out.counts.push(Passed::Record(CountRecord {
                log_id: self.roster.log_id.clone(),
                segment_id: pair.0,
                environment_id: pair.1,
                partition: self.roster.partition,
                count,
                fingerprint,
                seq: self.out.seq,
                state,
            }));
        }
    }

    fn check(&mut self, id: &str, scope: &CheckScope) -> Result<(), Fault> {
        let mut report = CheckReport {
            id: id.to_owned(),
            store: "roster".to_owned(),
            partition: self.roster.partition,
            ..CheckReport::default()
        };
        match scope {
            CheckScope::Totals => {
                report.totals = self.roster.counts.iter().map(total).collect();
            }
            CheckScope::Buckets { segment_id, environment_id } => {
                self.each_member(segment_id, environment_id, |native_id| {
                    let bucket = report.buckets.entry((Fingerprint::of(native_id) >> 56) as u8).or_default();
                    bucket.0 += 1;
                    bucket.1.add(native_id);
                })?;
            }
            CheckScope::Members { segment_id, environment_id, buckets } => {
                self.each_member(segment_id, environment_id, |native_id| {
                    let asked = buckets.contains(&((Fingerprint::of(native_id) >> 56) as u8));
                    if asked && report.members.len() < CHECK_MEMBERS_MAX {
                        report.members.insert(native_id.to_owned());
                    }
                })?;
            }
        }
        let passed = CheckPassed { id: id.to_owned(), scope: scope.clone(), seq: self.out.seq };
        self.out.counts.push(Passed::Check(passed.clone()));
        self.out.changes.push(Passed::Check(passed));
        self.out.reports.push(report);
        Ok(())
    }

    fn each_member(
        &self,
        segment_id: &SegmentId,
        environment_id: &EnvironmentId,
        mut visit: impl FnMut(&str),
    ) -> Result<(), Fault> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (rows, next) = self.scan(after.as_deref(), self.roster.scan_rows)?;
            for (_, stored) in &rows {
                let here = stored.lives_in(&self.roster.catalog, environment_id);
                if here && stored.members.iter().any(|m| m.segment_id == *segment_id) {
                    visit(&stored.key.id.to_string());
                }
            }
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }
}

fn total((pair, (count, fingerprint)): (&Pair, &(u64, Fingerprint))) -> CheckTotal {
    CheckTotal {
        segment_id: pair.0.clone(),
        environment_id: Some(pair.1.clone()),
        environment_key: None,
        count: *count,
        fingerprint: *fingerprint,
    }
}
