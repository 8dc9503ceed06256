//! What tests share: doubles in memory, doubles and a network that fail on purpose, and the contract suites that every
//! implementation runs.

pub mod contract;
pub mod faulty_log;
pub mod flagsmith;
pub mod memory_log;
pub mod memory_store;
pub mod oracle;
pub mod proxy;
pub mod registry_double;
pub mod samples;

pub use faulty_log::FaultyLog;
pub use memory_log::{MemoryLimits, MemoryLog};
pub use memory_store::MemoryStore;
pub use proxy::Proxy;
pub use registry_double::{Failure, RegistryDouble};
