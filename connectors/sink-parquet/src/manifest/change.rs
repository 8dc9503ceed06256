//! From one manifest to the next. Pure: each function takes what is listed and answers what will be.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::archive::{AsOf, Cut};
use rollcall_model::{Fault, Partition, Seq};

use super::{ListedFile, Manifest, Range, Reach, Retired};

/// A cut, and the file that holds its rows, if it has any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Addition {
    /// The cut.
    pub(crate) cut: Cut,
    /// Its file.
    pub(crate) file: Option<ListedFile>,
}

impl Addition {
    fn range(&self) -> Range {
        Range { partition: self.cut.partition, first_seq: self.cut.first, last_seq: self.cut.last }
    }
}

impl Manifest {
    fn next(&self, now_us: i64) -> Self {
        Self { created_at_us: now_us, ..self.clone() }
    }

    /// Lists the files of cuts. `None` when all of them are covered already: the answer to an earlier try was lost, or
    /// this writer was thought dead and its heir has done it.
    pub(crate) fn append(&self, additions: &[Addition], now_us: i64) -> Result<Option<Self>, Fault> {
        let mut next = self.next(now_us);
        let mut changed = false;
        for addition in additions {
            let Addition { cut, file } = addition;
            let reach = next.covered(cut.partition);
            if reach.seq >= cut.last {
                continue;
            }
            if reach.seq.0.checked_add(1) != Some(cut.first.0) || cut.first > cut.last {
                return Err(next.not_continued(cut, reach));
            }
            match file {
                Some(file) => next.adopt(file.clone())?,
                None => next.empty.push(addition.range()),
            }
            next.covered.insert(cut.partition, Reach { seq: cut.last, until: cut.until, ..reach });
            changed = true;
        }
        next.order();
        Ok(changed.then_some(next))
    }

    /// Notes how far sources have come. `None` when no source has come further.
    pub(crate) fn note(&self, as_of: &AsOf, now_us: i64) -> Option<Self> {
        let mut next = self.next(now_us);
        for (source, at_us) in as_of {
            let noted = next.as_of_us.entry(source.clone()).or_insert(*at_us);
            *noted = (*noted).max(*at_us);
        }
        (next.as_of_us != self.as_of_us).then_some(next)
    }

    fn not_continued(&self, cut: &Cut, reach: Reach) -> Fault {
        Fault::refused(format!(
            "the lake's table {} is covered up to commit {} of partition {}, and commits {} to {} don't go on there: \
             another writer has listed files, or the log's progress is not of this lake",
            self.table, reach.seq.0, cut.partition, cut.first.0, cut.last.0
        ))
        .repair(format!(
            "see that one instance writes to it; then rollcall rebuild {} makes it anew from the log",
            self.writer
        ))
    }

    /// Puts merged files in the place of those they were made from: of one partition, whole ranges side by side.
    /// `range` is all that they hold; without a file left it is empty.
    pub(crate) fn replace(
        &self,
        old: &[String],
        range: Range,
        new: &[ListedFile],
        now_us: i64,
    ) -> Result<Self, Fault> {
        let mut next = self.next(now_us);
        next.retire(&old.iter().map(String::as_str).collect(), now_us)?;
        next.empty.retain(|empty| !empty.is_within(range));
        for file in new {
            next.adopt(file.clone())?;
        }
        if new.is_empty() {
            next.empty.push(range);
        }
        next.order();
        next.whole()?;
        Ok(next)
    }

    /// Drops the oldest commits of a partition, up to `last`, with their files.
    pub(crate) fn drop_until(&self, partition: Partition, last: Seq, now_us: i64) -> Result<Self, Fault> {
        let mut next = self.next(now_us);
        let gone = |range: Range| range.partition == partition && range.last_seq <= last;
        let files = || self.files.iter().filter(|file| gone(file.range));
        next.retire(&files().map(|file| file.object.as_str()).collect(), now_us)?;
        if let Some(newest_us) = files().filter_map(|file| file.max_event_us).max() {
            next.history_from_us = next.history_from_us.max(newest_us.saturating_add(1));
        }
        next.empty.retain(|range| !gone(*range));
        let reach = next.covered(partition);
        next.covered.insert(partition, Reach { first: Seq(last.0 + 1), ..reach });
        next.whole()?;
        Ok(next)
    }

    /// A new table in the place of this one: everything listed is retired.
    pub(crate) fn anew(&self, begun: Self) -> Self {
        let now_us = begun.created_at_us;
        let listed = self.files.iter();
        let newly = listed.map(|file| Retired { object: file.object.clone(), at_us: now_us, doomed: false });
        Self { retired: self.retired.iter().cloned().chain(newly).collect(), ..begun }
    }

