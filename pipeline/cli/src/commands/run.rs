//! `run`: the instance itself.
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
pub(super) async fn run(settings: Settings) -> Result<Outcome, Failure> {
    let _ = settings.topology()?;
    std::future::ready(()).await;
    Ok(Outcome::Done)
}
