//! Fills: the stored identities judged again, a chunk per turn, while live changes go on in between.
//!
//! ```text
//!  key order   a ─ b ─ c ─ d ─ … ─ z        one cursor for all jobs
//!                  ▲ job 2 joins here, wraps past z, ends where it joined
//! ```

use rollcall_model::{Cause, EnvironmentId, Fault, FillReport, SegmentId};

use crate::change::Reason;
use crate::judge::stands;
use crate::session::Session;
use crate::state::{FillJob, FillScope};
use crate::store::Stored;

impl Session<'_> {
    /// Puts a job aboard and marks what it covers as filling.
    pub(crate) fn start_fill(&mut self, scope: FillScope, cause: Cause, report: Option<String>) {
        if scope.is_empty() {
            return;
        }
        self.touch_scope(&scope);
        let joined = self.roster.state.fills.cursor.clone();
        let wrapped = joined.is_none();
        let job = FillJob { scope, cause, joined, wrapped, report, identities: 0, differed: 0 };
        self.roster.state.fills.jobs.push(job);
    }

    /// Every count is to be said again: how it is to be read has changed.
    pub(crate) fn touch_everything(&mut self) {
        self.touch_scope(&FillScope { everything: true, ..FillScope::default() });
    }

    fn touch_scope(&mut self, scope: &FillScope) {
        let counted: Vec<_> = self.roster.counts.iter().map(|(pair, _)| pair.clone()).collect();
        let counted = counted.into_iter().filter(|(segment, environment)| scope.covers(segment, environment));
        for pair in self.roster.catalog.pairs(scope).into_iter().chain(counted) {
            self.roster.counts.touch(pair);
        }
    }

    /// Judges the next chunk again. Answers how many identities it visited; call it in turn with the inputs.
    ///
    /// # Errors
    /// A [`Fault`] of the store, or a bug.
    pub fn fill_some(&mut self) -> Result<usize, Fault> {
        if self.roster.state.fills.jobs.is_empty() {
            return Ok(0);
        }
        let cursor = self.roster.state.fills.cursor.clone();
        let (rows, next) = self.scan(cursor.as_deref(), self.roster.scan_rows)?;
        let visited = rows.len();
        // Out of the state while their scopes are read; nothing that follows here starts a job.
        let mut jobs = std::mem::take(&mut self.roster.state.fills.jobs);
        let judged = rows.into_iter().try_for_each(|(key, stored)| self.fill_one(&mut jobs, &key, stored));
        self.roster.state.fills.jobs = jobs;
        judged?;
        self.advance(next);
        self.suspend_raised();
        Ok(visited)
    }

    fn fill_one(&mut self, jobs: &mut [FillJob], key: &[u8], stored: Stored) -> Result<(), Fault> {
        if stored.image().is_none() {
            return Ok(());
        }
        // Where it lives now, and where it is still counted.
        let lives = stored.environment(&self.roster.catalog).map(|doc| doc.id.clone());
        let homes: Vec<EnvironmentId> = lives.into_iter().chain(stored.home().cloned()).collect();
        let Some(cause) = jobs.iter().find(|job| reaches(job, key)).map(|job| job.cause) else {
            return Ok(());
        };
        let aboard = || jobs.iter().filter(|job| reaches(job, key));
        let asked = |segment: &SegmentId| {
            aboard().any(|job| homes.iter().any(|home| job.scope.covers(segment, home)))
        };
        let mut differed = false;
        // Most identities stand as they are: only the others pay for being settled.
        if !stands(&self.roster.catalog, &self.roster.state, &stored, &asked) {
            let reason = Reason {
                cause,
                place: None,
                source_time_us: self.roster.state.clock_us,
                position: "",
                whole: false,
                asked: &asked,
            };
            differed = self.settle(stored.clone(), stored, &reason)?;
        }
        for job in jobs.iter_mut().filter(|job| reaches(job, key)) {
            job.identities += 1;
            job.differed += u64::from(differed);
        }
        Ok(())
    }

    /// Moves the common cursor and lets finished jobs off.
    fn advance(&mut self, cursor: Option<Vec<u8>>) {
        let fills = &mut self.roster.state.fills;
        let at_end = cursor.is_none();
        fills.cursor = cursor;
        let mut finished = Vec::new();
        let cursor = fills.cursor.clone();
        fills.jobs.retain_mut(|job| {
            let done = match (&job.joined, &cursor) {
                (None, _) => at_end,
                (Some(joined), Some(cursor)) => job.wrapped && cursor >= joined,
                (Some(_), None) => job.wrapped,
            };
            if at_end {
                job.wrapped = true;
            }
            if done {
                finished.push(job.clone());
            }
            !done
        });
        if fills.jobs.is_empty() {
            fills.cursor = None;
        }
        for job in finished {
            self.touch_scope(&job.scope);
            if let Some(id) = job.report {
                let partition = self.roster.partition;
                let report = FillReport { id, partition, identities: job.identities, differed: job.differed };
                self.out.fill_reports.push(report);
            }
        }
    }
}

/// Whether a job still wants this key: not when it has wrapped past the place where it joined.
fn reaches(job: &FillJob, key: &[u8]) -> bool {
    match &job.joined {
        None => true,
        Some(joined) => !job.wrapped || key <= joined.as_slice(),
    }
}
