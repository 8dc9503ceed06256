//! What a sink is: it takes what rosters decided, in order per partition, and `Ok` means durable.

use serde::{Deserialize, Serialize};

use crate::control::CheckScope;
use crate::log::Fut;
use crate::place::{LogId, Partition, Place};
use crate::records::{
    CheckReport, CountRecord, IdentityRecord, MembershipChange, MembershipRecord, WatermarkRecord,
};
use crate::topic::Topic;

/// What a roster passed on, decoded.
#[derive(Clone, PartialEq, Debug)]
pub enum OutRecord {
    /// An image or a tombstone.
    Identity(IdentityRecord),
    /// The current set of one identity (read by rebuilds).
    Membership(MembershipRecord),
    /// Who entered and left.
    MembershipChange(MembershipChange),
    /// An absolute count.
    Count(CountRecord),
    /// How far a source has come in this partition.
    Watermark(WatermarkRecord),
}

/// A record on its way to a sink.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Its place.
    pub place: Place,
    /// The record.
    pub record: OutRecord,
}

/// A record a store would not take; the rest of its batch went in.
#[derive(Clone, PartialEq, Debug)]
pub struct Rejected {
    /// Index in the batch.
    pub index: usize,
    /// Why, in the store's words.
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Written {
    /// Rows the store acknowledged.
    pub rows: u64,
    /// What it would not take.
    pub rejected: Vec<Rejected>,
}

/// What a check wants of a sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Which check.
    pub id: String,
    /// Which partition.
    pub partition: Partition,
    /// How much.
    pub scope: CheckScope,
}

/// A place to keep what rosters decided.
///
/// Contract: a batch holds records of many partitions, in order per topic and partition, perhaps seen before; writing
/// one again changes nothing. Batching, retries and quarantine are the runtime's.
pub trait Sink: Send {
    /// The topics it reads.
    fn reads(&self) -> &'static [Topic];
    /// Checks its tables, makes those that are missing, and refuses when they belong to another log.
    fn prepare<'a>(&'a mut self, log: &'a LogId, partitions: u16) -> Fut<'a, ()>;
    /// Makes a batch durable.
    fn write<'a>(&'a mut self, batch: &'a [Delivery]) -> Fut<'a, Written>;
    /// What it holds of one partition right now; called between writes, so at one cut.
    fn check<'a>(&'a mut self, request: &'a CheckRequest) -> Fut<'a, CheckReport>;
    /// Regular upkeep between writes: compares with what other writers may have changed and repairs it. Says what it
    /// repaired, a line each.
    fn reconcile(&mut self) -> Fut<'_, Vec<String>>;
    /// Empties the sink so that it can be filled from compacted topics again; takes the log's id anew.
    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()>;
    /// Everything that the log held at `reset` has been written: a sink that fills new tables beside the old ones shows
    /// them from here on. Calling it again changes nothing.
    fn rebuilt(&mut self) -> Fut<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
