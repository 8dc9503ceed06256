//! What the owner of a stream remembers of it, and what follows from how far its readers have come. Pure.
//!
//! ```text
//! progress of the readers ─▶ read_through ─▶ pages may enter, watermarks
//! coverage of a backfill  ─▶ Needs::check ─▶ it answers what is missing, or is refused
//! ```

use std::collections::BTreeMap;

use rollcall_model::shards::{
    Coverage, ItemBackfillPlan, ItemOrigin, ShardId, ShardProgress, Shards, Stream, StreamStart,
};
use rollcall_model::time::utc;
use rollcall_model::{BackfillId, Fault, ItemPage};
use serde::{Deserialize, Serialize};

/// A source may drop records this long after they were written, and not before (DynamoDB Streams: 24 hours).
const KEPT_US: i64 = 24 * 3_600 * 1_000_000;
/// Less than that by what clocks may differ by: what is older than this may be missing.
const SURE_US: i64 = KEPT_US - 3_600 * 1_000_000;

/// What a stream's owner must remember.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StreamState {
    /// The stream, once it began.
    pub(crate) stream: Option<Stream>,
    /// Everything up to here is in the log, by the source's clock.
    pub(crate) at_us: i64,
    /// Backfills begun so far; the next one's name.
    pub(crate) backfills: u64,
    /// The one under way.
    pub(crate) backfill: Option<ItemBackfill>,
    /// The last one that came to its end.
    #[serde(default)]
    pub(crate) backfill_done: Option<BackfillId>,
    /// What a backfill has to bring before counts are exact.
    #[serde(default)]
    pub(crate) needs: Needs,
    /// Until when pages were read that brought what the stream lacked. Who came by them has no time of the stream: a later
    /// export of a window could not tell that they went within it.
    #[serde(default)]
    pub(crate) brought_until_us: i64,
}

/// A backfill under way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ItemBackfill {
    pub(crate) plan: ItemBackfillPlan,
    /// What it covers; unknown until it has been opened.
    pub(crate) coverage: Option<Coverage>,
    pub(crate) state: BackfillState,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) read_units: f64,
}

/// Whether a backfill goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum BackfillState {
    /// It does.
    Running,
    /// An operator stopped it.
    Paused,
    /// It can't: it goes on when it is resumed, or another one takes its place.
    Failed {
        /// Why.
        error: String,
        /// What repairs it.
        repair: Option<String>,
    },
}

/// What is missing of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "needs", rename_all = "snake_case")]
pub(crate) enum Needs {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything: nothing was loaded yet.
    FirstLoad,
    /// What was written in a window, by the source's clock, in microseconds.
    Gap { from_us: i64, to_us: i64 },
}

impl StreamState {
    /// What the next backfill will be called; it counts as begun.
    pub(crate) fn next_backfill(&mut self, source: &str) -> BackfillId {
        self.backfills += 1;
        BackfillId(format!("{source}-{}", self.backfills))
    }

    /// Takes a backfill up.
    pub(crate) fn begin_backfill(&mut self, id: BackfillId, origin: ItemOrigin, coverage: Option<Coverage>) {
        let plan = ItemBackfillPlan { id, origin, cursor: None };
        let state = BackfillState::Running;
        self.backfill = Some(ItemBackfill { plan, coverage, state, items: 0, bytes: 0, read_units: 0.0 });
    }

    /// The backfill that goes on.
    pub(crate) fn running(&self) -> Option<&ItemBackfill> {
        self.backfill.as_ref().filter(|backfill| backfill.state == BackfillState::Running)
    }

