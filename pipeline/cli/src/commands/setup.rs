//! `setup`, `teardown`: what the databases need before the first run, and what must go after the last.

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;
use clap::Args;

/// s
#[derive(Debug, Args)]
pub(super) struct Setup {}
/// t
#[derive(Debug, Args)]
pub(super) struct Teardown {}
impl Setup {
    pub(super) async fn execute(self, _s: &Settings, _o: Output) -> Result<Outcome, Failure> {
        std::future::ready(()).await;
        Ok(Outcome::Done)
    }
}
impl Teardown {
    pub(super) async fn execute(self, _s: &Settings, _o: Output) -> Result<Outcome, Failure> {
        std::future::ready(()).await;
        Ok(Outcome::Done)
    }
}
