//! The whole binary on real servers, doing what operators do and meeting what goes wrong. Each test ends with everything
//! exact: the reference engine, ClickHouse, the platform's count rows and `rollcall verify` agree.
#![allow(clippy::unwrap_used)]

mod commands;
mod contexts;
mod edge;
mod edge_stage;
mod edge_trouble;
mod export;
mod gates;
mod lake;
mod lake_readers;
mod lake_rebuild;
mod misconfigured;
mod moving;
mod oddities;
mod outages;
mod previews;
mod quarantine;
mod rebuilding;
mod replaying;
mod slot;
mod stage;
mod tampering;
mod topics;
mod workers;
