//! Filled in by its own change.
pub mod topology;
