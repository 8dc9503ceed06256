//! All readers' progress in; the time up to which the whole stream is in the log out.

use std::collections::BTreeMap;

use rollcall_model::shards::Stream;
use rollcall_model::{Fault, Shards};

use crate::clients::Clients;
use crate::config::DynamoSourceConfig;
use crate::list::Lister;
use crate::tree::{Listing, all_through_us};

/// How far all readers of a stream have come, together.
///
/// Progress alone can't say: between a shard's end and its child's first word, the log names neither. So it is laid
/// beside a listing: what was written before the listing was made stands in a shard that it names.
#[derive(Debug)]
pub struct StreamReach {
    lister: Lister,
    clients: Clients,
    stream: Stream,
    slack_us: i64,
    listing: Listing,
    listed_us: i64,
}

impl StreamReach {
    /// Lists the stream for the first time.
    ///
    /// # Errors
    /// A [`Fault`] when it can't be listed.
    pub async fn new(config: &DynamoSourceConfig, stream: Stream) -> Result<Self, Fault> {
        let clients = Clients::new(&config.aws).await?;
        let lister = Lister::new(&clients, config, stream.name.clone());
        let slack_us = config.slack_us();
        let mut reach =
            Self { lister, clients, stream, slack_us, listing: Listing::default(), listed_us: i64::MIN };
        reach.list().await?;
        Ok(reach)
    }

    /// Lists the stream again: [`StreamReach::through_us`] goes no further than the last listing.
    ///
    /// # Errors
    /// A [`Fault`] when it can't be listed.
    pub async fn list(&mut self) -> Result<(), Fault> {
        let asked_us = self.clients.clock.now_us();
        let asked_us = if self.clients.clock.offset_us().is_some() { asked_us } else { i64::MIN };
        self.listing = Box::pin(self.lister.list()).await?.listing;
        // Before the first answer the time is not known, only after it.
        self.listed_us = asked_us.saturating_sub(self.slack_us);
        Ok(())
    }

    /// Everything that was written before this, in microseconds by DynamoDB's clock, is in the log; `all` is the progress
    /// of every reader.
    #[must_use]
    pub fn through_us(&self, all: &BTreeMap<u16, Shards>) -> i64 {
        let shards = all_through_us(&self.stream, &self.listing, all, self.slack_us);
        shards.unwrap_or(i64::MAX).min(self.listed_us)
    }

    /// DynamoDB's clock.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.clients.clock.now_us()
    }
}
