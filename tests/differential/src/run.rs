//! Which cases a test runs: fresh ones each time, or those that a failure named.

use std::ops::Range;
use std::time::Instant;

/// A run.
#[derive(Debug)]
pub struct Run {
    /// What the cases are made from.
    pub seed: u64,
    /// Their numbers.
    pub numbers: Range<u64>,
    /// The operator of all their conditions, if one is named.
    pub operator: Option<String>,
    began: Instant,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not '{text}'")))
}

impl Run {
    /// The run that the environment names: `DIFFERENTIAL_SEED`, `DIFFERENTIAL_FIRST` (the first case),
    /// `DIFFERENTIAL_OPERATOR`, and the number of cases under a name and with a default of the test's own. Says what it
    /// is.
    ///
    /// # Panics
    /// If one isn't a number.
    #[must_use]
    pub fn from_env(cases_name: &'static str, cases: u64) -> Self {
        let first = number("DIFFERENTIAL_FIRST").unwrap_or(0);
        let run = Self {
            seed: number("DIFFERENTIAL_SEED").unwrap_or_else(rand::random),
            numbers: first..first + number(cases_name).unwrap_or(cases),
            operator: std::env::var("DIFFERENTIAL_OPERATOR").ok().filter(|name| !name.is_empty()),
            began: Instant::now(),
        };
        let operator = run.operator.iter().map(|name| format!(" DIFFERENTIAL_OPERATOR={name}"));
        eprintln!(
            "DIFFERENTIAL_SEED={} {cases_name}={}{}",
            run.seed,
            run.cases(),
            operator.collect::<String>()
        );
        run
    }

    /// How many cases it has.
    #[must_use]
    pub fn cases(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// The numbers in pieces of at most `size`.
    pub fn batches(&self, size: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let end = self.numbers.end;
        self.numbers.clone().step_by(size as usize).map(move |start| start..(start + size).min(end))
    }

    /// How many of something it did, and how many a second.
    #[must_use]
    pub fn speed(&self, count: u64, what: &str) -> String {
        format!("{count} {what}, {:.0} a second", count as f64 / self.began.elapsed().as_secs_f64())
    }
}