    /// What the status page shows.
    pub(crate) fn facts(&self) -> Vec<(&'static str, serde_json::Value)> {
        let position = self.stream.as_ref().map(|stream| format!("{}@{}", stream.name, stream.epoch));
        let backfill = self.backfill.as_ref().map(|b| {
            let mut shown = serde_json::json!({
                "id": b.plan.id.0, "rows": b.items, "bytes": b.bytes, "read_units": b.read_units,
            });
            if let (Some(shown), Ok(serde_json::Value::Object(state))) =
                (shown.as_object_mut(), serde_json::to_value(&b.state))
            {
                shown.extend(state);
            }
            shown
        });
        let missing = match self.needs {
            Needs::Nothing => serde_json::Value::Null,
            Needs::FirstLoad => "nothing was loaded yet".into(),
            Needs::Gap { from_us, to_us } => {
                format!("changes from {} to {}", utc(from_us), utc(to_us)).into()
            }
        };
        vec![
            ("position", position.into()),
            ("as_of_us", self.at_us.into()),
            ("backfill", backfill.into()),
            ("backfill_done", self.backfill_done.as_ref().map(|id| id.0.clone()).into()),
            ("missing", missing),
        ]
    }

    /// Counts a page of it that is on its way into the log.
    pub(crate) fn paged(&mut self, items: u64, page: &ItemPage) {
        if self.needs != Needs::Nothing {
            self.brought_until_us = self.brought_until_us.max(page.until_us);
        }
        if let Some(backfill) = &mut self.backfill {
            backfill.items += items;
            backfill.bytes += page.bytes;
            backfill.read_units += page.read_units;
            backfill.plan.cursor = Some(page.next.clone());
        }
    }

    /// A new epoch of the stream, because records of the old one are lost. What may be missing was written from
    /// `from_us` on, and before `stream` is sure to go on.
    pub(crate) fn accept_loss(&mut self, stream: Stream, from_us: i64) {
        let old = self.stream.take();
        let same = old.as_ref().is_some_and(|old| old.name == stream.name);
        // A record that is gone was kept as long as it had to be; those of another stream may be gone up to its beginning.
        let to_us = if same { stream.began_us - SURE_US } else { stream.began_us };
        let from_us = from_us.min(to_us);
        self.needs = match self.needs {
            Needs::Nothing => Needs::Gap { from_us, to_us },
            Needs::Gap { from_us: earlier, .. } => Needs::Gap { from_us: earlier.min(from_us), to_us },
            Needs::FirstLoad => Needs::FirstLoad,
        };
        self.stream = Some(stream);
    }

    /// Whether a backfill that covers so much may run; its cut is earlier than its reading by the slack of the clocks, and
    /// the stream is read from as much before its beginning.
    ///
    /// # Errors
    /// A refused fault that says what it lacks.
    pub(crate) fn check(&self, origin: &ItemOrigin, coverage: Coverage, slack_us: i64) -> Result<(), Fault> {
        let Some(stream) = &self.stream else {
            return Err(Fault::retry("the stream has not begun yet"));
        };
        // It began after the stream did, and after a loss was accepted, whatever clocks make of that.
        if *origin == (ItemOrigin::Scan { environment_key: None }) {
            return Ok(());
        }
        // What an older backfill found could not be told from what the stream said before it was read.
        let streamed_from_us = match stream.start {
            StreamStart::Latest => stream.began_us,
            StreamStart::TrimHorizon => stream.began_us - SURE_US,
        };
        let lacks = |what: String, repair: &str| Err(Fault::refused(what).repair(repair));
        match (self.needs, coverage) {
            (Needs::Nothing, Coverage::Part | Coverage::Window { .. }) => Ok(()),
            (Needs::Nothing | Needs::FirstLoad, Coverage::Whole { cut_us })
                if cut_us.saturating_add(slack_us) < streamed_from_us =>
            {
                lacks(
                    format!(
                        "this backfill shows the table as of {}, but the stream is read from {} on: what was written between is in \
                     neither",
                        utc(cut_us),
                        utc(streamed_from_us)
                    ),
                    "take an export that was made later, or scan the table",
                )
            }
            (Needs::Nothing | Needs::FirstLoad, Coverage::Whole { .. }) => Ok(()),
            (Needs::FirstLoad, Coverage::Part | Coverage::Window { .. }) => lacks(
                "nothing was loaded yet, and this backfill is a part of the table".to_owned(),
                "run a whole one first: a scan, or a full export",
            ),
            (Needs::Gap { to_us, .. }, Coverage::Whole { cut_us })
                if cut_us.saturating_add(slack_us) < to_us =>
            {
                lacks(
                    format!(
                        "this backfill shows the table as of {}, but changes up to {} are missing",
                        utc(cut_us),
                        utc(to_us)
                    ),
                    "take an export that was made later, or scan the table",
                )
            }
            (Needs::Gap { .. }, Coverage::Whole { .. }) => Ok(()),
            (Needs::Gap { .. }, Coverage::Window { from_us: start, .. }) if start < self.brought_until_us => {
                lacks(
                    format!(
                        "this window begins at {}, but items were found until {} that the stream never brought: of one that was \
                     made and deleted within the window nothing would say so",
                        utc(start),
                        utc(self.brought_until_us)
                    ),
                    "a scan, a full export, or an incremental one that begins later",
                )
            }
            (Needs::Gap { from_us, to_us }, Coverage::Window { from_us: start, to_us: end })
                if start <= from_us && end >= to_us =>
            {
                Ok(())
            }
            (Needs::Gap { from_us, to_us }, Coverage::Window { .. } | Coverage::Part) => lacks(
                format!(
                    "changes from {} to {} are missing, and this backfill does not bring them all",
                    utc(from_us),
                    utc(to_us)
                ),
                "an incremental export of at least that window, a full one, or a scan",
            ),
        }
    }
}

