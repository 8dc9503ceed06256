//! What items become in the log: the platform's verdict on each, with what decides between stream and backfill.
//!
//! ```text
//! ShardEvent ─▶ changes, Streamed          ItemPage ─▶ changes, Found { cut } … end(b)
//! ```
//!
//! Pure: events in, records out.

use rollcall_model::control::Unfound;
use rollcall_model::shards::{Coverage, ItemPage};
use rollcall_model::{BackfillId, ChangeRecord, Fault, Input, ItemChange, Precedence, Record, SourceName};
use rollcall_platforms::ItemPlatform;

use crate::outgoing::Outgoing;

/// A record of the stream may be made so long after what it is of was written.
const RECORD_LATE_US: i64 = 1_000_000;

/// What follows for those that a backfill, whose items are as of `cut_us`, did not find. What was written before a window
/// is not in it, so a time of the stream that may be of such a write doesn't count.
fn unfound(coverage: Coverage, cut_us: i64) -> Unfound {
    match coverage {
        Coverage::Whole { cut_us } => Unfound::Gone { since_us: cut_us },
        Coverage::Window { from_us, .. } => {
            Unfound::GoneIfStreamed { from_us: from_us.saturating_add(RECORD_LATE_US), to_us: cut_us }
        }
        Coverage::Part => Unfound::Stay,
    }
}

/// Turns items into records.
#[derive(Debug)]
pub(crate) struct ItemIntake {
    out: Outgoing,
    platform: ItemPlatform,
}

impl ItemIntake {
    pub(crate) fn new(source: SourceName, partitions: u16, platform: ItemPlatform) -> Self {
        Self { out: Outgoing::new(source, partitions), platform }
    }

    pub(crate) fn pending(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn drain(&mut self) -> Vec<Record> {
        self.out.drain()
    }

    /// A change of the stream.
    pub(crate) fn streamed(&mut self, change: ItemChange) -> Result<(), Fault> {
        let ItemChange { id, state, at_us, position } = change;
        let record = ChangeRecord {
            source: self.out.source().clone(),
            id,
            change: self.platform.change(&state),
            source_time_us: at_us,
            position: position.to_string(),
            backfill: None,
            precedence: Precedence::Streamed,
        };
        self.out.change(record, position.lane.to_string())
    }

    /// A backfill starts; until it ends, what was `missing` before it still is.
    pub(crate) fn begin(&mut self, backfill: &BackfillId, missing: bool) -> Result<(), Fault> {
        let (source, backfill) = (self.out.source().clone(), backfill.clone());
        self.out.control(&Input::Begin { source, backfill, gap: missing })
    }

    /// A page of a backfill, and its end with the last one.
    pub(crate) fn page(
        &mut self,
        backfill: &BackfillId,
        page: ItemPage,
        coverage: Coverage,
    ) -> Result<(), Fault> {
        let source = self.out.source().clone();
        let lane = format!("{source}/backfill");
        for item in page.items {
            let record = ChangeRecord {
                source: source.clone(),
                id: item.id,
                change: self.platform.change(&item.state),
                source_time_us: page.cut_us,
                position: format!("backfill {}", backfill.0),
                backfill: Some(backfill.clone()),
                precedence: Precedence::Found { cut_us: page.cut_us },
            };
            self.out.change(record, lane.clone())?;
        }
        if page.done {
            let unfound = unfound(coverage, page.cut_us);
            self.out.control(&Input::End { source, backfill: backfill.clone(), unfound })?;
        }
        Ok(())
    }

    /// How far the stream has come, for every partition.
    pub(crate) fn watermark(&mut self, at_us: i64, position: String) -> Result<(), Fault> {
        let source = self.out.source().clone();
        self.out.control(&Input::Watermark { source, position, at_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_says_what_follows_for_those_that_were_not_found() {
        assert_eq!(unfound(Coverage::Whole { cut_us: 7 }, 8), Unfound::Gone { since_us: 7 });
        assert_eq!(unfound(Coverage::Part, 8), Unfound::Stay);
        let window = Coverage::Window { from_us: 10_000_000, to_us: 70_000_000 };
        let within = Unfound::GoneIfStreamed { from_us: 11_000_000, to_us: 65_000_000 };
        assert_eq!(unfound(window, 65_000_000), within);
    }
}
