//! The two protocols: JSON in, JSON out; nothing here knows HTTP.
//!
//! ```text
//!   X-Amz-Target: DynamoDB_20120810.Scan                 ─▶ Action::Scan           ─▶ tables.rs, batch.rs
//!   X-Amz-Target: DynamoDBStreams_20120810.GetRecords    ─▶ Action::GetRecords     ─▶ streams.rs
//! ```
//!
//! A parameter that the simulator doesn't know is refused, never ignored: a caller that relies on it must hear of it.

mod batch;
mod describe;
pub(crate) mod errors;
mod expression;
mod streams;
mod tables;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::core::{ApiError, Core, ErrorCode, ReadFaults};

macro_rules! actions {
    ($($service:literal { $($action:ident),* $(,)? })*) => {
        /// What can be asked.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(missing_docs)] // Each is the name of an action in the API reference.
        pub enum Action { $($($action),*),* }

        impl Action {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$action),*),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($(Self::$action => stringify!($action)),*),* }
            }

            /// What a request for it names as its target.
            pub(crate) fn target(self) -> &'static str {
                match self { $($(Self::$action => concat!($service, "_20120810.", stringify!($action))),*),* }
            }
        }
    };
}

actions! {
    "DynamoDB" { BatchGetItem, BatchWriteItem, DeleteItem, DescribeTable, GetItem, PutItem, Query, Scan, UpdateTable }
    "DynamoDBStreams" { DescribeStream, GetRecords, GetShardIterator, ListStreams }
}

impl Action {
    /// The action that a request names.
    pub(crate) fn of(target: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.target() == target)
    }

    /// Whether it is one of streams.
    pub(crate) fn is_of_streams(self) -> bool {
        match self {
            Self::DescribeStream | Self::GetRecords | Self::GetShardIterator | Self::ListStreams => true,
            Self::BatchGetItem
            | Self::BatchWriteItem
            | Self::DeleteItem
            | Self::DescribeTable
            | Self::GetItem
            | Self::PutItem
            | Self::Query
            | Self::Scan
            | Self::UpdateTable => false,
        }
    }
}

/// What goes wrong on purpose with one request that is otherwise done.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct WireFaults {
    pub(crate) read: ReadFaults,
    /// So many shards of the page before are said again.
    pub(crate) repeated_shards: usize,
    /// Part of a batch is left undone.
    pub(crate) unprocessed: bool,
}

/// What an action did, for those who count.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) body: String,
    /// Records that were sent, of which shard.
    pub(crate) records: Option<(String, u64)>,
}

/// Does it.
pub(crate) fn answer(
    core: &mut Core,
    action: Action,
    body: &[u8],
    faults: WireFaults,
) -> Result<Done, ApiError> {
    let body = match action {
        Action::GetRecords => return streams::get_records(core, body, faults.read),
        Action::DescribeStream => streams::describe_stream(core, body, faults.repeated_shards)?,
        Action::GetShardIterator => streams::get_shard_iterator(core, body)?,
        Action::ListStreams => streams::list_streams(core, body)?,
        Action::DescribeTable => describe::describe_table(core, body)?,
        Action::PutItem => tables::put_item(core, body)?,
        Action::DeleteItem => tables::delete_item(core, body)?,
        Action::GetItem => tables::get_item(core, body)?,
        Action::Scan => tables::scan(core, body)?,
        Action::UpdateTable => describe::update_table(core, body)?,
        Action::Query => tables::query(core, body)?,
        Action::BatchGetItem => batch::batch_get_item(core, body, faults.unprocessed)?,
        Action::BatchWriteItem => batch::batch_write_item(core, body, faults.unprocessed)?,
    };
    Ok(Done { body, records: None })
}

/// The shard that a request is about.
pub(crate) fn shard_of(core: &Core, action: Action, body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Subject {
        shard_iterator: Option<String>,
        shard_id: Option<String>,
    }
    if !matches!(action, Action::GetRecords | Action::GetShardIterator) {
        return None;
    }
    let subject: Subject = serde_json::from_slice(body).ok()?;
    match subject.shard_iterator {
        Some(iterator) => core.shard_of(&iterator),
        None => subject.shard_id,
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if text.contains("unknown field") {
            ApiError::validation(format!("The simulator doesn't know this parameter: {text}"))
        } else {
            ApiError::new(ErrorCode::Serialization, text)
        }
    })
}

/// JSON text of anything that has it.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Seconds since 1970, to the millisecond.
fn seconds(at_us: i64) -> String {
    format!("{}.{:03}", at_us.div_euclid(1_000_000), at_us.rem_euclid(1_000_000) / 1000)
}
