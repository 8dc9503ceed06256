//! The log on a real broker.

mod contract;
mod rights;
mod support;
