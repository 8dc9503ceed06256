//! The log on a real broker.

mod contract;
mod outages;
mod refusals;
mod rights;
mod support;
mod writers;
