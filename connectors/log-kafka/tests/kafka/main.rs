//! The log on a real broker.

mod compaction;
mod contract;
mod failover;
mod group;
mod hung;
mod outages;
mod pieces;
mod refusals;
mod registry;
mod retention;
mod secured;
mod support;
