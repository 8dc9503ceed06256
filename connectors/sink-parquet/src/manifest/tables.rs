//! Manifests in the lake: the newest read, the next put if nobody else did.

use std::future::Future;

use bytes::Bytes;
use rollcall_model::Fault;

use super::Manifest;
use crate::objects::{Objects, Page, Put};

/// A manifest that is larger is not read: some 500,000 files.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// How often a change is decided anew because somebody else's came first.
const CONFLICTS_MAX: u32 = 20;

/// The folder of a table's manifests.
pub(crate) fn manifests_of(table: &str) -> String {
    format!("{table}/manifests/")
}

/// The key of a table's manifest.
pub(crate) fn key_of(table: &str, number: u64) -> String {
    format!("{}{number:020}.json", manifests_of(table))
}

/// The number of a manifest's key; `None` for what is none.
pub(crate) fn number_of(table: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(&manifests_of(table))?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// A manifest and its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Numbered {
    /// Its number.
    pub(crate) number: u64,
    /// What it lists.
    pub(crate) manifest: Manifest,
}

/// What manifests need of a lake's place.
pub(crate) trait ManifestStore: Sync {
    /// See [`Objects::list`].
    fn list(&self, prefix: &str, after: Option<&str>) -> impl Future<Output = Result<Page, Fault>> + Send;
    /// See [`Objects::get`].
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, Fault>> + Send;
    /// See [`Objects::put_if_absent`].
    fn put_if_absent(&self, key: &str, bytes: Bytes) -> impl Future<Output = Result<Put, Fault>> + Send;
    /// Whether there is an object.
    fn is_there(&self, key: &str) -> impl Future<Output = Result<bool, Fault>> + Send;
    /// See [`Objects::name`].
    fn name(&self, key: &str) -> String;
}

impl ManifestStore for Objects {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Fault> {
        Self::list(self, prefix, after).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        Self::get(self, key, MANIFEST_BYTES_MAX).await
    }
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, Fault> {
        Self::put_if_absent(self, key, bytes).await
    }
    async fn is_there(&self, key: &str) -> Result<bool, Fault> {
        Ok(self.head(key).await?.is_some())
    }
    fn name(&self, key: &str) -> String {
        Self::name(self, key)
    }
}

/// The tables of a lake.
#[derive(Clone, Debug)]
pub(crate) struct Tables<S = Objects> {
    store: S,
}

impl<S: ManifestStore> Tables<S> {
    /// Of a lake.
    pub(crate) fn new(store: S) -> Self {
        Self { store }
    }

    /// The newest manifest of a table; `None` where there is none. `known` is the number of one that there was.
    pub(crate) async fn newest(&self, table: &str, known: Option<u64>) -> Result<Option<Numbered>, Fault> {
        // One that vanishes between the two requests was replaced by a newer one long ago.
        for _ in 0..CONFLICTS_MAX {
            let Some(number) = self.highest(table, known).await? else { return Ok(None) };
            if let Some(manifest) = self.numbered(table, number).await? {
                return Ok(Some(Numbered { number, manifest }));
            }
        }
        Err(Fault::retry(format!("manifests of the table {table} vanish while they are read")))
    }

    /// A manifest by its number; `None` where there is none of it.
    pub(crate) async fn numbered(&self, table: &str, number: u64) -> Result<Option<Manifest>, Fault> {
        let key = key_of(table, number);
        let bytes = self.store.get(&key).await?;
        bytes.map(|bytes| Manifest::read(&self.store.name(&key), table, &bytes)).transpose()
    }

    async fn highest(&self, table: &str, known: Option<u64>) -> Result<Option<u64>, Fault> {
        let folder = manifests_of(table);
        let mut highest = None;
        // From the known one on, so that it is found even where none is newer.
        let mut after = known.and_then(|known| known.checked_sub(1)).map(|before| key_of(table, before));
        loop {
            let page = self.store.list(&folder, after.as_deref()).await?;
            let numbers = page.objects.iter().filter_map(|object| number_of(table, &object.key));
            highest = highest.max(numbers.max());
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(highest),
            }
        }
    }

    /// Changes a table: `decide` is shown the newest manifest and answers the next, or `None` when nothing is to be
    /// changed; it is asked again when somebody else's change came first. Answers what is the newest then.
    pub(crate) async fn change(
        &self,
        table: &str,
        known: Option<u64>,
        decide: impl FnMut(Option<&Manifest>) -> Result<Option<Manifest>, Fault> + Send,
    ) -> Result<Option<Numbered>, Fault> {
        self.change_with(table, known, &[], decide).await
    }

    /// Changes a table so that it lists `objects`, which must be there. Looked at between the newest manifest and the
    /// next: a compaction removes an object only after a manifest of its own has doomed it, so what is there then, and
    /// isn't doomed, stays if our manifest is the next.
    pub(crate) async fn change_with(
        &self,
        table: &str,
        known: Option<u64>,
        objects: &[&str],
        mut decide: impl FnMut(Option<&Manifest>) -> Result<Option<Manifest>, Fault> + Send,
    ) -> Result<Option<Numbered>, Fault> {
        for _ in 0..CONFLICTS_MAX {
            let newest = self.newest(table, known).await?;
            let Some(manifest) = decide(newest.as_ref().map(|newest| &newest.manifest))? else {
                return Ok(newest);
            };
            for object in objects {
                if !self.store.is_there(object).await? {
                    let name = self.store.name(object);
                    return Err(Fault::retry(format!("{name} was removed before it was listed")));
                }
            }
            let number = newest.map_or(1, |newest| newest.number + 1);
            // One of this number may have been, and be removed: of who slept for longer than the grace of readers.
            if self.put(table, number, &manifest).await? == Put::Written
                && self.highest(table, Some(number)).await? == Some(number)
            {
                return Ok(Some(Numbered { number, manifest }));
            }
            tracing::debug!(table, number, "another manifest came first");
        }
        Err(Fault::retry(format!("others change the table {table} of the lake all the time")))
    }

    /// Sees that the store gives a name once: it must refuse to write a manifest again that is there, as it is.
    ///
    /// # Errors
    /// A fault of kind `Config` when it overwrites it: two writers would not be told from each other.
    pub(crate) async fn gives_names_once(&self, there: &Numbered) -> Result<(), Fault> {
        let table = &there.manifest.table;
        match self.put(table, there.number, &there.manifest).await? {
            Put::AlreadyThere => Ok(()),
            Put::Written => Err(Fault::config(format!(
                "the store overwrites {} although it was asked not to: it doesn't know If-None-Match on PUT, so two \
                 writers of a lake could not be told from each other",
                self.store.name(&key_of(table, there.number))
            ))
            .repair("take a store that knows conditional writes: S3, or a current version of what speaks like it")),
        }
    }

    async fn put(&self, table: &str, number: u64, manifest: &Manifest) -> Result<Put, Fault> {
        self.store.put_if_absent(&key_of(table, number), Bytes::from(manifest.text()?)).await
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
