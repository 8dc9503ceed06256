//! Contract suites: what every implementation of a trait of the model must do, written once.

pub mod log;
pub mod log_reading;
pub mod log_upkeep;
