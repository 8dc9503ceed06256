//! How a command ends: what it prints on the error stream, and its exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use rollcall_model::{Fault, FaultKind};
use rollcall_runtime::topology::ConfigFault;

/// A difference was found, or a job failed.
const EXIT_FAILED: u8 = 1;
/// Wrong use, as clap says it.
const EXIT_USE: u8 = 2;
/// Wrong configuration (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// How a command that ran to its end ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Done, and all is well.
    Done,
    /// Done, and what it looked at differs.
    Difference,
}

impl Outcome {
    /// The process's exit code.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Difference => ExitCode::from(EXIT_FAILED),
        }
    }
}

/// Why a command could not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The job failed.
    Job {
        /// What is wrong.
        what: String,
        /// What repairs it.
        repair: Option<String>,
    },
    /// The configuration is wrong: one text per fault.
    Config(Vec<String>),
    /// What the command was given can't be used.
    Use(String),
    /// Whoever read our output went away (`rollcall topic tail … | head`): no failure of ours.
    OutputClosed,
}

impl Failure {
    /// A failed job without a known repair.
    pub(crate) fn job(what: impl Into<String>) -> Self {
        Self::Job { what: what.into(), repair: None }
    }

    /// A failed job and what repairs it.
    pub(crate) fn repairable(what: impl Into<String>, repair: impl Into<String>) -> Self {
        Self::Job { what: what.into(), repair: Some(repair.into()) }
    }

    /// The faults of a topology.yaml.
    pub(crate) fn topology(path: &Path, faults: &[ConfigFault]) -> Self {
        Self::Config(faults.iter().map(|fault| format!("{}:{fault}", path.display())).collect())
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (lines, code) = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Job { what, repair: None } => (vec![format!("error: {what}")], EXIT_FAILED),
            Self::Job { what, repair: Some(repair) } => {
                (vec![format!("error: {what}\nrepair: {repair}")], EXIT_FAILED)
            }
            Self::Use(what) => (vec![format!("error: {what}")], EXIT_USE),
            Self::Config(faults) => {
                (faults.into_iter().map(|fault| format!("error: {fault}")).collect(), EXIT_CONFIG)
            }
        };
        let mut stderr = io::stderr().lock();
        for line in lines {
            // Nowhere is left to say that the error stream is closed.
            let _closed = writeln!(stderr, "{line}");
        }
        ExitCode::from(code)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let what = fault.message();
        let Fault { kind, repair, .. } = fault;
        match kind {
            FaultKind::Config => {
                Self::Config(vec![repair.map_or(what.clone(), |repair| format!("{what}\nrepair: {repair}"))])
            }
            FaultKind::Retry
            | FaultKind::BadRecord
            | FaultKind::Refused
            | FaultKind::Fenced
            | FaultKind::Bug => Self::Job { what, repair },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::job(format!("can't write the output: {error}"))
        }
    }
}
