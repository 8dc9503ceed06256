//! What went wrong, said as what to do about it.

use std::error::Error;
use std::fmt;

/// What the runtime does about a fault. Every `match` on it is exhaustive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Passing: try again with a growing, capped pause. Nothing was lost.
    Retry,
    /// One record is bad: it goes to quarantine and the rest goes on.
    BadRecord,
    /// The topology or a right is wrong: stop this task; the message says what to change.
    Config,
    /// Going on would be a guess (a lost slot, a foreign log, a foreign table): stop this task until an operator ran
    /// the repair that the message names.
    Refused,
    /// A newer writer owns this task: this one stops at once and never writes again. The task itself starts anew where it
    /// still belongs to the worker.
    Fenced,
    /// A fault of Rollcall's own.
    Bug,
}

/// A failure that tells its reader what is wrong, where, and what repairs it. Never holds row values or secrets.
#[derive(Debug)]
pub struct Fault {
    /// What the runtime does.
    pub kind: FaultKind,
    /// What is wrong and where.
    pub what: String,
    /// The command or SQL that repairs it.
    pub repair: Option<String>,
    /// What it came from.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault of a kind; see the short forms for the usual ones.
    #[must_use]
    pub fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), repair: None, source: None }
    }
    /// A passing fault.
    #[must_use]
    pub fn retry(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Retry, what)
    }
    /// A wrong setting or right.
    #[must_use]
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Config, what)
    }
    /// A state that must not be guessed about.
    #[must_use]
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Refused, what)
    }
    /// A record that can't be taken.
    #[must_use]
    pub fn bad_record(what: impl Into<String>) -> Self {
        Self::new(FaultKind::BadRecord, what)
    }
    /// A fault of our own.
    #[must_use]
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Bug, what)
    }
    /// Adds the command or SQL that repairs it.
    #[must_use]
    pub fn repair(mut self, how: impl Into<String>) -> Self {
        self.repair = Some(how.into());
        self
    }
    /// Adds what it came from.
    #[must_use]
    pub fn from_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl Fault {
    /// What is wrong and what it came from, without the repair.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.what.clone();
        let mut cause: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        if let Some(repair) = &self.repair {
            write!(f, "\n  repair: {repair}")?;
        }
        Ok(())
    }
}

impl Error for Fault {}
