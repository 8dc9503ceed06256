//! Where log lines go: the error stream, for people on a terminal, as JSON otherwise. `RUST_LOG` chooses.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts logging. A worker says what it does; a command only what worries it.
pub(crate) fn start(worker: bool) {
    // The store under the log tells of each of its files: its worries are enough.
    let usual = if worker { "info,fjall=warn,lsm_tree=warn" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
