//! first cut
use crate::config::PostgresSourceConfig;
use crate::fold::Committed;
use crate::page::Mark;
use rollcall_model::source::BackfillPlan;
use rollcall_model::{Fault, Position, SourceEvent};
use rollcall_postgres_wire::ConnectConfig;

#[derive(Debug)]
pub(crate) struct Pages;
#[derive(Debug)]
pub(crate) struct Backfill;
impl Pages {
    pub(crate) fn new(_: &PostgresSourceConfig, _: &ConnectConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}
impl Backfill {
    #[allow(clippy::unused_async)]
    pub(crate) async fn start(_: &Pages, _: BackfillPlan) -> Result<Self, Fault> {
        Ok(Self)
    }
    pub(crate) fn retain(&mut self, _: u64, _: &Committed, _: usize) {}
    #[allow(clippy::unused_async)]
    pub(crate) async fn reached(
        &mut self,
        _: &Mark,
        _: Position,
    ) -> Result<Option<(SourceEvent, usize)>, Fault> {
        Ok(None)
    }
    pub(crate) async fn failed(&mut self) -> Fault {
        std::future::pending().await
    }
}