/// Up to when everything is in the log, as far as the progress of all readers shows it: `None` while one of them has not
/// begun this epoch, or nothing is being read.
///
/// A shard that is finished holds it back until its reader knows what came from it, and theirs know of them.
pub(crate) fn read_through(stream: &Stream, readers: &BTreeMap<u16, Shards>) -> Option<i64> {
    let begun =
        (0..stream.readers).all(|n| readers.get(&n).is_some_and(|shards| shards.epoch == stream.epoch));
    if !begun {
        return None;
    }
    let is_known = |id: &ShardId| readers.values().any(|reader| reader.shards.contains_key(id));
    let is_over = |shard: &ShardProgress| {
        shard.finished && !shard.children.is_empty() && shard.children.iter().all(is_known)
    };
    let shards = readers.values().flat_map(|reader| reader.shards.values());
    shards.filter(|shard| !is_over(shard)).map(|shard| shard.through_us).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLACK_US: i64 = 5_000_000;

    fn export() -> ItemOrigin {
        ItemOrigin::Export { location: "here".to_owned() }
    }

    fn stream() -> Stream {
        Stream {
            name: "arn".to_owned(),
            epoch: 1,
            start: StreamStart::Latest,
            began_us: KEPT_US * 10,
            readers: 2,
            ended: Default::default(),
        }
    }

    fn shard(parent: Option<&str>, through_us: i64, finished: bool) -> ShardProgress {
        ShardProgress {
            parent: parent.map(str::to_owned),
            after: None,
            through_us,
            finished,
            children: Default::default(),
        }
    }

    fn reader(epoch: u64, shards: &[(&str, ShardProgress)]) -> Shards {
        Shards { epoch, shards: shards.iter().map(|(id, shard)| ((*id).to_owned(), shard.clone())).collect() }
    }

    #[test]
    fn a_shard_that_is_finished_counts_until_what_came_from_it_is_known() {
        let with = |finished, children: &[&str], known: &[&str]| {
            let children = children.iter().map(|id| (*id).to_owned()).collect();
            let parent = ("a", ShardProgress { children, ..shard(None, 70, finished) });
            let known: Vec<_> = known.iter().map(|id| (*id, shard(Some("a"), 80, false))).collect();
            BTreeMap::from([(0, reader(1, &[parent])), (1, reader(1, &known))])
        };
        assert_eq!(read_through(&stream(), &with(false, &[], &[])), Some(70));
        assert_eq!(read_through(&stream(), &with(true, &[], &["b"])), Some(70));
        assert_eq!(read_through(&stream(), &with(true, &["b", "c"], &["b"])), Some(70));
        assert_eq!(read_through(&stream(), &with(true, &["b", "c"], &["b", "c"])), Some(80));
    }

    #[test]
    fn a_reader_that_has_not_begun_holds_everything_back() {
        let begun = reader(1, &[("a", shard(None, 70, false))]);
        assert_eq!(read_through(&stream(), &BTreeMap::from([(0, begun.clone())])), None);
        assert_eq!(read_through(&stream(), &BTreeMap::from([(0, begun.clone()), (1, reader(0, &[]))])), None);
        assert_eq!(read_through(&stream(), &BTreeMap::from([(0, begun), (1, reader(1, &[]))])), Some(70));
    }

    #[test]
    fn a_gap_is_filled_only_by_what_covers_it() {
        let mut state =
            StreamState { stream: Some(stream()), at_us: KEPT_US * 10 + 5, ..StreamState::default() };
        let (from_us, began_us) = (state.at_us, KEPT_US * 13);
        state.accept_loss(Stream { epoch: 2, began_us, ..stream() }, from_us);
        let to_us = began_us - SURE_US;
        assert_eq!(state.needs, Needs::Gap { from_us, to_us });
        assert!(state.check(&export(), Coverage::Part, SLACK_US).is_err());
        assert!(state.check(&export(), Coverage::Window { from_us, to_us }, SLACK_US).is_ok());
        // What a load brought within the window could go within it, and nothing would say so.
        let loaded = StreamState { brought_until_us: from_us + 1, ..state.clone() };
        assert!(loaded.check(&export(), Coverage::Window { from_us, to_us }, SLACK_US).is_err());
        assert!(state.check(&export(), Coverage::Window { from_us: from_us + 1, to_us }, SLACK_US).is_err());
        assert!(state.check(&export(), Coverage::Window { from_us, to_us: to_us - 1 }, SLACK_US).is_err());
        assert!(state.check(&export(), Coverage::Whole { cut_us: to_us - SLACK_US }, SLACK_US).is_ok());
        assert!(state.check(&export(), Coverage::Whole { cut_us: to_us - SLACK_US - 1 }, SLACK_US).is_err());
        // Another loss while the first is being repaired: what is missing begins where the first began.
        state.accept_loss(Stream { epoch: 3, began_us: KEPT_US * 16, ..stream() }, KEPT_US * 14);
        assert_eq!(state.needs, Needs::Gap { from_us, to_us: KEPT_US * 16 - SURE_US });
    }

    #[test]
    fn a_scan_that_clocks_place_before_the_stream_is_after_it_all_the_same() {
        let mut state =
            StreamState { stream: Some(stream()), needs: Needs::FirstLoad, ..StreamState::default() };
        let scan = ItemOrigin::Scan { environment_key: None };
        let coverage = Coverage::Whole { cut_us: KEPT_US * 10 - SLACK_US - 120 };
        assert!(state.check(&scan, coverage, SLACK_US).is_ok());
        assert!(state.check(&export(), coverage, SLACK_US).is_err());
        state.accept_loss(Stream { epoch: 2, name: "another".to_owned(), ..stream() }, KEPT_US * 10);
        assert!(state.check(&scan, coverage, SLACK_US).is_ok());
        let part = ItemOrigin::Scan { environment_key: Some("key".to_owned()) };
        assert!(state.check(&part, Coverage::Part, SLACK_US).is_err());
    }

    #[test]
    fn a_first_load_is_whole_and_no_older_than_the_stream() {
        let state = StreamState { stream: Some(stream()), needs: Needs::FirstLoad, ..StreamState::default() };
        let began_us = KEPT_US * 10;
        assert!(state.check(&export(), Coverage::Whole { cut_us: began_us - SLACK_US }, SLACK_US).is_ok());
        assert!(
            state.check(&export(), Coverage::Whole { cut_us: began_us - SLACK_US - 1 }, SLACK_US).is_err()
        );
        assert!(state.check(&export(), Coverage::Part, SLACK_US).is_err());
        assert!(state.check(&export(), Coverage::Window { from_us: 0, to_us: i64::MAX }, SLACK_US).is_err());
    }
}
