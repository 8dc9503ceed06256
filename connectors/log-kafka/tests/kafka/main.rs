//! The log on a real broker.

mod compaction;
mod contract;
mod outages;
mod pieces;
mod refusals;
mod rights;
mod support;
mod writers;
