//! The log on a real broker.

mod compaction;
mod contract;
mod group;
mod outages;
mod pieces;
mod refusals;
mod rights;
mod support;
mod writers;
