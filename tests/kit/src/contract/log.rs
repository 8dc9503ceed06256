//! The contract of a log.