    /// Retires objects of this table that nothing lists and nobody will: left by a writer that was killed. `None` when
    /// there are none.
    pub(crate) fn retire_strays(&self, strays: &[String], now_us: i64) -> Option<Self> {
        let mut next = self.next(now_us);
        let known = self.known();
        for object in strays.iter().filter(|object| !known.contains(object.as_str())) {
            next.retired.push(Retired { object: object.clone(), at_us: now_us, doomed: false });
        }
        (next.retired.len() > self.retired.len()).then_some(next)
    }

    /// Every object that is listed or was.
    pub(crate) fn known(&self) -> BTreeSet<&str> {
        let listed = self.files.iter().map(|file| file.object.as_str());
        listed.chain(self.retired.iter().map(|retired| retired.object.as_str())).collect()
    }

    /// Dooms what was retired up to a time. `None` when there is nothing to doom.
    pub(crate) fn doom(&self, until_us: i64, now_us: i64) -> Option<Self> {
        let mut next = self.next(now_us);
        let mut changed = false;
        for retired in next.retired.iter_mut().filter(|r| !r.doomed && r.at_us <= until_us) {
            retired.doomed = true;
            changed = true;
        }
        changed.then_some(next)
    }

    /// Forgets doomed objects that are gone. `None` when it knew of none of them.
    pub(crate) fn forget(&self, gone: &[String], now_us: i64) -> Option<Self> {
        let mut next = self.next(now_us);
        next.retired.retain(|retired| !(retired.doomed && gone.contains(&retired.object)));
        (next.retired.len() < self.retired.len()).then_some(next)
    }

    fn retire(&mut self, objects: &BTreeSet<&str>, now_us: i64) -> Result<(), Fault> {
        let (old, files): (Vec<_>, Vec<_>) =
            self.files.drain(..).partition(|file| objects.contains(file.object.as_str()));
        self.files = files;
        let found: BTreeSet<&str> = old.iter().map(|file| file.object.as_str()).collect();
        if let Some(object) = objects.difference(&found).next() {
            return Err(Fault::retry(format!(
                "{object} is listed no more: another compaction, or a rebuild, came first"
            )));
        }
        self.retired.extend(old.into_iter().map(|file| Retired {
            object: file.object,
            at_us: now_us,
            doomed: false,
        }));
        Ok(())
    }

    /// Lists a file. One of the same content may have been retired; unless somebody is removing it, it is taken back.
    fn adopt(&mut self, file: ListedFile) -> Result<(), Fault> {
        if self.retired.iter().any(|retired| retired.doomed && retired.object == file.object) {
            return Err(Fault::retry(format!("{} is being removed by a compaction", file.object))
                .repair("when it was interrupted: rollcall lake compact ends it"));
        }
        self.retired.retain(|retired| retired.object != file.object);
        self.files.push(file);
        Ok(())
    }

    /// Into the order that a manifest has; neighbouring empty ranges become one.
    fn order(&mut self) {
        self.files.sort_by_key(|file| (file.range, file.part));
        self.empty.sort();
        self.empty.dedup_by(|next, kept| {
            let joined =
                kept.partition == next.partition && kept.last_seq.0.checked_add(1) == Some(next.first_seq.0);
            if joined {
                kept.last_seq = next.last_seq;
            }
            joined
        });
    }

    /// A change of ours must leave every commit listed once.
    fn whole(&self) -> Result<(), Fault> {
        match self.untiled().first() {
            None => Ok(()),
            Some(untiled) => Err(Fault::refused(format!("the lake's table {}: {untiled}", self.table))
                .repair(format!(
                    "rollcall lake verify says more; rollcall rebuild {} makes it anew",
                    self.writer
                ))),
        }
    }

    /// What is listed, by partition and range: its files.
    pub(crate) fn by_range(&self) -> BTreeMap<Range, Vec<&ListedFile>> {
        let mut ranges: BTreeMap<Range, Vec<&ListedFile>> = BTreeMap::new();
        for file in &self.files {
            ranges.entry(file.range).or_default().push(file);
        }
        ranges
    }
}

impl Range {
    /// Whether all of it is in another.
    pub(crate) fn is_within(self, outer: Self) -> bool {
        self.partition == outer.partition
            && self.first_seq >= outer.first_seq
            && self.last_seq <= outer.last_seq
    }
}
