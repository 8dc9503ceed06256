//! The log on a real broker.

mod compaction;
mod contract;
mod group;
mod oauth;
mod outages;
mod pieces;
mod refusals;
mod registry;
mod rights;
mod support;
mod writers;
