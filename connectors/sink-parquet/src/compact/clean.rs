//! What is of no use to anybody any more goes.

use rollcall_columns::LakeTable;
use rollcall_model::{Fault, LogId, Partition};

use super::plan::Limits;
use super::{Cleaned, Compaction, DAY_US, vanished};
use crate::manifest::{Manifest, key_of, manifests_of, number_of, range_of};
use crate::objects::Object;

/// Strays that are taken up in one compaction.
const STRAYS_MAX: usize = 10_000;

impl Compaction<'_> {
    pub(super) async fn clean(
        &self,
        table: &LakeTable,
        limits: &Limits,
        cleaned: &mut Cleaned,
    ) -> Result<(), Fault> {
        cleaned.uploads += self.objects.abort_uploads(&format!("{}/", table.name)).await?;
        cleaned.strays += Box::pin(self.strays(table, limits)).await?;
        cleaned.objects += Box::pin(self.retired(table, limits)).await?;
        cleaned.manifests += Box::pin(self.manifests(table, limits)).await?;
        Ok(())
    }

    /// Objects that nobody listed and nobody will: of commits that are covered, or of another log. What a living writer
    /// has uploaded and not yet listed is younger.
    async fn strays(&self, table: &LakeTable, limits: &Limits) -> Result<u64, Fault> {
        let Some(newest) = Box::pin(self.tables.newest(table.name, None)).await? else { return Ok(0) };
        let mut strays = Vec::new();
        let mut after = None;
        loop {
            let page = self.objects.list(&format!("{}/partition=", table.name), after.as_deref()).await?;
            let known = newest.manifest.known();
            let is_stray = |object: &&Object| {
                !known.contains(object.key.as_str())
                    && object.modified_us <= limits.now_us - DAY_US
                    && is_ours(table, object)
                    && !may_be_listed(table, &newest.manifest, object)
            };
            strays.extend(page.objects.iter().filter(is_stray).map(|object| object.key.clone()));
            match page.next {
                Some(next) if strays.len() < STRAYS_MAX => after = Some(next),
                Some(_) | None => break,
            }
        }
        strays.truncate(STRAYS_MAX);
        if !strays.is_empty() {
            let change = self.tables.change(table.name, None, |current| {
                let current = current.ok_or_else(|| vanished(table))?;
                Ok(current.retire_strays(&strays, self.now_us(limits)))
            });
            Box::pin(change).await?;
        }
        Ok(strays.len() as u64)
    }

    /// Removes what was retired before the grace.
    async fn retired(&self, table: &LakeTable, limits: &Limits) -> Result<u64, Fault> {
        let doom = self.tables.change(table.name, None, |current| {
            let current = current.ok_or_else(|| vanished(table))?;
            Ok(current.doom(limits.readers_until_us, self.now_us(limits)))
        });
        let Some(newest) = Box::pin(doom).await? else { return Ok(0) };
        let doomed = newest.manifest.retired.iter().filter(|retired| retired.doomed);
        let doomed: Vec<String> = doomed.map(|retired| retired.object.clone()).collect();
        for object in &doomed {
            self.objects.delete(object).await?;
        }
        if !doomed.is_empty() {
            let forget = self.tables.change(table.name, Some(newest.number), |current| {
                let current = current.ok_or_else(|| vanished(table))?;
                Ok(current.forget(&doomed, self.now_us(limits)))
            });
            Box::pin(forget).await?;
        }
        Ok(doomed.len() as u64)
    }

    /// Removes manifests that were the newest before the grace, and not since. One that is the newest stays, however old.
    async fn manifests(&self, table: &LakeTable, limits: &Limits) -> Result<u64, Fault> {
        let (mut removed, mut before, mut after) = (0, None, None);
        loop {
            let page = self.objects.list(&manifests_of(table.name), after.as_deref()).await?;
            for object in &page.objects {
                let Some(number) = number_of(table.name, &object.key) else { continue };
                // Since this one came, the one before it is not the newest.
                if object.modified_us <= limits.readers_until_us
                    && let Some(before) = before
                {
                    self.objects.delete(&key_of(table.name, before)).await?;
                    removed += 1;
                }
                before = Some(number);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(removed),
            }
        }
    }
}

/// Whether it has a name as our files have.
fn is_ours(table: &LakeTable, object: &Object) -> bool {
    let folder = object.key.strip_prefix(table.name).and_then(|rest| rest.strip_prefix("/partition="));
    folder.is_some_and(|rest| rest.ends_with(".parquet") && rest.matches('/').count() == 1)
}

/// Whether a writer may come and list it: it is of this log, of commits that are not covered yet.
fn may_be_listed(table: &LakeTable, manifest: &Manifest, object: &Object) -> bool {
    let log: &LogId = &manifest.log_id;
    let number = object.key.strip_prefix(table.name).and_then(|rest| rest.strip_prefix("/partition="));
    let number = number.and_then(|rest| rest.split_once('/')).and_then(|(number, _)| number.parse().ok());
    let Some(partition) = number.map(Partition) else { return false };
    range_of(table.name, log, partition, &object.key)
        .is_some_and(|range| range.last_seq > manifest.covered(partition).seq)
}
