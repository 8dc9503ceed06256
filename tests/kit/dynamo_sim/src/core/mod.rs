//! The simulated world, without I/O: time comes in by [`Core::advance_to`], chance by the seed.
//!
//! ```text
//!   put, delete, expire ─▶ Table ─▶ Written (the history)
//!                            └────▶ the enabled Stream ─▶ the open shard of the key's place ─▶ Record
//!   advance_to ─▶ rolls and splits that are due, each at its time ─▶ trims ─▶ eventually consistent views
//! ```

mod clock;
mod draw;
mod error;
mod iterator;
mod read;
mod sequence;
mod shards;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use rollcall_model::Item;

pub use clock::Clock;
pub(crate) use draw::{draw, falls};
pub use error::{ApiError, ErrorCode};
pub(crate) use read::{RECORDS_MAX, ReadFaults, SHARDS_MAX, StartAt};
pub use sequence::SequenceNumber;
pub(crate) use shards::{Shard, TreeRules};
pub use stream::ViewType;
pub(crate) use stream::{ItemWrite, Stream, civil};
pub use table::IndexKey;
pub(crate) use table::{Page, Stored, Table};

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct CoreSettings {
    pub(crate) seed: u64,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) table: String,
    pub(crate) key_name: String,
    pub(crate) index: IndexKey,
    pub(crate) rules: TreeRules,
    pub(crate) retention_us: i64,
    pub(crate) lag_us: i64,
}

/// A write that was done.
#[derive(Clone, Debug)]
pub struct Written {
    /// The item's key.
    pub key: Arc<str>,
    /// When, in microseconds of virtual time.
    pub at_us: i64,
    /// What the item was.
    pub old: Option<Arc<Item>>,
    /// What it is since.
    pub new: Option<Arc<Item>>,
    /// Its shard and sequence number; `None` while no stream was enabled.
    pub record: Option<(Arc<str>, SequenceNumber)>,
    /// It was removed because its time was over.
    pub expired: bool,
}

/// One table, its streams, and all that was ever written to it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: CoreSettings,
    pub(crate) now_us: i64,
    pub(crate) created_us: i64,
    pub(crate) table: Table,
    pub(crate) streams: Vec<Stream>,
    pub(crate) history: Vec<Written>,
}

impl Core {
    pub(crate) fn new(settings: CoreSettings, now_us: i64) -> Self {
        Self {
            table: Table::new(settings.key_name.clone(), settings.index.clone()),
            settings,
            now_us,
            created_us: now_us,
            streams: Vec::new(),
            history: Vec::new(),
        }
    }

    pub(crate) fn table_arn(&self) -> String {
        let CoreSettings { region, account, table, .. } = &self.settings;
        format!("arn:aws:dynamodb:{region}:{account}:table/{table}")
    }

    /// The time is now `now_us`, or stays where it is later already.
    pub(crate) fn advance_to(&mut self, now_us: i64) {
        self.now_us = self.now_us.max(now_us);
        let before_us = self.now_us.saturating_sub(self.settings.retention_us);
        for stream in &mut self.streams {
            stream.tree.roll_until(self.now_us);
            stream.tree.trim(before_us);
        }
        self.table.settle(self.now_us);
    }

    /// Forgets what streams hold from before a time.
    pub(crate) fn trim(&mut self, before_us: i64) {
        for stream in &mut self.streams {
            stream.tree.trim(before_us);
        }
    }

    /// Begins a new stream; `false` while one is enabled.
    pub(crate) fn enable_stream(&mut self, view: ViewType) -> bool {
        if self.enabled().is_some() {
            return false;
        }
        let nth = self.streams.len() as u64;
        // Two streams of one moment would have one name.
        let newest_us = self.streams.last().map_or(i64::MIN, |stream| stream.created_us);
        let created_us = self.now_us.max(newest_us.saturating_add(1000));
        let seed = draw(self.settings.seed, "stream", nth);
        let mut stream = Stream::new(&self.table_arn(), view, seed, self.settings.rules, created_us);
        stream.tree.roll_until(self.now_us);
        self.streams.push(stream);
        true
    }

    /// Ends the stream: its shards are closed and stay readable for a day. `false` while none is enabled.
    pub(crate) fn disable_stream(&mut self) -> bool {
        let now_us = self.now_us;
        let Some(stream) = self.streams.last_mut().filter(|stream| stream.disabled_us.is_none()) else {
            return false;
        };
        stream.tree.close_all(now_us);
        stream.disabled_us = Some(now_us);
        true
    }

    /// Streams whose records may still be there.
    pub(crate) fn readable_streams(&self) -> impl Iterator<Item = &Stream> {
        let horizon_us = self.now_us.saturating_sub(self.settings.retention_us);
        self.streams.iter().filter(move |stream| stream.disabled_us.is_none_or(|at_us| at_us >= horizon_us))
    }

    /// The stream that writes go to.
    pub(crate) fn enabled(&self) -> Option<&Stream> {
        self.streams.last().filter(|stream| stream.disabled_us.is_none())
    }

    pub(crate) fn enabled_mut(&mut self) -> Option<&mut Stream> {
        self.streams.last_mut().filter(|stream| stream.disabled_us.is_none())
    }

    /// Writes an item; what was there.
    pub(crate) fn put(&mut self, item: Item) -> Result<Option<Arc<Stored>>, ApiError> {
        let key = self.table.key_of(&item)?;
        self.table.check_index_attributes(&item)?;
        let item = value::kept(item)?;
        if value::size(&item) > value::ITEM_BYTES_MAX {
            return Err(ApiError::validation("Item size has exceeded the maximum allowed size"));
        }
        Ok(self.write(&key, Some(item), false))
    }

    /// Writes an item that DynamoDB would refuse for what it holds beside its key.
    pub(crate) fn put_unchecked(&mut self, item: Item) -> Result<(), ApiError> {
        let key = self.table.key_of(&item)?;
        drop(self.write(&key, Some(item), false));
        Ok(())
    }

    /// Removes an item; what was there.
    pub(crate) fn delete(&mut self, key: &str) -> Option<Arc<Stored>> {
        self.write(&Arc::from(key), None, false)
    }

    /// Removes an item as the time-to-live process does.
    pub(crate) fn expire(&mut self, key: &str) -> Option<Arc<Stored>> {
        self.write(&Arc::from(key), None, true)
    }

    fn write(&mut self, key: &Arc<str>, item: Option<Item>, expired: bool) -> Option<Arc<Stored>> {
        let old = self.table.get(key, true).map(Arc::clone);
        if old.as_ref().map(|old| &*old.item) == item.as_ref() {
            // Nothing changes, so nothing is recorded.
            return old;
        }
        let now_us = self.now_us;
        self.table.write(key, item, now_us.saturating_add(self.settings.lag_us));
        self.table.settle(now_us);
        let new = self.table.get(key, true).map(|stored| Arc::clone(&stored.item));
        let write = ItemWrite {
            key_name: &self.settings.key_name,
            key,
            old: old.as_ref().map(|old| &*old.item),
            new: new.as_deref(),
            expired,
        };
        let region = &self.settings.region;
        let stream = self.streams.last_mut().filter(|stream| stream.disabled_us.is_none());
        let record = stream.and_then(|stream| {
            let view = stream.view;
            stream.tree.append(draw::place(key), now_us, |sequence| {
                Stream::render(view, region, write, sequence, now_us)
            })
        });
        self.history.push(Written {
            key: Arc::clone(key),
            at_us: now_us,
            old: old.as_ref().map(|old| Arc::clone(&old.item)),
            new,
            record,
            expired,
        });
        old
    }
}
